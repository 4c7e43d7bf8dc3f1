//! Identity and admission: certificates, tokens, authorizers, built-in
//! admission plugins, bootstrap policy. Decides; does no I/O of its own but
//! reading and writing the key files of the PKI.
//!
//! ```text
//! Credentials -> authentication -> UserInfo -> authorization -> Decision
//!                                      \-> admission (mutate, then validate)
//! ```

mod access;
pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod contract;
mod error;
#[cfg(test)]
mod fake;
pub mod pki;
pub mod policy;
pub mod token;
mod tree;

pub use access::{Access, AccessConfig, IssuedToken, TokenIssue, user_value};
pub use authentication::impersonation::{self, Impersonation, ImpersonationCheck, ImpersonationRequest};
pub use authentication::service_account::{BoundKind, BoundObject};
pub use authentication::{ServiceAccountKey, anonymous};
pub use contract::*;
pub use error::AccessError;
