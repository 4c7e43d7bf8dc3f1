//! `--etcd-listen`: the store behind etcd's API, for etcd's tools and clients. It goes
//! around the Kubernetes API with all its checks, so it is off by default, and lets in
//! only who has a certificate of an authority of its own.

use crate::cli::ServerArgs;
use crate::{files, mutual, paths};
use anyhow::{Context, Result};
use rustls::ServerConfig;
use skiff_access::pki::{self, CertificateRequest, Usage};
use skiff_etcd::Etcd;
use skiff_store::RaftStore;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

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

fn tls(dir: &Path, address: SocketAddr) -> Result<ServerConfig> {
    // The authority of the face alone: a certificate of the cluster's opens nothing here.
    let ca = mutual::authority(dir, "ca", "skiff-etcd-ca")?;
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
    mutual::server_config(&ca, &serving)
}

impl Face {
    /// Serves until told to stop. `cluster` tells this cluster from others.
    pub async fn serve(self, store: Arc<RaftStore>, cluster: u64, shutdown: CancellationToken) -> Result<()> {
        let url = format!("https://{}", self.address);
        let etcd = Etcd::new(store, cluster, &url);
        let (sender, connections) = mpsc::channel(16);
        tracing::info!(address = %self.address, "etcd's API is served");
        tokio::spawn(mutual::accept(self.listener, self.tls, sender, shutdown.clone()));
        skiff_etcd::serve(etcd, ReceiverStream::new(connections), shutdown.cancelled_owned()).await;
        Ok(())
    }
}
