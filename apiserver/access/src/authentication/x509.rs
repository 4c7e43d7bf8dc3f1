//! Client certificates: common name is the user, organizations are the groups.
//! The chain was verified by TLS before this is asked.

use super::{CREDENTIAL_ID, authenticated};
use crate::contract::UserInfo;
use ring::digest;
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user of a certificate, until its last second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateUser {
    pub user: UserInfo,
    pub not_after: i64,
}

/// `None`: not a certificate that names a user.
pub fn user_of(certificate_der: &[u8]) -> Option<UserInfo> {
    parse(
        certificate_der,
        digest::digest(&digest::SHA256, certificate_der).as_ref(),
    )
    .map(|parsed| parsed.user)
}

/// As `user_of`, for callers that know the certificate's SHA-256.
pub fn parse(certificate_der: &[u8], fingerprint: &[u8]) -> Option<CertificateUser> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    let client_auth = certificate
        .extended_key_usage()
        .ok()?
        .is_none_or(|usage| usage.value.client_auth || usage.value.any);
    if !client_auth {
        return None;
    }
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let groups = subject
        .iter_organization()
        .map(|o| o.as_str().map(str::to_string))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let hex: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_string(), vec![format!("X509SHA256={hex}")])]);
    let not_after = certificate.validity().not_after.timestamp();
    Some(CertificateUser {
        user: authenticated(name, "", groups, extra),
        not_after,
    })
}
