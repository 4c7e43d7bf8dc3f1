//! What a service-account token says, and whether that still holds: claims,
//! time, audience, and the live objects the token is bound to. Pure.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>.

use super::{CREDENTIAL_ID, authenticated};
use crate::contract::{Objects, UserInfo};
use crate::tree::{text, texts};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub const USER_PREFIX: &str = "system:serviceaccount:";
/// A request for exactly this lifetime comes from the default token volume, and
/// gets a token that is valid for longer but warns after it.
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// Clocks of clients and servers may differ by this much.
const LEEWAY_SECONDS: i64 = 10;
/// Deleted objects keep their tokens valid this long, for a graceful end.
const DELETION_LEEWAY_SECONDS: i64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundKind {
    Pod,
    Secret,
    Node,
}

/// The object whose life bounds a token's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundObject {
    pub kind: BoundKind,
    pub name: String,
    pub uid: String,
}

/// What is asked of a new token.
#[derive(Debug, Clone, Default)]
pub struct TokenIssue {
    pub namespace: String,
    pub service_account: String,
    pub service_account_uid: String,
    /// Empty: the API server's own audiences.
    pub audiences: Vec<String>,
    pub expiration_seconds: i64,
    pub bound: Option<BoundObject>,
    /// Name and uid of the node the bound pod runs on.
    pub node: Option<(String, String)>,
}

/// Claims of a new token, and the expiration to tell the client (which for the
/// default token volume is earlier than the token's own).
pub fn claims(issue: &TokenIssue, issuer: &str, api_audiences: &[String], jti: &str, now: Timestamp) -> (Value, i64) {
    let seconds = now.as_second();
    let audiences = if issue.audiences.is_empty() {
        api_audiences
    } else {
        &issue.audiences
    };
    let announced = seconds.saturating_add(issue.expiration_seconds);
    let for_api_server = audiences.iter().all(|audience| api_audiences.contains(audience));
    let pod_bound = issue.bound.as_ref().is_some_and(|bound| bound.kind == BoundKind::Pod);
    let extended = issue.expiration_seconds == WARN_ONLY_SECONDS && for_api_server && pod_bound;
    let mut private = json!({
        "namespace": issue.namespace,
        "serviceaccount": {"name": issue.service_account, "uid": issue.service_account_uid},
    });
    if let Some(bound) = &issue.bound {
        let key = match bound.kind {
            BoundKind::Pod => "pod",
            BoundKind::Secret => "secret",
            BoundKind::Node => "node",
        };
        private[key] = json!({"name": bound.name, "uid": bound.uid});
    }
    if let (Some((name, uid)), true) = (&issue.node, pod_bound) {
        private["node"] = json!({"name": name});
        if !uid.is_empty() {
            private["node"]["uid"] = uid.as_str().into();
        }
    }
    let expires = if extended {
        private["warnafter"] = announced.into();
        seconds.saturating_add(EXTENDED_SECONDS)
    } else {
        announced
    };
    let claims = json!({
        "iss": issuer, "sub": user_name(&issue.namespace, &issue.service_account), "aud": audiences,
        "exp": expires, "iat": seconds, "nbf": seconds, "jti": jti, "kubernetes.io": private,
    });
    (claims, announced)
}

pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{USER_PREFIX}{namespace}:{name}")
}

/// Namespace and name out of `system:serviceaccount:<namespace>:<name>`.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// Groups of every service account of a namespace, without `system:authenticated`.
pub fn groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Issuer, lifetime and audience of claims whose signature was verified.
/// Answers the audiences that both sides name.
pub fn check_claims(
    claims: &Value,
    issuer: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<Vec<String>, Cow<'static, str>> {
    if text(claims, "/iss") != issuer {
        return Err("the token is of another issuer".into());
    }
    let seconds = now.as_second();
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    if time("exp").ok_or("the token never expires")? < seconds - LEEWAY_SECONDS {
        return Err("service account token has expired".into());
    }
    if time("nbf").is_some_and(|from| from > seconds + LEEWAY_SECONDS)
        || time("iat").is_some_and(|at| at > seconds + LEEWAY_SECONDS)
    {
        return Err("service account token is not valid yet".into());
    }
    let mut named = texts(claims, "/aud");
    if let Some(single) = claims.get("aud").and_then(Value::as_str) {
        named.push(single.to_string());
    }
    let both: Vec<String> = named.iter().filter(|name| audiences.contains(name)).cloned().collect();
    if both.is_empty() {
        Err(wrong_audience(&named, audiences).into())
    } else {
        Ok(both)
    }
}

/// What a review says of a token for other audiences than those asked for.
pub fn wrong_audience(named: &[String], asked: &[String]) -> String {
    let list = |names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        quoted.join(" ")
    };
    format!(
        "token audiences [{}] is invalid for the target audiences [{}]",
        list(named),
        list(asked)
    )
}

/// The user, if the service account and what the token is bound to still exist.
pub fn check_objects(claims: &Value, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, &'static str> {
    let private = claims
        .get("kubernetes.io")
        .ok_or("the token has no kubernetes.io claim")?;
    let namespace = text(private, "/namespace");
    let name = text(private, "/serviceaccount/name");
    let uid = text(private, "/serviceaccount/uid");
    if namespace.is_empty() || name.is_empty() || text(claims, "/sub") != user_name(namespace, name) {
        return Err("the token does not name its service account");
    }
    let live = |resource: &str, namespace: &str, name: &str, uid: &str| {
        objects
            .get("", resource, namespace, name)
            .is_some_and(|object| text(&object, "/metadata/uid") == uid && !long_deleted(&object, now))
    };
    if !live("serviceaccounts", namespace, name, uid) {
        return Err("the token's service account was deleted");
    }
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_string()]);
        }
    };
    if let Some(secret) = private.get("secret")
        && !live("secrets", namespace, text(secret, "/name"), text(secret, "/uid"))
    {
        return Err("the token's secret was deleted");
    }
    if let Some(pod) = private.get("pod") {
        if !live("pods", namespace, text(pod, "/name"), text(pod, "/uid")) {
            return Err("the token's pod was deleted");
        }
        note("pod-name", text(pod, "/name"));
        note("pod-uid", text(pod, "/uid"));
    }
    if let Some(node) = private.get("node") {
        // Beside a pod the node is information; alone it is what the token is bound to.
        if private.get("pod").is_none() && !live("nodes", "", text(node, "/name"), text(node, "/uid")) {
            return Err("the token's node was deleted");
        }
        note("node-name", text(node, "/name"));
        note("node-uid", text(node, "/uid"));
    }
    if let Some(jti) = claims.get("jti").and_then(Value::as_str) {
        extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={jti}")]);
    }
    Ok(authenticated(user_name(namespace, name), uid, groups(namespace), extra))
}

/// Deleted, and the leeway for a graceful end is over.
fn long_deleted(object: &Value, now: Timestamp) -> bool {
    text(object, "/metadata/deletionTimestamp")
        .parse::<Timestamp>()
        .is_ok_and(|deleted| now.as_second() > deleted.as_second() + DELETION_LEEWAY_SECONDS)
}

pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Claims of a token that lives in a Secret of type `kubernetes.io/service-account-token`.
pub fn legacy_claims(namespace: &str, secret: &str, service_account: &str, uid: &str) -> Value {
    json!({
        "iss": LEGACY_ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret,
        "kubernetes.io/serviceaccount/service-account.name": service_account,
        "kubernetes.io/serviceaccount/service-account.uid": uid,
        "sub": user_name(namespace, service_account),
    })
}

/// A legacy token never expires, so it must be exactly what its Secret still holds.
pub fn check_legacy(claims: &Value, token: &str, objects: &dyn Objects) -> Result<UserInfo, &'static str> {
    let claim = |name: &str| {
        claims
            .get(format!("kubernetes.io/serviceaccount/{name}"))
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    let namespace = claim("namespace");
    let name = claim("service-account.name");
    if namespace.is_empty() || name.is_empty() || text(claims, "/sub") != user_name(namespace, name) {
        return Err("the token does not name its service account");
    }
    let secret = objects
        .get("", "secrets", namespace, claim("secret.name"))
        .ok_or("the token's secret was deleted")?;
    let held = super::bootstrap_token::secret_text(&secret, "token");
    if held.as_deref() != Some(token) || secret.pointer("/metadata/deletionTimestamp").is_some() {
        return Err("the token's secret holds another token");
    }
    let account = objects
        .get("", "serviceaccounts", namespace, name)
        .ok_or("the token's service account was deleted")?;
    if text(&account, "/metadata/uid") != claim("service-account.uid") {
        return Err("the token's service account was replaced");
    }
    Ok(authenticated(
        user_name(namespace, name),
        claim("service-account.uid"),
        groups(namespace),
        BTreeMap::new(),
    ))
}
