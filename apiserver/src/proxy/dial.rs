//! Connections to agents, pods and Services.

use crate::body::ApiBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

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
        let stream = connect(&self.host, self.port).await?;
        let Some(tls) = &self.tls else {
            return exchange(stream, request).await;
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|e| format!("{}: {e}", self.host))?;
        exchange(secure(stream, tls, name, &self.authority()).await?, request).await
    }
}

/// A connection to a host and port, in time.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .map_err(|_| format!("dial tcp {host}:{port}: i/o timeout"))?
        .map_err(|e| format!("dial tcp {host}:{port}: {}", connect_error(&e)))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// In the words that Go's clients look for.
fn connect_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "connect: connection timed out".into(),
        _ => error.to_string(),
    }
}

/// TLS over it, in time; `peer` is named in errors.
pub(crate) async fn secure(
    stream: TcpStream,
    tls: &Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    peer: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let connector = tokio_rustls::TlsConnector::from(tls.clone());
    tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream))
        .await
        .map_err(|_| format!("TLS handshake with {peer}: timeout"))?
        .map_err(|e| format!("TLS handshake with {peer}: {e}"))
}

/// One request over HTTP/1.1 on a connection of its own, which may be upgraded.
pub(crate) async fn exchange<S>(stream: S, request: Request<ApiBody>) -> Result<Response<Incoming>, String>
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
    static CONFIG: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
        Arc::new(
            skiff_access::pki::client_config_unverified(None).expect("ring supports the default protocol versions"),
        )
    });
    CONFIG.clone()
}
