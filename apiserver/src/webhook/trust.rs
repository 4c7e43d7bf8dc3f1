//! Whom a webhook's server must be certified by. As Kubernetes' client, a
//! certificate that is in the bundle itself is trusted too, whether or not it
//! may sign others: many webhooks are given one self-signed certificate as both.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};

/// A client without a certificate of its own that speaks HTTP/2 and HTTP/1.1.
pub(super) fn client_config(ca_bundle: Option<&[u8]>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let (roots, bundled) = match ca_bundle {
        None => (system_roots(), Vec::new()),
        Some(pem) => {
            let bundled = certificates(pem)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(bundled.iter().cloned());
            (Arc::new(roots), bundled)
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    // Without a root there is no verifier to build: then only what is bundled is trusted.
    let chain = if roots.is_empty() {
        None
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        Some(verifier.map_err(|error| error.to_string())?)
    };
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Bundle {
            chain,
            bundled,
            provider,
        }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err("unable to load root certificates: unable to parse bytes as PEM block".into()),
    }
}

/// The operating system's, read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}

#[derive(Debug)]
struct Bundle {
    chain: Option<Arc<WebPkiServerVerifier>>,
    bundled: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Bundle {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.bundled.iter().any(|c| c.as_ref() == end_entity.as_ref()) {
            in_time(end_entity, now)?;
            let leaf = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&leaf, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// A failed handshake in Go's words.
pub(super) fn why(error: &Error) -> String {
    let certificate = |text: &str| format!("tls: failed to verify certificate: x509: {text}");
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            certificate("certificate signed by unknown authority")
        }
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => certificate("certificate has expired or is not yet valid"),
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
            certificate(&format!(
                "certificate is valid for {}, not {}",
                names.join(", "),
                expected.to_str()
            ))
        }
        other => format!("tls: {other}"),
    }
}

/// `DnsName("a.b")` as `a.b`.
fn plain_name(shown: &str) -> String {
    match (shown.find('"'), shown.rfind('"')) {
        (Some(start), Some(end)) if end > start => shown[start + 1..end].to_string(),
        _ => shown.to_string(),
    }
}
