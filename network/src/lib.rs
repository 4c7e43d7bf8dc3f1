//! The node's network: service proxy, overlay routes, hostPort, DNS.

pub mod view;

pub use view::{ClusterView, Key};
