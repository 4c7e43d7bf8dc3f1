//! Asks the API server who a token's owner is and what callers may do, and remembers
//! the answers for as long as kubelet does.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use skiff_streaming::{Caller, EndpointError};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// kubelet's defaults (authentication.webhook.cacheTTL, authorization.webhook.cache*TTL).
const TOKEN_KNOWN: Duration = Duration::from_secs(120);
const ALLOWED_KNOWN: Duration = Duration::from_secs(300);
const REFUSED_KNOWN: Duration = Duration::from_secs(30);
/// Answers remembered of each kind; a stranger who tries tokens must not fill the memory.
const KNOWN_MAX: usize = 1_024;
/// A server that is cut off must not hold up who asks.
const ANSWER_MAX: Duration = Duration::from_secs(10);

type Memory<K, V> = Mutex<HashMap<K, (Instant, V)>>;

#[derive(Default)]
pub struct Access {
    tokens: Memory<[u8; 32], Option<Caller>>,
    allowed: Memory<(Caller, String, String), bool>,
}

fn known<K: Hash + Eq, V: Clone>(memory: &Memory<K, V>, key: &K, now: Instant) -> Option<V> {
    let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    let (until, value) = memory.get(key)?;
    (*until > now).then(|| value.clone())
}

fn remember<K: Hash + Eq, V>(memory: &Memory<K, V>, key: K, value: V, until: Instant) {
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    if memory.len() >= KNOWN_MAX {
        let now = Instant::now();
        memory.retain(|_, (until, _)| *until > now);
    }
    if memory.len() >= KNOWN_MAX {
        memory.clear();
    }
    memory.insert(key, (until, value));
}

async fn asked<T>(work: impl Future<Output = kube::Result<T>>) -> Result<T, EndpointError> {
    let failed = |why: String| EndpointError::Failed(format!("the API server cannot be asked: {why}"));
    match tokio::time::timeout(ANSWER_MAX, work).await {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("it does not answer".into())),
    }
}

impl Access {
    pub async fn review_token(&self, client: &Client, token: &str) -> Result<Option<Caller>, EndpointError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key: [u8; 32] = digest.as_ref().try_into().unwrap_or_default();
        let now = Instant::now();
        if let Some(caller) = known(&self.tokens, &key, now) {
            return Ok(caller);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(client.clone());
        let answer = asked(api.create(&PostParams::default(), &review)).await?;
        let user = answer
            .status
            .filter(|s| s.authenticated == Some(true))
            .and_then(|s| s.user);
        let caller = user.map(|user| Caller {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        remember(&self.tokens, key, caller.clone(), now + TOKEN_KNOWN);
        Ok(caller)
    }

    pub async fn may(
        &self,
        client: &Client,
        node: &str,
        caller: &Caller,
        (verb, subresource): (&str, &str),
    ) -> Result<bool, EndpointError> {
        let key = (caller.clone(), verb.to_owned(), subresource.to_owned());
        let now = Instant::now();
        if let Some(allowed) = known(&self.allowed, &key, now) {
            return Ok(allowed);
        }
        let text = |text: &str| Some(text.to_owned());
        let attributes = ResourceAttributes {
            verb: text(verb),
            version: text("v1"),
            resource: text("nodes"),
            subresource: text(subresource),
            name: text(node),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: text(&caller.name),
                uid: text(&caller.uid),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        let answer = asked(api.create(&PostParams::default(), &review)).await?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let until = now + if allowed { ALLOWED_KNOWN } else { REFUSED_KNOWN };
        tracing::debug!(caller = caller.name, verb, subresource, allowed, at = %Timestamp::now(), "a caller of the endpoint was reviewed");
        remember(&self.allowed, key, allowed, until);
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_in_time_and_bounded() {
        let (memory, now): (Memory<u32, bool>, Instant) = (Memory::default(), Instant::now());
        remember(&memory, 1, true, now + REFUSED_KNOWN);
        assert_eq!(known(&memory, &1, now), Some(true));
        assert_eq!(known(&memory, &1, now + REFUSED_KNOWN), None);
        for key in 0..u32::try_from(3 * KNOWN_MAX).expect("few") {
            remember(&memory, key, false, now + REFUSED_KNOWN);
            assert!(memory.lock().expect("no panic").len() <= KNOWN_MAX);
        }
    }
}
