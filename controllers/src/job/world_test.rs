//! Jobs in a simulated cluster: whatever the order in which pods run, succeed, fail or are taken away, no index
//! has two pods, no more run than may, and every pod is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Action, condition, reconcile};
use super::pod::{TRACKING, index_of, pod as build};
use crate::key::{controller_reference, time, uid};
use crate::pods::testing::{at, seen};
use crate::pods::{is_active, is_finished, is_terminating, phase};
use crate::slim::Pod;

struct World {
    job: Job,
    pods: BTreeMap<String, Arc<Pod>>,
    made: usize,
    now: i64,
    /// Uids of pods that ended well, and of those that did not, by what happened to them.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

fn change(pod: &Arc<Pod>, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    change(&mut pod);
    Arc::new(pod)
}

impl World {
    fn active(&self) -> usize {
        self.pods.values().filter(|pod| is_active(pod)).count()
    }

    fn remove(&mut self, pod_uid: &str) {
        let gone = self
            .pods
            .get(pod_uid)
            .is_some_and(|pod| is_terminating(pod) && pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty));
        if gone {
            self.pods.remove(pod_uid);
        }
    }

    fn release(&mut self, pod: &Pod) {
        let pod_uid = uid(&pod.metadata).to_string();
        if let Some(known) = self.pods.get_mut(&pod_uid) {
            *known = change(known, |pod| pod.metadata.finalizers = None);
        }
    }

    /// A kubelet is fast here: what is deleted is gone unless it is held.
    fn delete(&mut self, pod: &Pod) {
        let (pod_uid, now) = (uid(&pod.metadata).to_string(), self.now);
        if let Some(known) = self.pods.get_mut(&pod_uid) {
            *known = change(known, |pod| {
                pod.metadata.deletion_timestamp = Some(time(at(now)));
                if !is_finished(pod) {
                    pod.status.get_or_insert_default().phase = Some("Failed".to_string());
                }
            });
        }
        self.remove(&pod_uid);
    }

    fn create(&mut self, new: &super::pod::New) -> Result<(), TestCaseError> {
        if new.index.is_some() {
            let same = self
                .pods
                .values()
                .filter(|pod| is_active(pod) && index_of(pod) == new.index);
            prop_assert_eq!(same.count(), 0, "two pods of index {:?}", new.index);
        }
        self.made += 1;
        let mut made = build(
            &self.job,
            new,
            controller_reference("batch/v1", "Job", &self.job.metadata),
        );
        let own = format!("p{}", self.made);
        (made.metadata.uid, made.metadata.name) = (Some(own.clone()), Some(own.clone()));
        made.metadata.creation_timestamp = Some(time(at(self.now)));
        self.pods.insert(own, Arc::new(seen(made)));
        Ok(())
    }

    /// Returns whether anything was left to do.
    fn reconcile(&mut self) -> Result<bool, TestCaseError> {
        let pods: Vec<Arc<Pod>> = self.pods.values().cloned().collect();
        let plan = reconcile(&self.job, &pods, true, at(self.now));
        let before = self.job.status.clone().unwrap_or_default();
        let acts = plan.status != before || !plan.actions.is_empty() || plan.look_again_seconds.is_some();
        self.job.status = Some(plan.status);
        for action in plan.actions {
            match action {
                Action::Create(all) => {
                    for new in &all {
                        self.create(new)?;
                    }
                }
                Action::Delete(all) => {
                    for pod in &all {
                        self.failed.insert(uid(&pod.metadata).to_string());
                        self.delete(pod);
                    }
                }
                Action::Dismiss(all) => {
                    for pod in &all {
                        self.release(pod);
                        self.delete(pod);
                    }
                }
                Action::Release(all) => {
                    for pod in &all {
                        self.release(pod);
                        self.remove(uid(&pod.metadata));
                    }
                }
            }
        }
        let spec = self.job.spec.clone().unwrap_or_default();
        prop_assert!(self.active() <= usize::try_from(spec.parallelism.unwrap_or(1)).unwrap());
        let status = self.job.status.clone().unwrap_or_default();
        prop_assert!(usize::try_from(status.failed.unwrap_or(0)).unwrap() <= self.failed.len());
        Ok(acts)
    }

    fn shake(&mut self, which: usize, event: u8) {
        let live: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| is_active(pod))
            .map(|(key, _)| key.clone())
            .collect();
        let Some(key) = live.get(which % live.len().max(1)).cloned() else {
            return;
        };
        let to = |pod: &Arc<Pod>, phase: &str| {
            change(pod, |pod| {
                pod.status.get_or_insert_default().phase = Some(phase.to_string())
            })
        };
        let pod = self.pods[&key].clone();
        match event {
            0 => {
                self.failed.insert(key.clone());
                self.pods.insert(key, to(&pod, "Failed"));
            }
            // Somebody deletes it.
            1 => {
                self.failed.insert(key);
                self.delete(&pod);
            }
            2 | 3 => {
                self.succeeded.insert(key.clone());
                self.pods.insert(key, to(&pod, "Succeeded"));
            }
            _ => {
                self.pods.insert(key, to(&pod, "Running"));
            }
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_events_is_counted_exactly(
        indexed in any::<bool>(), completions in 1i32..6, parallelism in 1i32..4, suspend_at in 0usize..60,
        per_index in any::<bool>(), limit in 0i32..12,
        events in prop::collection::vec((0usize..6, 0u8..6), 0..60),
    ) {
        let mut spec = json!({
            "template": {}, "completions": completions, "parallelism": parallelism, "backoffLimit": limit,
            "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
        });
        if indexed && per_index {
            spec["backoffLimitPerIndex"] = json!(limit % 3);
            spec["backoffLimit"] = json!(i32::MAX);
        }
        let job = serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": spec}));
        let mut world = World {
            job: job.unwrap(), pods: BTreeMap::new(), made: 0, now: 0,
            succeeded: BTreeSet::new(), failed: BTreeSet::new(),
        };
        for (step, (which, event)) in events.into_iter().enumerate() {
            // Back-off has long passed whenever somebody looks again.
            world.now += 1000;
            if step == suspend_at {
                world.job.spec.as_mut().unwrap().suspend = Some(true);
            }
            if step == suspend_at + 3 {
                world.job.spec.as_mut().unwrap().suspend = None;
            }
            world.reconcile()?;
            world.shake(which, event);
        }
        world.job.spec.as_mut().unwrap().suspend = None;
        let mut rounds = 0;
        while { world.now += 1000; world.reconcile()? } || world.active() > 0 {
            world.shake(0, 2);
            rounds += 1;
            prop_assert!(rounds < 300, "does not end");
        }
        let status = world.job.status.clone().unwrap();
        let (complete, failed) = (condition(&status, "Complete").is_some(), condition(&status, "Failed").is_some());
        prop_assert!(complete != failed, "{:?}", status.conditions);
        prop_assert!(world.pods.values().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(|all| !all.contains(&TRACKING.to_string()))));
        let notes = status.uncounted_terminated_pods.unwrap_or_default();
        prop_assert!(notes.failed.is_none() && notes.succeeded.is_none());
        if complete {
            prop_assert_eq!(status.succeeded, Some(completions));
            prop_assert_eq!(status.failed.unwrap_or(0), i32::try_from(world.failed.len()).unwrap());
        }
        if !indexed {
            prop_assert_eq!(usize::try_from(status.succeeded.unwrap_or(0)).unwrap(), world.succeeded.len());
        }
        prop_assert!(world.pods.values().all(|pod| phase(pod) != "Running"));
    }
}
