//! `--etcd-listen`: the store behind etcd's API, for etcd's tools and clients. It goes
//! around the Kubernetes API with all its checks, so it is off by default, and lets in
//! only who has a certificate of an authority of its own.

use crate::cli::ServerArgs;
use crate::{files, paths};
use anyhow::{Context, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use skiff_access::pki::{self, Ca, CertificateRequest, Usage};
use skiff_etcd::Etcd;
use skiff_store::RaftStore;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A client that has not shown its certificate by then is let go.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The face, listening but not yet serving.
pub struct Face {
    address: SocketAddr,
    listener: TcpListener,
    tls: TlsAcceptor,
}

/// Listens, and sees to the certificates; what is wrong shows before anything starts.
pub fn listen(args: &ServerArgs) -> Result<Option<Face>> {
    let Some(address) = args.etcd_listen else {
        return Ok(None);
    };
    let dir = args.common.data_dir.join(paths::ETCD_TLS);
    files::private_directory(&dir)?;
    let tls = TlsAcceptor::from(Arc::new(tls(&dir, address)?));
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    let listener = bound.with_context(|| format!("cannot listen on {address} (--etcd-listen)"))?;
    Ok(Some(Face { address, listener, tls }))
}

/// The authority of the face alone: a certificate of the cluster's opens nothing here.
fn authority(dir: &Path) -> Result<Ca> {
    let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let read = |path: &Path| std::fs::read_to_string(path);
    match (read(&certificate), read(&key)) {
        (Ok(certificate), Ok(key)) => {
            Ca::load(&certificate, &key).with_context(|| format!("cannot use the authority in {}", dir.display()))
        }
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => {
            let ca = Ca::create("skiff-etcd-ca", jiff::Timestamp::now())?;
            files::write_private(&key, ca.key_pem())?;
            files::write_private(&certificate, ca.certificate_pem())?;
            Ok(ca)
        }
        (Err(error), _) => Err(error).with_context(|| format!("cannot read {}", certificate.display())),
        (_, Err(error)) => Err(error).with_context(|| format!("cannot read {}", key.display())),
    }
}

fn tls(dir: &Path, address: SocketAddr) -> Result<ServerConfig> {
    let ca = authority(dir)?;
    let now = jiff::Timestamp::now();
    let request = |name: &str, usage, names| CertificateRequest {
        common_name: name.into(),
        organization: None,
        names,
        usage,
        lifetime: pki::CERTIFICATE_LIFETIME,
    };
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let listening = match address.ip().is_unspecified() {
        true => crate::address::node_address(),
        false => address.ip(),
    };
    names.extend(crate::address::host_name());
    names.push(listening.to_string());
    names.sort();
    names.dedup();
    let serving = pki::read_or_issue(dir, "server", &ca, &request("skiff-etcd", Usage::Server, names), now)?;
    // For whoever administers this machine.
    pki::read_or_issue(
        dir,
        "client",
        &ca,
        &request("skiff-etcd-client", Usage::Client, Vec::new()),
        now,
    )?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(serving.chain()?, serving.key()?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl Face {
    /// Serves until told to stop. `cluster` tells this cluster from others.
    pub async fn serve(self, store: Arc<RaftStore>, cluster: u64, shutdown: CancellationToken) -> Result<()> {
        let url = format!("https://{}", self.address);
        let routes = Etcd::new(store, cluster, &url).routes();
        let (sender, connections) = mpsc::channel(16);
        tracing::info!(address = %self.address, "etcd's API is served");
        tokio::spawn(accept(self.listener, self.tls, sender, shutdown.clone()));
        let server = tonic::transport::Server::builder().add_routes(routes);
        let served = server.serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown.cancelled_owned());
        served.await.context("serving etcd's API")
    }
}

type Connections = mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>;

async fn accept(listener: TcpListener, tls: TlsAcceptor, connections: Connections, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, say: not at once again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = connections.send(Ok(stream)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a client of etcd's API was not let in"),
                Err(_) => tracing::debug!(%peer, "a client of etcd's API did not show a certificate"),
            }
        });
    }
}
