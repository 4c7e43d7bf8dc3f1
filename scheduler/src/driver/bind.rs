//! Tells the API where a pod goes. Many bindings are under way at once, and so share the
//! store's syncs; the decision after one does not wait for it.

use super::devices::{Refused, release, write};
use super::{Done, Driver};
use crate::call::{self, JSON};
use crate::metrics::Outcome;
use crate::queue::Popped;
use crate::report::Regarding;
use crate::snapshot::PodKey;
use http::{Method, StatusCode};
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::json;
use std::time::Instant;

/// How a binding ended.
pub(super) struct Bound {
    regarding: Regarding,
    node: String,
    profile: String,
    attempts: u32,
    added: Instant,
    begun: Instant,
    result: Result<(), Refused>,
    /// Those that were to be written, and those that were.
    claims: Vec<PodKey>,
    written: Vec<ResourceClaim>,
}

impl Driver {
    /// From here on the pod counts as placed.
    pub(super) fn bind(&mut self, popped: Popped, node: String, begun: Instant) {
        let candidate = popped.candidate;
        let Ok(permit) = self.bindings.clone().try_acquire_owned() else {
            self.queue.failed(&candidate.info.key, begun);
            return;
        };
        let regarding = Regarding::of(&candidate);
        let reservations = self.reserve(&candidate, &node);
        self.snapshot.set_pod(&node, candidate.info.clone());
        self.assumed.insert(regarding.key.clone(), regarding.uid.clone());
        let (client, done) = (self.client.clone(), self.done.clone());
        let profile = candidate.profile.name.clone();
        let (attempts, added) = (popped.attempts, popped.added);
        tokio::spawn(async move {
            let mut written = Vec::new();
            let mut result = write(&client, &regarding, &reservations, &mut written).await;
            if result.is_ok() {
                result = post_binding(&client, &regarding, &node).await.map_err(Refused::Api);
            }
            if result.is_err() {
                release(&client, &regarding, &written).await;
            }
            drop(permit);
            // The receiver lives as long as the process schedules.
            let _ = done.send(Done::Bound(Box::new(Bound {
                regarding,
                node,
                profile,
                attempts,
                added,
                begun,
                result,
                claims: reservations.into_iter().map(|one| one.key).collect(),
                written,
            })));
        });
    }

    pub(super) fn bound(&mut self, bound: Bound) {
        let key = &bound.regarding.key;
        let took = bound.begun.elapsed();
        if !bound.claims.is_empty() {
            self.reserved(&bound.claims, bound.written, bound.result.is_ok());
        }
        // Another pod of that name may have come since.
        let same = self.queue.uid(key).is_none_or(|uid| uid == bound.regarding.uid);
        match bound.result {
            Ok(()) => {
                self.metrics.attempted(&bound.profile, Outcome::Scheduled, took);
                self.metrics.scheduled(bound.attempts, bound.added.elapsed());
                if same {
                    self.queue.remove(key);
                    self.snapshot.denominate(key);
                }
                let profile = &bound.profile;
                self.reporter.scheduled(bound.regarding, profile, &bound.node);
            }
            Err(error) => {
                self.metrics.attempted(&bound.profile, Outcome::Error, took);
                let (namespace, name) = key;
                tracing::warn!(namespace, pod = name, uid = bound.regarding.uid, %error, "binding failed");
                if self.assumed.get(key) == Some(&bound.regarding.uid) {
                    self.assumed.remove(key);
                    self.unplaced(key);
                    if matches!(&error, Refused::Api(error) if call::is(error, StatusCode::NOT_FOUND)) {
                        self.queue.remove(key);
                    }
                }
                if same {
                    self.queue.failed(key, Instant::now());
                }
            }
        }
    }

    /// What it would have occupied is free again.
    fn unplaced(&mut self, key: &PodKey) {
        let info = self.snapshot.pod(key).map(|(_, info)| info.clone());
        self.snapshot.remove_pod(key);
        if let Some(info) = info {
            self.wake(crate::hints::Change::Gone(&info));
        }
    }
}

async fn post_binding(client: &kube::Client, regarding: &Regarding, node: &str) -> Result<(), kube::Error> {
    let (namespace, name) = &regarding.key;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": regarding.uid},
        "target": {"kind": "Node", "name": node},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
    call::send(client, Method::POST, &path, JSON, &binding).await
}
