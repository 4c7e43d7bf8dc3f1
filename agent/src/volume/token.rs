//! Service account tokens of projected volumes: asked for once, kept in the node's
//! copy, and renewed in time. A pod whose token cannot be renewed goes on with the
//! one it has, and starts with it after a reboot, while the API is away.

use super::payload::{self, TokenRequest};
use crate::error::Error;
use crate::pod::node::Shared;
use crate::pod::spec;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub request: TokenRequest,
    pub token: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

/// Upstream's limit on how long one token is used.
const AGE_S_MAX: i64 = 24 * 3_600;
/// After a failed renewal.
const RETRY_S: i64 = 30;
/// Who has a token does not wait long for a new one.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(30);

/// After 80 % of the token's life, within a day. Pure.
fn renew_at(issued: &Issued) -> Timestamp {
    let life_s = issued.expires.duration_since(issued.issued).as_secs();
    let after_s = (life_s / 5 * 4).clamp(0, AGE_S_MAX);
    issued
        .issued
        .checked_add(SignedDuration::from_secs(after_s))
        .unwrap_or(issued.expires)
}

/// The first of the pod's volumes that shows a token.
pub fn volume(pod: &Pod) -> Option<String> {
    let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let shows = |v: &&k8s_openapi::api::core::v1::Volume| {
        let mut sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
        sources.any(|s| s.service_account_token.is_some())
    };
    volumes.find(shows).map(|v| v.name.clone())
}

/// The pod's tokens, and when the first of them is to be renewed.
pub async fn current(shared: &Shared, pod: &Pod) -> Result<(BTreeMap<TokenRequest, String>, Option<Timestamp>), Error> {
    let requests = payload::token_requests(pod);
    if requests.is_empty() {
        return Ok((BTreeMap::new(), None));
    }
    let kept = shared.cache.tokens(spec::uid(pod));
    let (mut all, mut first): (Vec<Issued>, Option<Timestamp>) = (Vec::new(), None);
    for request in requests {
        let old = kept.iter().find(|issued| issued.request == request).cloned();
        let now = Timestamp::now();
        let (issued, again) = match old {
            Some(old) if now < renew_at(&old) => (old.clone(), renew_at(&old)),
            old => match (issue(shared, pod, &request, old.is_some()).await, old) {
                (Ok(fresh), _) => (fresh.clone(), renew_at(&fresh)),
                (Err(error), Some(old)) if may_go_on(&error, &old, now) => {
                    tracing::debug!(error = error.chain(), "a token could not be renewed; trying again");
                    let again = now.checked_add(SignedDuration::from_secs(RETRY_S));
                    (old, again.unwrap_or(now))
                }
                (Err(error), _) => return Err(error),
            },
        };
        first = Some(first.map_or(again, |known| known.min(again)));
        all.push(issued);
    }
    let tokens = all.iter().map(|i| (i.request.clone(), i.token.clone())).collect();
    if all != kept {
        shared.cache.keep_tokens(spec::uid(pod), all);
    }
    Ok((tokens, first))
}

/// An API that is away says nothing against the token; one that refuses does.
fn may_go_on(error: &Error, old: &Issued, now: Timestamp) -> bool {
    let refused = matches!(error, Error::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(_)));
    !refused || now < old.expires
}

async fn issue(shared: &Shared, pod: &Pod, wanted: &TokenRequest, has_one: bool) -> Result<Issued, Error> {
    let (namespace, name) = spec::key(pod);
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref());
    let audiences: Vec<&str> = Some(wanted.audience.as_str())
        .filter(|a| !a.is_empty())
        .into_iter()
        .collect();
    let request: authentication::TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": {
            "audiences": audiences,
            "expirationSeconds": wanted.expiration_s,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": spec::uid(pod)},
        }
    }))
    .map_err(|e| Error::Volume(e.to_string()))?;
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), &namespace);
    let params = PostParams::default();
    let asked = api.create_token_request(account.unwrap_or("default"), &params, &request);
    let limit = if has_one { ANSWER_MAX } else { FIRST_ANSWER_MAX };
    let issued = Timestamp::now();
    let answer = tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| Error::Volume("failed to fetch token: the API server does not answer".into()))?
        .map_err(Error::api("issue a token"))?;
    let status = answer.status.unwrap_or_default();
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err(Error::Volume("the API server issued an empty token".into()));
    };
    Ok(Issued {
        request: wanted.clone(),
        token,
        issued,
        expires: expires.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_in_time() {
        for (expires, expected) in [
            ("2026-01-01T00:10:00Z", "2026-01-01T00:08:00Z"),
            ("2026-01-01T01:00:00Z", "2026-01-01T00:48:00Z"),
            ("2027-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ] {
            let issued = Issued {
                request: TokenRequest {
                    audience: String::new(),
                    expiration_s: 600,
                    path: "token".into(),
                },
                token: "t".into(),
                issued: "2026-01-01T00:00:00Z".parse().expect("a time"),
                expires: expires.parse().expect("a time"),
            };
            assert_eq!(renew_at(&issued).to_string(), expected, "{expires}");
            let away = Error::Volume("away".into());
            assert!(may_go_on(
                &away,
                &issued,
                "2030-01-01T00:00:00Z".parse().expect("a time")
            ));
        }
    }
}
