//! Tells the API where a pod goes. Many bindings are under way at once, and so share the
//! store's syncs; the decision after one does not wait for it.

use super::{Done, Driver};
use crate::call::{self, JSON};
use crate::metrics::Outcome;
use crate::queue::Popped;
use crate::report::Regarding;
use crate::snapshot::PodKey;
use http::{Method, StatusCode};
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
    result: Result<(), kube::Error>,
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
        self.snapshot.set_pod(&node, candidate.info.clone());
        self.assumed.insert(regarding.key.clone(), regarding.uid.clone());
        let (client, done) = (self.client.clone(), self.done.clone());
        let profile = candidate.profile.name.clone();
        let (attempts, added) = (popped.attempts, popped.added);
        tokio::spawn(async move {
            let result = post_binding(&client, &regarding, &node).await;
            drop(permit);
            // The receiver lives as long as the process schedules.
            let _ = done.send(Done::Bound(Bound {
                regarding,
                node,
                profile,
                attempts,
                added,
                begun,
                result,
            }));
        });
    }

    pub(super) fn bound(&mut self, bound: Bound) {
        let key = &bound.regarding.key;
        let took = bound.begun.elapsed();
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
                    if call::is(&error, StatusCode::NOT_FOUND) {
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
