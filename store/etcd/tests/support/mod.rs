//! A server of etcd's API on a port of its own, and requests in few words.

use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Asked;
use skiff_etcd::Etcd;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{RaftStore, StoreConfig};
use std::sync::Arc;
use tonic::transport::Channel;

pub struct Server {
    #[allow(dead_code, reason = "not each test looks at it")]
    pub store: Arc<RaftStore>,
    pub channel: Channel,
    _dir: tempfile::TempDir,
}

pub async fn serve() -> Server {
    let dir = tempfile::tempdir().expect("directory");
    let store = RaftStore::open(StoreConfig::new(dir.path())).await.expect("opened");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let etcd = Etcd::new(store.clone(), 7, &url);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(skiff_etcd::serve(etcd, incoming, std::future::pending()));
    let channel = Channel::from_shared(url)
        .expect("address")
        .connect()
        .await
        .expect("connected");
    Server {
        store,
        channel,
        _dir: dir,
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..Default::default()
    }
}

pub fn op(request: Asked) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

pub fn mod_revision_is(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: bytes(key),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}
