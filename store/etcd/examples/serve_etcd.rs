//! A store alone behind etcd's API, without TLS: for trying etcd's tools on it.
//! `cargo run -p skiff-etcd --example serve_etcd -- DIR 127.0.0.1:2379`

use skiff_etcd::Etcd;
use skiff_store::{RaftStore, StoreConfig};
use tokio_stream::wrappers::TcpListenerStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: serve_etcd DIR ADDRESS:PORT".into());
    };
    let store = RaftStore::open(StoreConfig::new(dir)).await?;
    let etcd = Etcd::new(store.clone(), 1, &format!("http://{address}"));
    let connections = TcpListenerStream::new(tokio::net::TcpListener::bind(&address).await?);
    println!("serving etcd's API at {address}");
    skiff_etcd::serve(etcd, connections, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
    store.shutdown().await;
    Ok(())
}
