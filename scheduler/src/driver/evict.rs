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
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Victims of one pod that are told at once.
const AT_ONCE: usize = 16;

/// All victims were told, or could not be.
pub(super) struct Evicted {
    preemptor: PodKey,
    failed: bool,
}

/// Who waits for whose end.
#[derive(Default)]
pub(super) struct Rooms {
    /// The uids of those that a preemptor still waits for.
    waits: BTreeMap<PodKey, BTreeSet<String>>,
    preemptor_of: BTreeMap<String, PodKey>,
}

impl Rooms {
    fn make(&mut self, preemptor: &PodKey, victims: &[Victim]) {
        self.give_up(preemptor);
        for victim in victims {
            self.preemptor_of.insert(victim.uid.clone(), preemptor.clone());
        }
        let uids = victims.iter().map(|victim| victim.uid.clone()).collect();
        self.waits.insert(preemptor.clone(), uids);
    }

    /// A pod is gone; returns who had waited for it as the last one.
    pub(super) fn gone(&mut self, uid: &str) -> Option<PodKey> {
        let preemptor = self.preemptor_of.remove(uid)?;
        let waits = self.waits.get_mut(&preemptor)?;
        waits.remove(uid);
        waits.is_empty().then(|| {
            self.waits.remove(&preemptor);
            preemptor
        })
    }

    /// The pod has a node, or is gone.
    pub(super) fn give_up(&mut self, preemptor: &PodKey) {
        for uid in self.waits.remove(preemptor).into_iter().flatten() {
            self.preemptor_of.remove(&uid);
        }
    }
}

struct Eviction {
    client: kube::Client,
    reporter: Reporter,
    preemptor: Regarding,
    by: String,
    node: String,
}

impl Driver {
    pub(super) fn evict(&mut self, candidate: &Candidate, room: Preemption) {
        self.rooms.make(&candidate.info.key, &room.victims);
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
            let _ = done.send(Done::Evicted(Evicted {
                preemptor: eviction.preemptor.key,
                failed,
            }));
        });
    }

    /// The preemptor waits for those that take their time; when one could not be told,
    /// it is tried again at once.
    pub(super) fn evicted(&mut self, evicted: &Evicted) {
        let gone = !self.rooms.waits.contains_key(&evicted.preemptor);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_its_victims_lets_a_preemptor_in() {
        let victims = ["a", "b"].map(|name| Victim {
            key: ("d".into(), name.into()),
            uid: name.into(),
            terminating: false,
        });
        let preemptor: PodKey = ("d".into(), "high".into());
        let mut rooms = Rooms::default();
        rooms.make(&preemptor, &victims);
        assert_eq!(rooms.gone("other"), None);
        assert_eq!(rooms.gone("b"), None);
        assert_eq!(rooms.gone("a"), Some(preemptor.clone()));
        assert_eq!(rooms.gone("a"), None);
        rooms.make(&preemptor, &victims);
        rooms.give_up(&preemptor);
        assert_eq!(rooms.gone("a").or(rooms.gone("b")), None);
        assert!(rooms.preemptor_of.is_empty() && rooms.waits.is_empty());
    }
}
