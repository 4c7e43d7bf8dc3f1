//! One server: the store behind etcd's API, without TLS, as `skiff server --etcd-listen`
//! has it. Told over its input what else to do.

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use skiff_etcd::Etcd;
use skiff_peer::{Grpc, Io};
use skiff_store::{PeerService, RaftStore, StoreConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;

fn grpc() -> Arc<Grpc> {
    Arc::new(Grpc::new(Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })))
}

/// `serve DIR ID CLIENTS PEERS [join]`: two addresses.
pub async fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut next = |what| arguments.next().with_context(|| format!("{what} is missing"));
    let dir = next("the directory")?;
    let id: u64 = next("the number")?.parse()?;
    let clients: SocketAddr = next("the clients' address")?.parse()?;
    let peers: SocketAddr = next("the peers' address")?.parse()?;
    let config = StoreConfig {
        node_id: id,
        address: peers.to_string(),
        join: arguments.next().is_some_and(|a| a == "join"),
        transport: grpc(),
        ..StoreConfig::new(dir)
    };
    let store = RaftStore::open(config).await?;
    let service = skiff_peer::service(PeerService::new(store.clone()));
    let serving = tonic::transport::Server::builder().add_service(service).serve(peers);
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            eprintln!("the peers' listener ended: {error}");
        }
    });
    let etcd = Etcd::new(store.clone(), 1, &format!("http://{clients}"));
    let listener = TcpListener::bind(clients).await?;
    let connections = TcpListenerStream::new(listener).inspect_ok(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::select! {
        () = skiff_etcd::serve(etcd, connections, std::future::pending()) => Ok(()),
        told = obey(store.clone()) => { store.shutdown().await; told }
    }
}

/// `stats`, `add ID ADDRESS`; the end of the input is the end.
async fn obey(store: Arc<RaftStore>) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["stats"] => println!("syncs {}", store.progress().log_syncs),
            ["add", id, address] => match store.add_member(id.parse()?, address).await {
                Ok(()) => println!("added"),
                Err(error) => println!("failed {error}"),
            },
            _ => bail!("{line:?} is not understood"),
        }
    }
    Ok(())
}
