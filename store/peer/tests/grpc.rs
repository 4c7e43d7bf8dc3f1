//! Three stores over real connections: writes, a snapshot, a server that dies and one
//! that is silent.

use skiff_peer::{Grpc, Io, service};
use skiff_store::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct Server {
    store: Arc<RaftStore>,
    listener: JoinHandle<()>,
}

fn grpc() -> Arc<Grpc> {
    Arc::new(Grpc::new(Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })))
}

async fn start(dir: &Path, id: u64, address: Option<SocketAddr>) -> Server {
    let at = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = TcpListener::bind(at).await.expect("bound");
    let config = StoreConfig {
        node_id: id,
        address: listener.local_addr().expect("address").to_string(),
        join: id > 1,
        transport: grpc(),
        ..StoreConfig::new(dir.join(id.to_string()))
    };
    let store = RaftStore::open(config).await.expect("opened");
    let peers = service(PeerService::new(store.clone()));
    let listener = tokio::spawn(async move {
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let served = tonic::transport::Server::builder().add_service(peers);
        served.serve_with_incoming(incoming).await.expect("served");
    });
    Server { store, listener }
}

fn put(key: &str, bytes: usize) -> Txn {
    let record = Record {
        body: vec![b'x'; bytes].into(),
        ..Record::default()
    };
    Txn {
        then: vec![Op::Put {
            key: key.to_owned().into(),
            record,
        }],
        ..Txn::default()
    }
}

async fn address_of(store: &RaftStore, id: u64) -> String {
    let members = store.members();
    members.into_iter().find(|m| m.id == id).expect("member").address
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_over_grpc() {
    let dir = tempfile::tempdir().expect("directory");
    let mut servers = BTreeMap::from([(1, start(dir.path(), 1, None).await)]);
    for id in 2..=3 {
        let server = start(dir.path(), id, None).await;
        let address = server.store.address().to_owned();
        servers[&1].store.add_member(id, &address).await.expect("joined");
        servers.insert(id, server);
    }
    // Each takes writes, small ones and large ones, many at once.
    for (id, server) in &servers {
        let writes = (0..50).map(|n| {
            let (store, key) = (server.store.clone(), format!("/{id}/{n}"));
            async move { store.txn(put(&key, if n % 10 == 0 { 1 << 20 } else { 100 })).await }
        });
        for result in futures::future::join_all(writes).await {
            result.expect("written");
        }
    }
    for server in servers.values() {
        let read = server.store.snapshot_linearizable().await.expect("read");
        assert_eq!(read.count(b"/"), 150);
    }
    // The leader dies with its connections; the others go on, and it comes back.
    let old = servers[&1].store.leader().expect("a leader");
    let address: SocketAddr = address_of(&servers[&1].store, old).await.parse().expect("address");
    let dead = servers.remove(&old).expect("it runs");
    dead.listener.abort();
    dead.store.shutdown().await;
    drop(dead);
    let other = servers.values().next().expect("another").store.clone();
    other.txn(put("/after", 10)).await.expect("two of three are a majority");
    let back = start(dir.path(), old, Some(address)).await;
    until("it caught up", async || back.store.snapshot().get(b"/after").is_some()).await;
    back.store.txn(put("/back", 10)).await.expect("it takes writes again");
    back.store.shutdown().await;
}
