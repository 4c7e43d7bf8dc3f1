//! The authority and what it issues. Pure but for the randomness of new keys.

use super::PkiError;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use ring::digest;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 3600);
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// New certificates are valid from a little before now: clocks differ.
const BACKDATE: Duration = Duration::from_secs(300);

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    /// Both: a node's streaming endpoint, Raft peers.
    Peer,
}

/// What to issue.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    pub common_name: String,
    pub organization: Option<String>,
    /// DNS names and addresses in text form.
    pub names: Vec<String>,
    pub usage: Usage,
    pub lifetime: Duration,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first; servers send the CA after it, so that a joiner can find it.
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        certificates(&self.certificate_pem)
    }

    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| parse("a private key", e))
    }
}

/// A certificate authority.
pub struct Ca {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = params(common_name, &[], now, CA_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key).map_err(issue)?;
        Self::load(&certificate.pem(), &key.serialize_pem())
    }

    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = certificates(certificate_pem)?.swap_remove(0);
        let key = KeyPair::from_pem(key_pem).map_err(|e| parse("the CA's private key", e))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|e| parse("the CA's certificate", e))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(PkiError::KeyMismatch {
                certificate: "the CA's certificate".into(),
                key: "the CA's key".into(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| parse("the CA's certificate", e))?;
        let (certificate_pem, key_pem) = (certificate_pem.to_string(), key_pem.to_string());
        Ok(Self {
            certificate,
            certificate_pem,
            key_pem,
            issuer,
        })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// SHA-256 of the CA's SubjectPublicKeyInfo, 64 hex digits: the CA's part of a join token.
    pub fn spki_sha256(&self) -> Result<String, PkiError> {
        spki_sha256(&self.certificate)
    }

    /// A new key and its certificate. Servers get the CA's certificate behind their own.
    pub fn issue(&self, request: &CertificateRequest, now: Timestamp) -> Result<Identity, PkiError> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = params(
            &request.common_name,
            &request.names,
            now,
            self.bounded(now, request.lifetime)?,
        )?;
        if let Some(organization) = &request.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        let mut certificate_pem = certificate.pem();
        if request.usage != Usage::Client {
            certificate_pem.push_str(&self.certificate_pem);
        }
        Ok(Identity {
            certificate_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// Signs a PKCS#10 request (DER) as the CSR asks, with `usages` as in
    /// CertificateSigningRequest's spec. Whether it may be signed was decided before.
    /// Answers PEM.
    pub fn sign_csr(
        &self,
        csr_der: &[u8],
        usages: &[String],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let mut csr =
            CertificateSigningRequestParams::from_der(&csr_der.into()).map_err(|e| PkiError::Request(e.to_string()))?;
        keep_organizations(csr_der, &mut csr.params.distinguished_name)?;
        csr.params.is_ca = IsCa::ExplicitNoCa;
        csr.params.key_usages.clear();
        csr.params.extended_key_usages.clear();
        for usage in usages {
            add_usage(usage, &mut csr.params)?;
        }
        set_validity(&mut csr.params, now, self.bounded(now, ttl)?);
        csr.params.serial_number = Some(serial_number());
        csr.params.use_authority_key_identifier_extension = true;
        csr.signed_by(&self.issuer)
            .map(|certificate| certificate.pem())
            .map_err(issue)
    }

    /// Nothing outlives its issuer.
    fn bounded(&self, now: Timestamp, lifetime: Duration) -> Result<Duration, PkiError> {
        let left = validity(&self.certificate)?.1.saturating_sub(now.as_second());
        Ok(lifetime.min(Duration::from_secs(u64::try_from(left).unwrap_or(0))))
    }
}

fn params(
    common_name: &str,
    names: &[String],
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(
                name.as_str()
                    .try_into()
                    .map_err(|e| PkiError::Issue(format!("the name {name:?}: {e}")))?,
            ),
        });
    }
    set_validity(&mut params, now, lifetime);
    params.serial_number = Some(serial_number());
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let start = now.as_second().saturating_sub(seconds(BACKDATE));
    let end = now.as_second().saturating_add(seconds(lifetime));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(start);
    params.not_after = epoch + since_epoch(end);
}

/// Cut to what a certificate can express.
fn since_epoch(second: i64) -> Duration {
    const YEAR_9999: u64 = 253_402_300_799;
    Duration::from_secs(u64::try_from(second).unwrap_or(0).min(YEAR_9999))
}

/// 127 random bits: unique, and positive as RFC 5280 §4.1.2.2 demands.
fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// rcgen keeps one value per attribute of a name; groups are several organizations.
fn keep_organizations(csr_der: &[u8], name: &mut DistinguishedName) -> Result<(), PkiError> {
    let organizations = super::csr::parse_der(csr_der)?.organizations;
    match organizations.as_slice() {
        [] | [_] => {}
        [first, second] => {
            name.push(DnType::OrganizationName, first.as_str());
            // The same attribute under its number counts as another one.
            name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), second.as_str());
        }
        _ => {
            return Err(PkiError::Request(
                "more than two organizations in the subject are not supported".into(),
            ));
        }
    }
    Ok(())
}

fn add_usage(usage: &str, params: &mut CertificateParams) -> Result<(), PkiError> {
    let key_usage = match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        other => {
            let extended = match other {
                "any" => ExtendedKeyUsagePurpose::Any,
                "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
                "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
                "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
                "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
                "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
                "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
                _ => return Err(PkiError::Request(format!("usage {other:?} cannot be granted"))),
            };
            if !params.extended_key_usages.contains(&extended) {
                params.extended_key_usages.push(extended);
            }
            return Ok(());
        }
    };
    if !params.key_usages.contains(&key_usage) {
        params.key_usages.push(key_usage);
    }
    Ok(())
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, in hex.
pub fn spki_sha256(certificate: &[u8]) -> Result<String, PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| parse("a certificate", e))?;
    let hash = digest::digest(&digest::SHA256, parsed.public_key().raw);
    Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The common name of a certificate's subject; empty if it has none.
pub fn common_name(certificate: &[u8]) -> Result<String, PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| parse("a certificate", e))?;
    let name = parsed
        .subject()
        .iter_common_name()
        .last()
        .and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_string())
}

/// First and last second of a certificate's validity.
pub fn validity(certificate: &[u8]) -> Result<(i64, i64), PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| parse("a certificate", e))?;
    Ok((
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    ))
}

/// What to do with a certificate found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Good,
    /// Less than a third of its life is left.
    Renew,
    NotYetValid,
}

pub fn freshness(not_before: i64, not_after: i64, now: i64) -> Freshness {
    if now < not_before {
        return Freshness::NotYetValid;
    }
    let life = not_after.saturating_sub(not_before);
    let left = not_after.saturating_sub(now);
    if left < life / 3 || left < i64::try_from(DAY.as_secs()).unwrap_or(0) {
        Freshness::Renew
    } else {
        Freshness::Good
    }
}

/// All certificates of a PEM text; at least one.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| parse("a certificate", e))?;
    if found.is_empty() {
        Err(parse("a certificate", "no CERTIFICATE block in the PEM text"))
    } else {
        Ok(found)
    }
}

pub fn parse(what: &str, why: impl std::fmt::Display) -> PkiError {
    PkiError::Parse {
        what: what.into(),
        why: why.to_string(),
    }
}

fn issue(error: rcgen::Error) -> PkiError {
    PkiError::Issue(error.to_string())
}
