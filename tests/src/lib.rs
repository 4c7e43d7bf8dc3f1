//! Machines for tests: each test host is a set of namespaces (network, mount,
//! PID, UTS, cgroup) on this machine, joined by links that can be cut. What
//! runs there is the real thing: containerd, runc, nftables.

pub mod bench;
pub mod cluster;
pub mod host;
pub mod init;
pub mod network;
pub mod node;
pub mod registry;

pub use cluster::{Cluster, Programs, until};
pub use host::Host;
pub use network::Network;
