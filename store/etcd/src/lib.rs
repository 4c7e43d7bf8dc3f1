//! etcd's v3 gRPC API in front of the store, so that etcd's own tools and clients can
//! read, watch, measure and back it up.
//!
//! `request` and `response` translate, and are pure · `error` has etcd's codes and texts ·
//! `kv`, `watch`, `lease`, `maintenance`, `cluster`, `auth` are the services · `transport` carries
//! connections to them. Who may connect is the listener's business.

mod auth;
mod cluster;
mod error;
mod kv;
mod lease;
mod maintenance;
mod request;
mod response;
mod transport;
mod watch;

pub use transport::serve;

use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::RaftStore;
use std::sync::Arc;

/// The release of etcd whose behaviour is followed; clients look at it to know what they may ask.
pub const ETCD_VERSION: &str = "3.6.4";

/// etcd's own limit of a request, with room for the envelope.
const REQUEST_MAX: usize = 8 << 20;

/// One server's face.
#[derive(Clone)]
pub struct Etcd {
    store: Arc<RaftStore>,
    /// Tells clusters apart.
    cluster: u64,
    /// Where clients reach this server, as members are listed with it.
    client_url: Arc<str>,
}

impl Etcd {
    pub fn new(store: Arc<RaftStore>, cluster: u64, client_url: &str) -> Self {
        Etcd {
            store,
            cluster,
            client_url: client_url.into(),
        }
    }

    /// What every answer begins with.
    fn header(&self, revision: u64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.cluster,
            member_id: self.store.id(),
            revision: revision as i64,
            raft_term: self.store.progress().term,
        })
    }

    /// Of answers that are about the servers, not about what is stored.
    fn member_header(&self) -> Option<pb::ResponseHeader> {
        self.header(0)
    }
}
