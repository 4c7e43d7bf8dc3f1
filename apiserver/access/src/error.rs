//! What can go wrong while identities are set up. (What goes wrong for a
//! client is an `ApiError`.)

use thiserror::Error;

#[derive(Debug, Error)]
pub enum AccessError {
    #[error("no service account key was given: tokens could be neither signed nor verified")]
    NoServiceAccountKey,
    #[error("service account key cannot be used: {0}; expected a PEM-encoded PKCS#8 ECDSA P-256 private key")]
    BadServiceAccountKey(String),
    #[error("no API audience was given: service account tokens need at least one, usually the issuer URL")]
    NoAudience,
    #[error("an authority of client certificates cannot be used: {0}")]
    Authority(String),
}
