//! Removes the pods that make room for another one: each is told why, then deleted with
//! the grace that it asked for.

use super::{Done, Driver};
use crate::call::{self, JSON, STRATEGIC};
use crate::filter::Candidate;
use crate::preempt::{Preemption, Victim};
use crate::report::{Regarding, Reporter, seconds_now};
use crate::snapshot::PodKey;
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Instant;

/// Victims of one pod that are told at once.
const AT_ONCE: usize = 16;

/// All victims were told, or could not be.
pub(super) struct Evicted {
    preemptor: PodKey,
    victims: Vec<(PodKey, String)>,
    failed: bool,
}

struct Eviction {
    client: kube::Client,
    reporter: Reporter,
    preemptor: Regarding,
    by: String,
    node: String,
}

impl Driver {
    pub(super) fn evict(&self, candidate: &Candidate, room: Preemption) {
        let eviction = Eviction {
            client: self.client.clone(),
            reporter: self.reporter.clone(),
            preemptor: Regarding::of(candidate),
            by: candidate.profile.name.clone(),
            node: room.node,
        };
        let done = self.done.clone();
        tokio::spawn(async move {
            let mut failed = false;
            let alive: Vec<&Victim> = room.victims.iter().filter(|victim| !victim.terminating).collect();
            for some in alive.chunks(AT_ONCE) {
                let results = join_all(some.iter().map(|victim| eviction.evict(victim))).await;
                failed |= results.iter().any(Result::is_err);
            }
            let victims = room.victims.into_iter().map(|victim| (victim.key, victim.uid));
            let _ = done.send(Done::Evicted(Evicted {
                preemptor: eviction.preemptor.key,
                victims: victims.collect(),
                failed,
            }));
        });
    }

    /// The preemptor waits for those that take their time; when one could not be told,
    /// it is tried again at once.
    pub(super) fn evicted(&mut self, evicted: &Evicted) {
        let gone = evicted.victims.iter().all(|(key, uid)| {
            let there = self.snapshot.pod(key);
            there.is_none_or(|(_, info)| info.uid != *uid)
        });
        self.queue
            .made_room(&evicted.preemptor, gone || evicted.failed, Instant::now());
    }
}

impl Eviction {
    async fn evict(&self, victim: &Victim) -> Result<(), kube::Error> {
        let (namespace, name) = &victim.key;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", self.by),
            "lastProbeTime": null, "lastTransitionTime": seconds_now(),
        });
        let status = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        let delete = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": victim.uid}});
        let outcome = async {
            call::send(
                &self.client,
                Method::PATCH,
                &format!("{path}/status"),
                STRATEGIC,
                &status,
            )
            .await?;
            call::send(&self.client, Method::DELETE, &path, JSON, &delete).await
        };
        match outcome.await {
            Ok(()) => {
                let regarding = Regarding {
                    key: victim.key.clone(),
                    uid: victim.uid.clone(),
                    resource_version: None,
                };
                self.reporter
                    .preempted(regarding, self.preemptor.clone(), &self.by, &self.node);
                Ok(())
            }
            // It went by itself, or another pod has its name.
            Err(error) if call::is(&error, StatusCode::NOT_FOUND) || call::is(&error, StatusCode::CONFLICT) => Ok(()),
            Err(error) => {
                tracing::warn!(namespace, pod = name, %error, "a pod could not be preempted");
                Err(error)
            }
        }
    }
}
