//! MVCC key-value store, replicated with Raft (openraft) over sled.
//!
//! ```text
//! txn ─► raft (proposals in batches) ─► log (fdatasync in groups) ─► mvcc ─► readers, watchers
//!                                                                      └──► state (sled)
//! ```

pub mod contract;
pub mod mvcc;

mod applied;
mod hub;
mod memory;

pub use contract::*;
pub use hub::FEED_EVENTS_MAX;
pub use memory::MemoryStore;
