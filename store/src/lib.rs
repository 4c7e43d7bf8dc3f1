//! MVCC key-value store, replicated with Raft (openraft) over sled.
//!
//! ```text
//! txn ─► raft (proposals in batches) ─► log (fdatasync in groups) ─► mvcc ─► readers, watchers
//!                                                                      └──► state (sled)
//! ```

pub mod contract;
pub mod host;
pub mod mvcc;

pub mod backup;

mod applied;
mod codec;
mod group;
mod hub;
mod lessor;
mod log;
mod machine;
mod memory;
mod once;
mod pairs;
mod peers;
mod raft_store;
mod raft_types;
mod seal;
mod snapshot;
mod state_db;

pub use contract::*;
pub use hub::FEED_EVENTS_MAX;
pub use lessor::TimeToLive;
pub use memory::MemoryStore;
pub use pairs::{Pairs, PairsView};
pub use peers::{Answers, Lane, NoPeers, Peer, PeerService, Transport, Unreachable};
pub use raft_store::{Forced, Leadership, Member, Progress, QUOTA_BYTES, RaftStore, StoreConfig};
pub use seal::Encryption;

#[cfg(test)]
mod conformance_test;
#[cfg(test)]
mod fuzz_test;
