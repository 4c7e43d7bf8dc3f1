//! The API as seen from outside: TLS with the administrator's certificate.
//! Rates are taken over bare HTTP/1.1 connections, because a full client on the
//! same two cores would mostly measure itself, or over one HTTP/2 stream at a time.

use crate::Cluster;
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PORT: u16 = 6443;
/// A client that reads at once: what Go's takes, so that a list is not paced by window updates.
const WINDOW_BYTES: u32 = 4 << 20;

/// How to reach a cluster's API server.
#[derive(Clone)]
pub struct Endpoint {
    config: kube::Config,
    tls: TlsConnector,
    tls_http2: TlsConnector,
    address: Ipv4Addr,
}

impl Endpoint {
    /// Fails until the server has written its kubeconfig.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        let address = cluster.hosts[0].address();
        let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
        for named in &mut kubeconfig.clusters {
            // There it says 127.0.0.1, which is the host's own.
            let entry = named.cluster.as_mut().context("the kubeconfig names no server")?;
            entry.server = Some(format!("https://{address}:{PORT}"));
        }
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let tls = TlsConnector::from(Arc::new(config.rustls_client_config()?));
        let mut http2 = config.rustls_client_config()?;
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config,
            tls,
            tls_http2: TlsConnector::from(Arc::new(http2)),
            address,
        })
    }

    /// A full client, with a pool of connections of its own.
    pub fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.config.clone())?)
    }

    /// One connection, made.
    pub async fn connect(&self) -> Result<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.open_tls(&self.tls).await?)).await?;
        tokio::spawn(connection);
        Ok(self.connection(Sender::Http1(sender)))
    }

    /// One connection of HTTP/2, made.
    pub async fn connect_http2(&self) -> Result<Connection> {
        let stream = TokioIo::new(self.open_tls(&self.tls_http2).await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(self.connection(Sender::Http2(sender)))
    }

    fn connection(&self, sender: Sender) -> Connection {
        Connection {
            sender,
            host: format!("{}:{PORT}", self.address),
        }
    }

    async fn open_tls(&self, tls: &TlsConnector) -> Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(SocketAddr::from((self.address, PORT))).await?;
        socket.set_nodelay(true)?;
        Ok(tls
            .connect(ServerName::from(std::net::IpAddr::V4(self.address)), socket)
            .await?)
    }
}

/// One request, prepared.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    pub content_type: &'static str,
    pub gzip: bool,
    pub body: Bytes,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            accept: JSON,
            content_type: JSON,
            gzip: false,
            body: Bytes::new(),
        }
    }

    pub fn with_body(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            path: path.into(),
            accept: JSON,
            content_type: JSON,
            gzip: false,
            body: body.into(),
        }
    }

    pub fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    pub fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One request at a time, as HTTP/1.1 has it.
pub struct Connection {
    sender: Sender,
    host: String,
}

impl Connection {
    /// The answer's head, once it is a success.
    pub async fn open(&mut self, call: Call) -> Result<Response<Incoming>> {
        let what = format!("{} {}", call.method, call.path);
        let http2 = matches!(self.sender, Sender::Http2(_));
        let uri = match http2 {
            true => format!("https://{}{}", self.host, call.path),
            false => call.path,
        };
        let mut request = Request::builder()
            .method(call.method)
            .uri(uri)
            .header(header::ACCEPT, call.accept)
            .header(header::CONTENT_TYPE, call.content_type);
        if !http2 {
            request = request.header(header::HOST, &self.host);
        }
        if call.gzip {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        let request = request.body(Full::new(call.body))?;
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        };
        let response = response.with_context(|| what.clone())?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{what}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }

    /// The whole body.
    pub async fn send(&mut self, call: Call) -> Result<Bytes> {
        Ok(self.open(call).await?.into_body().collect().await?.to_bytes())
    }
}
