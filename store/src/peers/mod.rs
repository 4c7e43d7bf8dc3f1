//! What servers say to each other: Raft's own messages, and what a follower asks of
//! the leader. Messages are bytes here; a `Transport` carries them, whether over
//! gRPC, or through a simulated network.
//!
//! ```text
//! openraft ──► network ──► Transport ~~~ wire ~~~ PeerService ──► openraft of the other server
//!  store   ──► ask     ──►
//! ```

mod ask;
mod network;
mod service;
pub(crate) mod wire;

pub use service::PeerService;

pub(crate) use ask::ask;
pub(crate) use network::PeerNetwork;

use bytes::Bytes;
use futures::stream::BoxStream;

/// Another server, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: u64,
    pub address: String,
}

/// Streams do not stand in each other's way: each kind has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Log entries.
    Append,
    /// A leader that says it is there: not behind others' bulk.
    Heartbeat,
    Snapshot,
}

/// The other server could not be reached, or gave no proper answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server {peer} at {address}: {why}")]
pub struct Unreachable {
    pub peer: u64,
    pub address: String,
    pub why: String,
}

impl Unreachable {
    pub fn new(peer: &Peer, why: impl ToString) -> Self {
        Unreachable {
            peer: peer.id,
            address: peer.address.clone(),
            why: why.to_string(),
        }
    }
}

/// What comes back on a stream.
pub type Answers = BoxStream<'static, Result<Bytes, Unreachable>>;

/// Carries messages to another server's `PeerService`. Whoever implements it sees to it
/// that none but servers of this cluster reach that service.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// One question, one answer; the caller sets the time limit.
    async fn call(&self, peer: &Peer, question: Bytes) -> Result<Bytes, Unreachable>;

    /// Messages in both directions, in order. A stream ends when its connection does.
    async fn stream(
        &self,
        peer: &Peer,
        lane: Lane,
        messages: BoxStream<'static, Bytes>,
    ) -> Result<Answers, Unreachable>;
}

/// For a store that is alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

#[async_trait::async_trait]
impl Transport for NoPeers {
    async fn call(&self, peer: &Peer, _question: Bytes) -> Result<Bytes, Unreachable> {
        Err(Unreachable::new(peer, "this server was started without peers"))
    }

    async fn stream(
        &self,
        peer: &Peer,
        _lane: Lane,
        _messages: BoxStream<'static, Bytes>,
    ) -> Result<Answers, Unreachable> {
        Err(Unreachable::new(peer, "this server was started without peers"))
    }
}
