//! MVCC key-value store, replicated with Raft (openraft) over sled.

pub mod contract;

pub use contract::*;
