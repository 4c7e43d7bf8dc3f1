//! A Job and its pods, sorted into what its decisions need. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};

use crate::pods::{is_terminating, node_name, phase};

use super::indexes;
use super::pod::{Failures, failures_before, has_finalizer, index_of};
use super::policy::{Verdict, verdict};

/// The Job and its pods, sorted into what matters here.
pub struct View<'a> {
    pub job: &'a Job,
    pub pods: &'a [Arc<Pod>],
    pub active: Vec<Arc<Pod>>,
    pub now: Timestamp,
}

impl View<'_> {
    pub fn is_indexed(&self) -> bool {
        self.job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
    }

    pub fn completions(&self) -> Option<i32> {
        self.job.spec.as_ref()?.completions
    }

    pub fn limit_per_index(&self) -> Option<i32> {
        self.job.spec.as_ref()?.backoff_limit_per_index
    }

    /// Whether a pod on its way out is replaced, and counted, only once it has really failed.
    pub fn waits_for_failure(&self) -> bool {
        self.job.spec.as_ref().is_some_and(|spec| {
            spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
        })
    }

    pub fn has_failed(&self, pod: &Pod) -> bool {
        match phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            // Nobody could still finish a pod without a node.
            _ => is_terminating(pod) && (!self.waits_for_failure() || node_name(pod).is_none()),
        }
    }

    pub fn is_over(&self, pod: &Pod) -> bool {
        phase(pod) == "Succeeded" || self.has_failed(pod)
    }

    pub fn completed(&self, status: &JobStatus) -> BTreeSet<i32> {
        let text = status.completed_indexes.as_deref().unwrap_or("");
        indexes::parse(text, self.completions().unwrap_or(0))
    }

    pub fn failed_indexes(&self, status: &JobStatus) -> BTreeSet<i32> {
        let text = status.failed_indexes.as_deref().unwrap_or("");
        indexes::parse(text, self.completions().unwrap_or(0))
    }

    /// The index of a pod, where it is one that the Job has.
    pub fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index_of(pod).filter(|index| (0..self.completions().unwrap_or(0)).contains(index))
    }

    /// Failed, and not merely sent away because fewer pods were wanted.
    pub fn failed_its_index(&self, pod: &Pod) -> bool {
        self.has_failed(pod) && (has_finalizer(pod) || !is_terminating(pod))
    }

    /// The failures of its index that this failed pod stands for, itself included.
    pub fn failures_after(&self, pod: &Pod) -> Failures {
        let mut failures = failures_before(pod);
        if verdict(self.job, pod) == Verdict::Ignore {
            failures.ignored += 1;
        } else {
            failures.counted += 1;
        }
        failures
    }

    /// Of each index, the failed pod that knows of the most failures.
    pub fn last_failures(&self) -> BTreeMap<i32, (Failures, &Arc<Pod>)> {
        let mut last: BTreeMap<i32, (Failures, &Arc<Pod>)> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| self.failed_its_index(pod)) {
            let Some(index) = index_of(pod) else { continue };
            let failures = self.failures_after(pod);
            let total = |failures: &Failures| failures.counted + failures.ignored;
            match last.get(&index) {
                Some((known, _)) if total(known) >= total(&failures) => {}
                _ => {
                    last.insert(index, (failures, pod));
                }
            }
        }
        last
    }
}
