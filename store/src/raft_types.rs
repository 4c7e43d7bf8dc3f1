//! openraft's types as this store fills them in: the only place that chooses them.

use crate::contract::{Lease, LeaseId, Refused, Revision, Txn, TxnResult};
use std::fmt;
use std::sync::Arc;

/// What a log entry asks the state machine to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Txn(Arc<Txn>),
    /// Forget history before this revision.
    Compact(Revision),
    Grant(Lease),
    /// Ends a lease and deletes its keys.
    Revoke(LeaseId),
    /// Raises or takes back a server's alarm that the quota is used up.
    Alarm {
        server: u64,
        on: bool,
    },
    /// Does the command unless it was done before.
    Once(Tag, Box<Command>),
    /// Several that came together, in their order; each for itself.
    Batch(Vec<Command>),
}

impl Command {
    /// Is it, or all of it, done once however often it is sent?
    pub fn is_numbered(&self) -> bool {
        match self {
            Command::Once(..) => true,
            Command::Batch(commands) => commands.iter().all(Command::is_numbered),
            _ => false,
        }
    }
}

/// Tells a request from all others, also when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The server that a client asked, and which of its starts that was.
    pub origin: u64,
    pub boot: u64,
    pub number: u64,
    /// The server waits for no request with a smaller number.
    pub settled: u64,
}

impl Command {
    /// About what it takes in the log.
    pub fn bytes(&self) -> usize {
        let own = match self {
            Command::Txn(txn) => crate::mvcc::txn_bytes(txn),
            Command::Once(_, command) => command.bytes(),
            Command::Batch(commands) => commands.iter().map(Command::bytes).sum(),
            _ => 0,
        };
        own + 64
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Txn(txn) => write!(f, "txn of {} operations", txn.then.len() + txn.or_else.len()),
            Command::Compact(revision) => write!(f, "compact to {revision}"),
            Command::Grant(lease) => write!(f, "grant lease {} for {} s", lease.id, lease.ttl_s),
            Command::Revoke(id) => write!(f, "revoke lease {id}"),
            Command::Alarm { server, on } => write!(f, "alarm of server {server}: {on}"),
            Command::Once(tag, command) => write!(f, "request {} of server {}: {command}", tag.number, tag.origin),
            Command::Batch(commands) => write!(f, "{} commands", commands.len()),
        }
    }
}

/// What the state machine answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Response {
    #[default]
    Done,
    Txn(TxnResult),
    Refused(Refused),
    /// It was done before; whoever asked was or is answered otherwise.
    Duplicate,
    /// To each of a batch.
    Batch(Vec<Response>),
}

openraft::declare_raft_types!(
    /// The store's Raft.
    pub Types:
        D = Command,
        R = Response,
        NodeId = u64,
        Node = openraft::BasicNode,
        AsyncRuntime = crate::host::Runtime,
);

pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub type LogId = openraft::LogId<LeaderId>;
pub type Vote = openraft::Vote<LeaderId>;
pub type Payload = openraft::EntryPayload<Command, u64, openraft::BasicNode>;
pub type RaftEntry = openraft::Entry<LeaderId, Payload>;
pub type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, openraft::BasicNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, openraft::BasicNode>;
