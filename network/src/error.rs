//! What can go wrong in the dataplane.

use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network configuration: {0}")]
    Config(String),
    #[error("run {program}; install it or put it on PATH")]
    Program {
        program: &'static str,
        source: std::io::Error,
    },
    #[error("nft refused the ruleset: {message}")]
    Ruleset { message: String },
    #[error("{action}")]
    Netlink { action: String, source: rtnetlink::Error },
    #[error("open a route socket")]
    Socket(#[source] std::io::Error),
    #[error("answer DNS at {address}:53; is another DNS server bound to all addresses?")]
    Dns { address: IpAddr, source: std::io::Error },
    #[error("{action} {path}", path = .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}
