//! The cluster's PKI: authority, certificates of servers and clients, the
//! service-account key, kubeconfigs, TLS configurations. Everything is ECDSA
//! P-256. Only `files` touches the disk; time is an argument everywhere.
//!
//! ```text
//! <dir>/ca.crt ca.key                        the authority (10 years)
//! <dir>/server.crt server.key                serves the API (1 year, leaf + CA)
//! <dir>/admin.crt admin.key                  O=system:masters
//! <dir>/kube-apiserver-kubelet-client.*      how the API server dials nodes
//! <dir>/front-proxy-ca.* front-proxy-client.*  how it dials extension API servers
//! <dir>/sa.key                               signs service-account tokens
//! ```

mod ca;
mod csr;
mod files;
mod kubeconfig;
mod tls;

pub use ca::{
    CERTIFICATE_LIFETIME, Ca, CertificateRequest, Freshness, Identity, Usage, certificates, common_name, freshness,
    spki_sha256, validity,
};
pub use csr::{CsrInfo, new_csr, parse_csr};
pub use files::{Pki, PkiOptions, read_or_issue, write_private, write_public};
pub use kubeconfig::kubeconfig;
pub use tls::{
    Voucher, Vouchers, client_config, client_config_unverified, join_config, server_config,
    server_config_without_clients,
};

use jiff::Timestamp;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PkiError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{what} cannot be read: {why}")]
    Parse { what: String, why: String },
    #[error("{key} does not belong to {certificate}: restore the matching pair, or remove both to have new ones made")]
    KeyMismatch { certificate: String, key: String },
    #[error(
        "the clock says {now}, which is before {what} becomes valid ({not_before}): set the machine's clock (timedatectl set-ntp true) and start again"
    )]
    ClockBefore {
        what: String,
        not_before: Timestamp,
        now: Timestamp,
    },
    #[error("{what} expired at {not_after} (the clock says {now})")]
    Expired {
        what: String,
        not_after: Timestamp,
        now: Timestamp,
    },
    #[error("certificate request refused: {0}")]
    Request(String),
    #[error("a certificate could not be made: {0}")]
    Issue(String),
    #[error("TLS could not be configured: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests;
