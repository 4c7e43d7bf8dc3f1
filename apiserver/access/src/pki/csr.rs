//! PKCS#10 requests: making one for a new key, and reading what one asks for.

use super::PkiError;
use super::ca::parse;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// A request larger than this is nobody's: real ones are under 2 kB.
const CSR_BYTES_MAX: usize = 64 * 1024;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsrInfo {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

/// A new key and a signed request for it: (key PEM, request PEM).
pub fn new_csr(common_name: &str, organization: &str, names: &[String]) -> Result<(String, String), PkiError> {
    let made = |e: rcgen::Error| PkiError::Issue(e.to_string());
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(made)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if !organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let request = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(made)?;
    Ok((key.serialize_pem(), request))
}

/// From PEM or DER. The request's own signature is verified when it is signed.
pub fn parse_csr(request: &[u8]) -> Result<(Vec<u8>, CsrInfo), PkiError> {
    if request.len() > CSR_BYTES_MAX {
        return Err(PkiError::Request(format!("larger than {CSR_BYTES_MAX} bytes")));
    }
    let der = if request.trim_ascii_start().starts_with(b"-----BEGIN") {
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.trim_ascii_start())
            .map_err(|e| parse("the certificate request", e))?;
        if pem.label != "CERTIFICATE REQUEST" && pem.label != "NEW CERTIFICATE REQUEST" {
            return Err(parse(
                "the certificate request",
                "PEM block type must be CERTIFICATE REQUEST",
            ));
        }
        pem.contents
    } else {
        request.to_vec()
    };
    let info = parse_der(&der)?;
    Ok((der, info))
}

pub fn parse_der(der: &[u8]) -> Result<CsrInfo, PkiError> {
    let (_, csr) = X509CertificationRequest::from_der(der).map_err(|e| parse("the certificate request", e))?;
    let subject = &csr.certification_request_info.subject;
    let text = |value: Result<&str, _>| value.map(str::to_string).map_err(|e| parse("the request's subject", e));
    let mut info = CsrInfo {
        common_name: subject
            .iter_common_name()
            .last()
            .map(|name| text(name.as_str()))
            .transpose()?
            .unwrap_or_default(),
        organizations: subject
            .iter_organization()
            .map(|o| text(o.as_str()))
            .collect::<Result<_, _>>()?,
        ..CsrInfo::default()
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => info.dns_names.push((*name).to_string()),
                GeneralName::RFC822Name(name) => info.emails.push((*name).to_string()),
                GeneralName::URI(name) => info.uris.push((*name).to_string()),
                GeneralName::IPAddress(bytes) => info.ip_addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Ok(info)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
