//! The API as seen from outside: TLS with the administrator's certificate.
//! Rates are taken over bare HTTP/1.1 connections, because a full client on the
//! same two cores would mostly measure itself.

use crate::Cluster;
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PORT: u16 = 6443;

/// How to reach a cluster's API server.
#[derive(Clone)]
pub struct Endpoint {
    config: kube::Config,
    tls: TlsConnector,
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
        Ok(Self { config, tls, address })
    }

    /// A full client, with a pool of connections of its own.
    pub fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.config.clone())?)
    }

    /// One connection, made.
    pub async fn connect(&self) -> Result<Connection> {
        let socket = TcpStream::connect(SocketAddr::from((self.address, PORT))).await?;
        socket.set_nodelay(true)?;
        let stream = self
            .tls
            .connect(ServerName::from(std::net::IpAddr::V4(self.address)), socket)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            host: format!("{}:{PORT}", self.address),
        })
    }
}

/// One request, prepared.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    pub body: Bytes,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            accept: JSON,
            body: Bytes::new(),
        }
    }

    pub fn with_body(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            path: path.into(),
            accept: JSON,
            body: body.into(),
        }
    }

    pub fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }
}

/// One request at a time, as HTTP/1.1 has it.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// The answer's head, once it is a success.
    pub async fn open(&mut self, call: Call) -> Result<Response<Incoming>> {
        let what = format!("{} {}", call.method, call.path);
        let request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, call.accept)
            .header(header::CONTENT_TYPE, JSON)
            .body(Full::new(call.body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await.with_context(|| what.clone())?;
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
