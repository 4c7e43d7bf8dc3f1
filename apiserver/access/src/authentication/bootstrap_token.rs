//! Bootstrap tokens: `<id>.<secret>` kept in Secrets of kube-system, for nodes
//! that have no certificate yet. Pure.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.

use super::authenticated;
use crate::contract::{Objects, UserInfo};
use crate::tree::text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
pub const SECRET_PREFIX: &str = "bootstrap-token-";
pub const GROUP: &str = "system:bootstrappers";
pub const ID_LENGTH: usize = 6;
pub const SECRET_LENGTH: usize = 16;

/// Id and secret of a token of this form, else `None`.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let well_formed = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (well_formed(id, ID_LENGTH) && well_formed(secret, SECRET_LENGTH)).then_some((id, secret))
}

/// `data[key]` of a Secret, decoded; `stringData` is not looked at: it is never stored.
pub fn secret_text(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

pub fn user_of(id: &str, secret: &str, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, &'static str> {
    let name = format!("{SECRET_PREFIX}{id}");
    let stored = objects
        .get("", "secrets", "kube-system", &name)
        .ok_or("no such bootstrap token")?;
    if text(&stored, "/type") != SECRET_TYPE || stored.pointer("/metadata/deletionTimestamp").is_some() {
        return Err("the bootstrap token's secret is of another type or being deleted");
    }
    let held = secret_text(&stored, "token-secret").ok_or("the bootstrap token has no secret")?;
    if !equal_in_constant_time(held.as_bytes(), secret.as_bytes())
        || secret_text(&stored, "token-id").as_deref() != Some(id)
    {
        return Err("the bootstrap token's secret does not match");
    }
    if let Some(expiration) = secret_text(&stored, "expiration") {
        // What cannot be read as a time counts as over, not as for ever.
        let until: Timestamp = expiration
            .parse()
            .map_err(|_| "the bootstrap token's expiration is not a time")?;
        if now >= until {
            return Err("the bootstrap token has expired");
        }
    }
    if secret_text(&stored, "usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("the bootstrap token may not be used to authenticate");
    }
    let mut groups = vec![GROUP.to_string()];
    for group in secret_text(&stored, "auth-extra-groups")
        .unwrap_or_default()
        .split(',')
        .filter(|g| !g.is_empty())
    {
        if !group.starts_with("system:bootstrappers:") {
            return Err("the bootstrap token names a group outside system:bootstrappers:");
        }
        groups.push(group.to_string());
    }
    Ok(authenticated(
        format!("system:bootstrap:{id}"),
        "",
        groups,
        BTreeMap::new(),
    ))
}

/// Takes as long for a wrong secret as for the right one.
pub fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |difference, (x, y)| difference | (x ^ y)) == 0
}
