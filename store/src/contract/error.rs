//! What can go wrong.

use super::data::{LeaseId, Revision};

/// Why a command that reached every server changed nothing on any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the key is not there")]
    KeyNotFound,
    #[error("lease {0} is not there")]
    LeaseNotFound(LeaseId),
    #[error("lease {0} is there already")]
    LeaseExists(LeaseId),
    /// There is an alarm: the quota is used up.
    #[error("the store's quota is used up")]
    NoSpace,
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is ahead of the store's {current}")]
    FutureRevision { asked: Revision, current: Revision },
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is ahead of this server's {current}")]
    FutureRevision { asked: Revision, current: Revision },
    #[error("the transaction was refused: {0}")]
    Refused(Refused),
    #[error("the store has no leader that answers")]
    NoLeader,
    #[error("the servers cannot be asked now: {0}")]
    Unavailable(String),
    /// It may have been done, or may yet be; a reader sees which.
    #[error("the servers did not answer in time: whether the change was made is not known")]
    Unknown,
    #[error("the store stopped accepting writes: {0}")]
    ReadOnly(String),
    /// In etcd's words, which API servers pass on and people look for.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("the request is too large: {bytes} bytes, at most {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("the store is shutting down")]
    Closed,
    #[error("{action} failed")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is corrupt at offset {offset}: {why}")]
    Corrupt { file: String, offset: u64, why: String },
    #[error("{0}")]
    Internal(String),
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Compacted { asked, oldest } => StoreError::Compacted { asked, oldest },
            Refused::FutureRevision { asked, current } => StoreError::FutureRevision { asked, current },
            Refused::NoSpace => StoreError::NoSpace,
            other => StoreError::Refused(other),
        }
    }
}
