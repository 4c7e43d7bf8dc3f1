//! The join token: what a new machine needs to know of the cluster, in one word.
//!
//! ```text
//! skiff1.<64 hex digits: SHA-256 of the CA's SubjectPublicKeyInfo>.<id: 6>.<secret: 16>
//! ```
//! The hash lets the machine recognise the cluster before it sends the secret.
//! `<id>.<secret>` is a Kubernetes bootstrap token: a Secret in kube-system. A token
//! is the text of a bearer credential: it is never logged, `Debug` hides it.

use crate::authentication::bootstrap_token::{ID_LENGTH, SECRET_LENGTH, SECRET_PREFIX, SECRET_TYPE, split};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Version of the form; another one means another form.
const PREFIX: &str = "skiff1";
const HASH_LENGTH: usize = 64;

#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// 64 lower-case hex digits.
    pub ca_hash: String,
    pub id: String,
    pub secret: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the token is empty: make one on a server with `skiff token create`")]
    Empty,
    #[error("the token does not start with \"skiff1.\": copy all of what `skiff token create` printed")]
    Prefix,
    #[error("the token is of a form this version does not know: use the same version of skiff as the server")]
    Version,
    #[error("the token is cut short or has extra parts: it needs to be skiff1.<hash>.<id>.<secret>")]
    Parts,
    #[error("the token's CA hash is not 64 hexadecimal digits: copy all of what `skiff token create` printed")]
    Hash,
    #[error(
        "the token's last parts are not 6 and 16 lower-case letters or digits: copy all of what `skiff token create` printed"
    )]
    Secret,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("ca_hash", &self.ca_hash)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts[0] != PREFIX {
            let versioned = parts[0]
                .strip_prefix("skiff")
                .is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
            return Err(if versioned {
                TokenError::Version
            } else {
                TokenError::Prefix
            });
        }
        let [_, hash, id, secret] = parts[..] else {
            return Err(TokenError::Parts);
        };
        if hash.len() != HASH_LENGTH || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenError::Hash);
        }
        split(&format!("{id}.{secret}")).ok_or(TokenError::Secret)?;
        Ok(Self {
            ca_hash: hash.to_ascii_lowercase(),
            id: id.into(),
            secret: secret.into(),
        })
    }
}

impl JoinToken {
    /// A new token for the cluster with this CA hash.
    pub fn generate(ca_hash: &str) -> Self {
        Self {
            ca_hash: ca_hash.to_ascii_lowercase(),
            id: random(ID_LENGTH),
            secret: random(SECRET_LENGTH),
        }
    }

    /// The whole text. (Not `Display`, so that it is not printed by accident.)
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.ca_hash, self.id, self.secret)
    }

    /// The part that the API server takes as `Authorization: Bearer`.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret that makes the token valid.
    pub fn secret_object(&self, expiration: Option<Timestamp>, description: &str, extra_groups: &[String]) -> Value {
        let mut data = json!({});
        let mut put = |key: &str, text: &str| data[key] = STANDARD.encode(text).into();
        put("token-id", &self.id);
        put("token-secret", &self.secret);
        put("usage-bootstrap-authentication", "true");
        if !description.is_empty() {
            put("description", description);
        }
        if let Some(expiration) = expiration {
            let seconds = Timestamp::from_second(expiration.as_second()).unwrap_or(expiration);
            put("expiration", &seconds.to_string());
        }
        if !extra_groups.is_empty() {
            put("auth-extra-groups", &extra_groups.join(","));
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": format!("{SECRET_PREFIX}{}", self.id), "namespace": "kube-system"},
            "data": data,
        })
    }
}

/// Lower-case letters and digits from the system's random numbers.
fn random(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length)
        .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests;
