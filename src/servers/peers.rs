//! The connections among servers: who dials, and who listens. A server that is alone does
//! neither; the port is opened when another is about to join.

use super::keys;
use crate::mutual;
use anyhow::{Context, Result};
use futures::FutureExt;
use rustls_pki_types::ServerName;
use skiff_access::pki;
use skiff_peer::{Dial, Grpc, Io};
use skiff_store::{PeerService, RaftStore};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OnceCell, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// What goes over the wire, for both sides to agree on.
const PROTOCOL: &[u8] = b"h2";

pub struct Peers {
    data_dir: PathBuf,
    listen: SocketAddr,
    /// Others are listened to until the store is closed: handing over needs them.
    closed: CancellationToken,
    listening: Mutex<bool>,
}

/// Carries what the store says to other servers.
pub fn transport(data_dir: &Path) -> Arc<Grpc> {
    let (data_dir, connector) = (data_dir.to_path_buf(), Arc::new(OnceCell::new()));
    let dial: Dial = Arc::new(move |address| {
        let (data_dir, connector) = (data_dir.clone(), connector.clone());
        let dialled = async move {
            let connector: &TlsConnector = connector.get_or_try_init(async || connect_config(&data_dir)).await?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(keys::PEER_NAME).map_err(io::Error::other)?;
            let stream = connector.connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        };
        dialled.boxed()
    });
    Arc::new(Grpc::new(dial))
}

fn connect_config(data_dir: &Path) -> io::Result<TlsConnector> {
    let (ca, identity) = keys::peer_identity(data_dir).map_err(io::Error::other)?;
    let config = pki::client_config(ca.certificate_pem(), Some(&identity));
    let mut config = config.map_err(io::Error::other)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Peers {
    pub fn new(data_dir: &Path, listen: SocketAddr, closed: CancellationToken) -> Self {
        Peers {
            data_dir: data_dir.to_path_buf(),
            listen,
            closed,
            listening: Mutex::new(false),
        }
    }

    /// Opens the port for other servers, unless it is open.
    pub async fn listen(&self, store: &Arc<RaftStore>) -> Result<()> {
        let mut listening = self.listening.lock().await;
        if *listening {
            return Ok(());
        }
        let (ca, identity) = keys::peer_identity(&self.data_dir)?;
        let tls = TlsAcceptor::from(Arc::new(mutual::server_config(&ca, &identity)?));
        let address = self.listen;
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address} for the other servers: stop what uses the port (ss -ltnp 'sport = :{}'), or choose another with --peer-port",
                address.port()
            )
        })?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(mutual::accept(listener, tls, sender, self.closed.clone()));
        let server = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(skiff_peer::service(PeerService::new(store.clone())));
        let stop = self.closed.clone().cancelled_owned();
        tokio::spawn(async move {
            let served = server.serve_with_incoming_shutdown(ReceiverStream::new(connections), stop);
            if let Err(error) = served.await {
                tracing::error!(%error, "the other servers are not served any more");
            }
        });
        tracing::info!(%address, "listening for the other servers");
        *listening = true;
        Ok(())
    }
}
