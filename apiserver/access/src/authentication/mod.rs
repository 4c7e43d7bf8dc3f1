//! Authenticators: from credentials to a user. Client certificates first, then
//! bearer tokens, as upstream. Must not decide what a user may do.

pub mod bootstrap_token;
pub mod impersonation;
pub mod jwt;
pub mod request_header;
pub mod service_account;
pub mod x509;

pub use jwt::ServiceAccountKey;

use crate::contract::UserInfo;
use std::collections::BTreeMap;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";
pub const MASTERS: &str = "system:masters";
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The user of a request that presented nothing.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: ANONYMOUS.into(),
        groups: vec![UNAUTHENTICATED.into()],
        ..UserInfo::default()
    }
}

/// A user who proved who they are: `groups` sorted, with `system:authenticated`.
pub fn authenticated(
    name: impl Into<String>,
    uid: impl Into<String>,
    mut groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
) -> UserInfo {
    groups.push(AUTHENTICATED.into());
    groups.sort();
    groups.dedup();
    UserInfo {
        name: name.into(),
        uid: uid.into(),
        groups,
        extra,
    }
}

#[cfg(test)]
mod tests;
