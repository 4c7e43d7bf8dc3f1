//! Cluster DNS, answered by every node itself at the cluster DNS address.
//!
//! ```text
//! view --> zones (index) --answer()--> server (UDP, TCP :53) --not ours--> forward --> host's name servers
//!                                                                             \--> cache
//! ```
//!
//! `zones`, `cache` and `resolv` decide; `server` and `forward` do.

mod cache;
mod forward;
mod resolv;
pub mod server;
pub mod zones;
