//! Everything that can go wrong, each with the code the CNI specification gives it.

use crate::ipam::Exhausted;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cniVersion {version:?} is not supported; use one of {supported}")]
    IncompatibleVersion { version: String, supported: String },
    #[error("container {container:?} has no address here; send ADD first")]
    UnknownContainer { container: String },
    #[error("environment variable {name} {problem}")]
    Environment { name: &'static str, problem: String },
    #[error("{action}")]
    Io { action: String, source: std::io::Error },
    #[error("the network configuration is not valid JSON: {0}")]
    Decode(serde_json::Error),
    #[error("network configuration: {0}")]
    Config(String),
    #[error("not ready to add pods: {reason}")]
    NotAvailable { reason: String },
    #[error("{action}")]
    Netlink { action: String, source: std::io::Error },
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error("the attachment is not as it was made: {0}")]
    Mismatch(String),
}

impl Error {
    /// <https://www.cni.dev/docs/spec/#error>; 100 and up are the plugin's own.
    pub fn code(&self) -> u32 {
        match self {
            Error::IncompatibleVersion { .. } => 1,
            Error::UnknownContainer { .. } => 3,
            Error::Environment { .. } => 4,
            Error::Io { .. } => 5,
            Error::Decode(_) => 6,
            Error::Config(_) => 7,
            Error::NotAvailable { .. } => 50,
            Error::Netlink { .. } => 100,
            Error::Exhausted(_) => 101,
            Error::Mismatch(_) => 102,
        }
    }
}
