//! TLS configurations over ring: serving with optional client certificates,
//! dialling with the cluster's CA, and joining by the CA's hash.

use super::PkiError;
use super::ca::{Identity, spki_sha256, validity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn tls(error: impl std::fmt::Display) -> PkiError {
    PkiError::Tls(error.to_string())
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in super::ca::certificates(ca_pem)? {
        roots.add(certificate).map_err(tls)?;
    }
    Ok(Arc::new(roots))
}

/// The authority that vouches for a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The cluster's CA: the certificate names a user.
    Cluster,
    /// The front-proxy CA: the certificate's owner may name users in headers.
    FrontProxy,
}

/// Tells the authorities of client certificates apart. TLS accepts both, but what a
/// certificate is good for depends on which it was.
pub struct Vouchers {
    cluster: Option<Arc<dyn ClientCertVerifier>>,
    front_proxy: Option<Arc<dyn ClientCertVerifier>>,
}

impl Vouchers {
    /// An empty PEM text is an authority that vouches for nobody.
    pub fn new(client_ca_pem: &str, front_proxy_ca_pem: &str) -> Result<Self, PkiError> {
        let verifier = |pem: &str| -> Result<Option<Arc<dyn ClientCertVerifier>>, PkiError> {
            if pem.is_empty() {
                return Ok(None);
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(pem)?, provider())
                .build()
                .map_err(tls)?;
            Ok(Some(verifier))
        };
        Ok(Self {
            cluster: verifier(client_ca_pem)?,
            front_proxy: verifier(front_proxy_ca_pem)?,
        })
    }

    /// The cluster's CA is asked first: its users are not front proxies by their name alone.
    pub fn of(&self, chain: &[CertificateDer<'_>]) -> Option<Voucher> {
        let (leaf, rest) = chain.split_first()?;
        let vouches = |verifier: &Option<Arc<dyn ClientCertVerifier>>| {
            verifier
                .as_ref()
                .is_some_and(|v| v.verify_client_cert(leaf, rest, UnixTime::now()).is_ok())
        };
        if vouches(&self.cluster) {
            Some(Voucher::Cluster)
        } else {
            vouches(&self.front_proxy).then_some(Voucher::FrontProxy)
        }
    }
}

/// Serves HTTP/2 and HTTP/1.1; asks for a client certificate, which must be the
/// CAs' (of one of them, where the PEM text holds several) if there is one, but there need be none.
pub fn server_config(identity: &Identity, client_ca_pem: &str) -> Result<ServerConfig, PkiError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca_pem)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(tls)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain()?, identity.key()?)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves without asking for client certificates.
pub fn server_config_without_clients(identity: &Identity) -> Result<ServerConfig, PkiError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(identity.chain()?, identity.key()?)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Dials servers of this CA, with a client certificate if there is one. ALPN is
/// left to the HTTP client.
pub fn client_config(ca_pem: &str, identity: Option<&Identity>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots(ca_pem)?);
    match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain()?, identity.key()?)
            .map_err(tls),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Dials whoever answers, whatever certificate it shows: for peers that the
/// user said not to verify.
pub fn client_config_unverified(identity: Option<&Identity>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())));
    match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain()?, identity.key()?)
            .map_err(tls),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Accepts any certificate whose key the peer has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Dials a server whose CA is known by hash only (64 hex digits of SHA-256 over
/// the CA's SubjectPublicKeyInfo): the CA must be in the chain that the server
/// presents, and must have signed the server's certificate. The host name is
/// verified too.
pub fn join_config(ca_spki_sha256: &str) -> Result<ClientConfig, PkiError> {
    let verifier = PinnedCa {
        spki_sha256: ca_spki_sha256.to_ascii_lowercase(),
        provider: provider(),
    };
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
struct PinnedCa {
    spki_sha256: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates
            .iter()
            .find(|certificate| spki_sha256(certificate).is_ok_and(|hash| hash == self.spki_sha256))
            .ok_or_else(|| {
                Error::General(
                    "the server's CA is not the one this token was made for: check the server's address and the token"
                        .into(),
                )
            })?;
        clock_is_right(&[end_entity, pinned], now)?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        rustls::client::verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A joining machine is new: its clock is the likeliest thing to be wrong.
fn clock_is_right(certificates: &[&CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
    for certificate in certificates {
        let (not_before, _) = validity(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if now.as_secs() < u64::try_from(not_before).unwrap_or(0) {
            return Err(Error::General(
                "this machine's clock is before the server's certificate becomes valid: set the clock (timedatectl set-ntp true)"
                    .into(),
            ));
        }
    }
    Ok(())
}
