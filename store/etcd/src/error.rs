//! etcd's error codes and texts: clients tell errors apart by them. Pure.

use skiff_store::{Refused, StoreError};
use tonic::{Code, Status};

/// An error by etcd's text.
pub fn etcd(code: Code, text: &str) -> Status {
    Status::new(code, format!("etcdserver: {text}"))
}

pub fn empty_key() -> Status {
    etcd(Code::InvalidArgument, "key is not provided")
}

pub fn compacted() -> Status {
    etcd(Code::OutOfRange, "mvcc: required revision has been compacted")
}

pub fn future_revision() -> Status {
    etcd(Code::OutOfRange, "mvcc: required revision is a future revision")
}

pub fn of(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => compacted(),
        StoreError::FutureRevision { .. } => future_revision(),
        StoreError::Refused(Refused::KeyNotFound) => etcd(Code::InvalidArgument, "key not found"),
        StoreError::Refused(Refused::LeaseNotFound(_)) => etcd(Code::NotFound, "requested lease not found"),
        StoreError::Refused(Refused::LeaseExists(_)) => etcd(Code::FailedPrecondition, "lease already exists"),
        StoreError::Refused(Refused::Compacted { .. }) => compacted(),
        StoreError::Refused(Refused::FutureRevision { .. }) => future_revision(),
        StoreError::NoSpace => etcd(Code::ResourceExhausted, "mvcc: database space exceeded"),
        StoreError::TooLarge { .. } => etcd(Code::InvalidArgument, "request is too large"),
        StoreError::NoLeader => etcd(Code::Unavailable, "no leader"),
        StoreError::Unavailable(_) | StoreError::Unknown => etcd(Code::Unavailable, "request timed out"),
        StoreError::Closed => etcd(Code::Unavailable, "server stopped"),
        StoreError::ReadOnly(_) => etcd(Code::Unavailable, "unhealthy cluster"),
        StoreError::Corrupt { .. } => etcd(Code::DataLoss, "corrupt cluster"),
        other => Status::new(Code::Unknown, other.to_string()),
    }
}
