//! How one pod's resize stands: what it was granted, what is in force, what waits. Pure.

use super::allocation::{self, Allocation};
use super::file::Kept;
use super::ledger::Verdict;
use super::message;
use super::plan::{self, Change, Running};
use crate::pod::observed::{Container as Seen, Observed, State as Life};
use crate::pod::resources::{Host, PodLimits, pod_limits};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
    pub generation: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The generation of the specification that was granted.
    pub generation: i64,
    pub error: Option<String>,
}

/// An event about the pod: warning, reason, message.
pub type Told = (bool, &'static str, String);

/// A condition: type, reason, message, the generation that it is about.
pub type Condition<'a> = (&'static str, Option<&'static str>, Option<&'a str>, i64);

#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    pub allocation: Allocation,
    /// By container id.
    in_force: BTreeMap<String, ResourceRequirements>,
    /// The pod's own resources that its containers run with.
    inherited: Option<ResourceRequirements>,
    /// The pod's cgroup, once it is not as it was made.
    pod_in_force: Option<PodLimits>,
    pub pending: Option<Pending>,
    pub progress: Option<Progress>,
    /// Containers (by id) that were ended so that they begin anew with other resources.
    restarting: BTreeSet<String>,
}

fn generation(pod: &Pod) -> i64 {
    pod.metadata.generation.unwrap_or(0)
}

/// Why such a pod is never resized.
fn never(pod: &Pod) -> Option<&'static str> {
    let annotations = pod.metadata.annotations.as_ref();
    let source = annotations.and_then(|a| a.get("kubernetes.io/config.source"));
    source
        .is_some_and(|source| source != "api")
        .then_some("In-place resize of static-pods is not supported")
}

impl State {
    /// `kept`: what an earlier agent wrote down of a pod that it resized. Without it,
    /// containers tell what they began with.
    pub fn new(pod: &Pod, kept: Option<Kept>, seen: &Observed) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let mut state = Self {
            allocation: Allocation::of(spec),
            inherited: spec.resources.clone(),
            ..Self::default()
        };
        let newest = seen.containers.values().filter_map(|list| list.first());
        for container in newest {
            let Ok(began_with) = serde_json::from_str::<ResourceRequirements>(&container.resources) else {
                continue;
            };
            if let Some(granted) = state.allocation.containers.get_mut(&container.name) {
                *granted = began_with.clone();
            }
            state.in_force.insert(container.id.clone(), began_with);
        }
        if let Some(kept) = kept {
            state.allocation = kept.allocation;
            state.inherited = kept.inherited;
            state.in_force.extend(kept.in_force);
            state.pod_in_force = Some(PodLimits::default());
            state.progress = kept.generation.map(|generation| Progress {
                generation,
                error: None,
            });
        }
        state
    }

    pub fn kept(&self) -> Kept {
        Kept {
            allocation: self.allocation.clone(),
            in_force: self.in_force.clone(),
            inherited: self.inherited.clone(),
            generation: self.progress.as_ref().map(|p| p.generation),
        }
    }

    /// Whether the ledger is to be asked. `Err`: what need not be asked.
    pub fn asks(&self, wanted: &Pod) -> Result<(), Option<Verdict>> {
        let met = wanted.spec.as_ref().is_none_or(|spec| self.allocation.meets(spec));
        match never(wanted) {
            _ if met => Err(None),
            Some(why) => Err(Some(Verdict::Infeasible(why.to_owned()))),
            None => Ok(()),
        }
    }

    /// What the ledger said of `wanted`; `None`: nothing is wanted but what was granted.
    pub fn decided(&mut self, wanted: &Pod, verdict: Option<Verdict>) -> Option<Told> {
        let at = generation(wanted);
        let (reason, message) = match verdict {
            None => {
                self.pending = None;
                return None;
            }
            Some(Verdict::Granted) => {
                self.pending = None;
                self.allocation = Allocation::of(wanted.spec.as_ref()?);
                self.progress = Some(Progress {
                    generation: at,
                    error: None,
                });
                let text = message::of("Pod resize started", wanted, at, "");
                return Some((false, "ResizeStarted", text));
            }
            Some(Verdict::Deferred(message)) => ("Deferred", message),
            Some(Verdict::Infeasible(message)) => ("Infeasible", message),
        };
        let pending = Pending {
            reason,
            message,
            generation: at,
        };
        if self.pending.as_ref() == Some(&pending) {
            return None;
        }
        let text = message::of(&format!("Pod resize {reason}"), wanted, at, &pending.message);
        self.pending = Some(pending);
        let event = if reason == "Deferred" {
            "ResizeDeferred"
        } else {
            "ResizeInfeasible"
        };
        Some((true, event, text))
    }

    pub fn began(&mut self, container: &Seen) {
        if let Ok(began_with) = serde_json::from_str(&container.resources) {
            self.in_force.entry(container.id.clone()).or_insert(began_with);
        }
    }

    /// Whether it was ended for a resize, so that its end is no crash.
    pub fn restarts(&self, id: &str) -> bool {
        self.restarting.contains(id)
    }

    pub fn restart(&mut self, id: &str) {
        self.restarting.insert(id.to_owned());
    }

    fn running(&self, seen: &Observed) -> Vec<Running> {
        let all = seen.all().filter(|c| c.state == Life::Running);
        let known = all.filter_map(|c| {
            Some(Running {
                id: c.id.clone(),
                name: c.name.clone(),
                in_force: self.in_force.get(&c.id)?.clone(),
            })
        });
        known.collect()
    }

    /// What is to be done for the pod to run as granted; `None`: it does.
    pub fn due(
        &self,
        granted: &Pod,
        seen: &Observed,
        host: &Host,
        pids_max: Option<i64>,
    ) -> Option<(Change, PodLimits)> {
        let spec = granted.spec.as_ref()?;
        // Only a pod that is being resized can differ from what it was granted.
        self.progress.as_ref()?;
        let change = plan::change(granted, &self.running(seen), self.inherited.as_ref());
        let limits = pod_limits(spec, host, pids_max);
        let same = change.is_empty() && self.pod_in_force.as_ref() == Some(&limits);
        (!same).then_some((change, limits))
    }

    /// Whether a container has other resources in force than were granted.
    pub fn differs(&self, name: &str, id: &str) -> bool {
        let granted = self.allocation.containers.get(name);
        let pair = granted.zip(self.in_force.get(id));
        pair.is_some_and(|(granted, in_force)| !allocation::same(granted, in_force))
    }

    /// What came of doing it.
    pub fn done(
        &mut self,
        granted: &Pod,
        limits: PodLimits,
        in_force: Vec<(String, ResourceRequirements)>,
        outcome: Result<(), String>,
    ) -> Option<Told> {
        self.in_force.extend(in_force);
        let progress = self.progress.as_mut()?;
        let error = outcome.err();
        if error.is_none() {
            self.pod_in_force = Some(limits);
            self.inherited = granted.spec.as_ref().and_then(|s| s.resources.clone());
        }
        let told = error
            .as_ref()
            .filter(|error| progress.error.as_ref() != Some(*error))
            .map(|error| {
                let text = message::of("Pod resize error", granted, progress.generation, error);
                (true, "ResizeError", text)
            });
        progress.error = error;
        told
    }

    /// Everything that runs is as granted, and nothing is under way.
    pub fn completed(&mut self, granted: &Pod) -> Option<Told> {
        let progress = self.progress.take()?;
        let text = message::of("Pod resize completed", granted, progress.generation, "");
        Some((false, "ResizeCompleted", text))
    }

    /// Forgets containers that are gone.
    pub fn forget(&mut self, seen: &Observed) {
        self.in_force.retain(|id, _| seen.find(id).is_some());
        self.restarting.retain(|id| seen.find(id).is_some());
    }

    pub fn conditions(&self) -> Vec<Condition<'_>> {
        let pending = self.pending.as_ref().map(|p| {
            let message = Some(p.message.as_str());
            ("PodResizePending", Some(p.reason), message, p.generation)
        });
        let progress = self.progress.as_ref().map(|p| {
            let reason = p.error.as_ref().map(|_| "Error");
            ("PodResizeInProgress", reason, p.error.as_deref(), p.generation)
        });
        pending.into_iter().chain(progress).collect()
    }

    /// A container's `resources` and `allocatedResources`; `id` when it runs.
    pub fn shown(&self, container: &str, id: Option<&str>) -> (Option<ResourceRequirements>, Option<Requests>) {
        let Some(granted) = self.allocation.containers.get(container) else {
            return (None, None);
        };
        let in_force = id.and_then(|id| self.in_force.get(id));
        (Some(allocation::shown(granted, in_force)), granted.requests.clone())
    }

    /// The pod's own `resources` and `allocatedResources`, where it has such.
    pub fn shown_pod(&self) -> (Option<ResourceRequirements>, Option<Requests>) {
        let granted = self.allocation.pod.as_ref();
        (granted.cloned(), granted.and_then(|r| r.requests.clone()))
    }
}

pub type Requests = BTreeMap<String, Quantity>;

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
