//! One TLS connection to a webhook's server, for the pool to keep.

use super::trust;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Why there is no connection, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

/// Dials one address, whatever the request's URL says.
#[derive(Clone)]
pub(super) struct Connector {
    host: Arc<str>,
    port: u16,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    pub fn new(host: &str, port: u16, server_name: &str, tls: Arc<ClientConfig>) -> Result<Self, String> {
        let server_name = ServerName::try_from(server_name.to_string())
            .map_err(|_| format!("x509: {server_name:?} is no name that a certificate can have"))?;
        Ok(Self {
            host: host.into(),
            port,
            server_name,
            tls,
        })
    }

    async fn connect(self) -> Result<TokioIo<Stream>, DialError> {
        let stream = TcpStream::connect((&*self.host, self.port))
            .await
            .map_err(|error| DialError(self.dial_error(&error)))?;
        // Reviews are small and waited for.
        let _ = stream.set_nodelay(true);
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let stream = connector
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(|error| DialError(tls_error(&error)))?;
        Ok(TokioIo::new(Stream(stream)))
    }

    fn dial_error(&self, error: &io::Error) -> String {
        let address = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let numeric = self.host.parse::<std::net::IpAddr>().is_ok();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
            io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
            io::ErrorKind::NetworkUnreachable => format!("dial tcp {address}: connect: network is unreachable"),
            io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
            _ if !numeric && error.raw_os_error().is_none() => {
                format!("dial tcp: lookup {}: no such host", self.host)
            }
            _ => format!("dial tcp {address}: {error}"),
        }
    }
}

fn tls_error(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => trust::why(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => error.to_string(),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A TLS stream that tells the pool which HTTP was agreed on.
pub(super) struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let agreed = self.0.get_ref().1.alpn_protocol();
        if agreed == Some(b"h2") {
            Connected::new().negotiated_h2()
        } else {
            Connected::new()
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
