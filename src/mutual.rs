//! gRPC listeners that let in only who has a certificate of one authority: etcd's API, and
//! the servers among themselves.

use crate::files;
use anyhow::{Context, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use skiff_access::pki::{Ca, Identity};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// A client that has not shown its certificate by then is let go.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The authority in `<dir>/<name>.crt` and `.key`; made if there is none.
pub fn authority(dir: &Path, name: &str, common_name: &str) -> Result<Ca> {
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let read = |path: &Path| std::fs::read_to_string(path);
    match (read(&certificate), read(&key)) {
        (Ok(certificate), Ok(key)) => {
            Ca::load(&certificate, &key).with_context(|| format!("cannot use the authority in {}", dir.display()))
        }
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => {
            let ca = Ca::create(common_name, jiff::Timestamp::now())?;
            files::write_private(&key, ca.key_pem())?;
            files::write_private(&certificate, ca.certificate_pem())?;
            Ok(ca)
        }
        (Err(error), _) => Err(error).with_context(|| format!("cannot read {}", certificate.display())),
        (_, Err(error)) => Err(error).with_context(|| format!("cannot read {}", key.display())),
    }
}

/// Serves HTTP/2 to clients of this authority, and to nobody else.
pub fn server_config(ca: &Ca, identity: &Identity) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain()?, identity.key()?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

pub type Connections = mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>;

/// Takes connections in, and hands on those whose certificate is good.
pub async fn accept(listener: TcpListener, tls: TlsAcceptor, connections: Connections, shutdown: CancellationToken) {
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
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a client was not let in"),
                Err(_) => tracing::debug!(%peer, "a client did not show a certificate"),
            }
        });
    }
}
