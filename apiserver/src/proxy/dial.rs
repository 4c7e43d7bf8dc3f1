//! Connections to agents, pods and Services.

use crate::body::ApiBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A backend that does not accept within this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request is passed on to.
pub(super) struct Backend {
    pub host: String,
    pub port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// An agent: failures are the cluster's, not an application's.
    pub is_agent: bool,
}

impl Backend {
    /// A pod or a Service's endpoint; `https` does not verify certificates, as
    /// upstream, because they name no address of the cluster.
    pub fn new(scheme: &str, host: String, port: u16) -> Self {
        Self {
            host,
            port,
            tls: (scheme == "https").then(unverified),
            is_agent: false,
        }
    }

    pub fn agent(host: String, port: u16, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            host,
            port,
            tls: Some(tls),
            is_agent: true,
        }
    }

    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request<ApiBody>) -> Result<Response<Incoming>, String> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port)))
            .await
            .map_err(|_| format!("dial tcp {}: i/o timeout", self.authority()))?
            .map_err(|e| format!("dial tcp {}: {e}", self.authority()))?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return exchange(stream, request).await;
        };
        let name =
            rustls::pki_types::ServerName::try_from(self.host.clone()).map_err(|e| format!("{}: {e}", self.host))?;
        let connector = tokio_rustls::TlsConnector::from(tls.clone());
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream))
            .await
            .map_err(|_| format!("TLS handshake with {}: timeout", self.authority()))?
            .map_err(|e| format!("TLS handshake with {}: {e}", self.authority()))?;
        exchange(stream, request).await
    }
}

async fn exchange<S>(stream: S, request: Request<ApiBody>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // The connection lives as long as its one request or upgrade.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a backend connection ended early");
        }
    });
    sender.send_request(request).await.map_err(|e| e.to_string())
}

/// Accepts any certificate.
fn unverified() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct AnyCertificate(Vec<rustls::SignatureScheme>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.clone()
    }
}
