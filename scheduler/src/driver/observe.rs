//! Takes in what the watches say: snapshot and queue follow, and whom a change may help is
//! woken. A list that is read anew changes only what differs: pods keep their back-off,
//! and what was placed here stays placed.

use super::Driver;
use crate::filter::Candidate;
use crate::hints::{Change, NodeMarks, gated};
use crate::kin::Source;
use crate::preempt::Budget;
use crate::snapshot::{PodInfo, PodKey, key_of};
use crate::watches::{Observed, Selected};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Lists under way, and whether each kind was listed once.
#[derive(Default)]
pub(super) struct Sync {
    nodes: Listing<String>,
    pods: Listing<PodKey>,
    namespaces: Listing<String>,
    selectors: BTreeMap<Source, bool>,
}

#[derive(Default)]
pub(super) struct Listing<K> {
    /// Seen by the list that is being read.
    seen: Option<BTreeSet<K>>,
    pub(super) once: bool,
}

impl<K: Ord> Listing<K> {
    pub(super) fn begin(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    pub(super) fn saw(&mut self, key: impl FnOnce() -> K) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key());
        }
    }

    pub(super) fn end(&mut self) -> BTreeSet<K> {
        self.once = true;
        self.seen.take().unwrap_or_default()
    }
}

/// Kinds whose selectors tell which pods belong together.
const SOURCES: usize = 4;

impl Sync {
    /// Decisions before that would be made on half a cluster.
    pub(super) fn complete(&self) -> bool {
        let selectors = self.selectors.values().filter(|listed| **listed).count();
        self.nodes.once && self.pods.once && self.namespaces.once && selectors == SOURCES
    }
}

impl Driver {
    pub(super) fn observe(&mut self, what: Observed) {
        match what {
            Observed::Node(event) => self.node_event(*event),
            Observed::Pod(event) => match *event {
                Event::Apply(pod) | Event::InitApply(pod) => self.pod_changed(pod.0),
                Event::Delete(pod) => self.pod_gone(&key_of(&pod.0)),
                Event::Init => self.sync.pods.begin(),
                Event::InitDone => self.pods_listed(),
            },
            Observed::Namespace(event) => self.namespace_event(*event),
            Observed::Selector(source, event) => self.selector_event(source, event),
            Observed::Budget(event) => self.budget_event(*event),
            Observed::Claim(event) => self.claim_event(*event),
            Observed::Volume(event) => self.volume_event(*event),
            Observed::StorageClass(event) => self.class_event(*event),
            Observed::ResourceClaim(event) => self.resource_claim_event(*event),
            Observed::DeviceClass(event) => self.device_class_event(*event),
            Observed::ResourceSlice(event) => self.resource_slice_event(*event),
        }
    }

    /// Those whom the change may help get another try.
    pub(super) fn wake(&mut self, change: Change<'_>) {
        let woken = self
            .queue
            .wake(change.concerns(), Instant::now(), |candidate, refused_by| {
                change.may_help(candidate, refused_by)
            });
        self.metrics.incoming(change.name(), "backoff", woken);
    }

    fn node_event(&mut self, event: Event<Node>) {
        match event {
            Event::Apply(node) | Event::InitApply(node) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                self.sync.nodes.saw(|| name.clone());
                let marks = NodeMarks::of(&node);
                let change = match self.nodes.get(&name) {
                    None => Change::NodeAdded,
                    // A heartbeat.
                    Some(known) if *known == marks => return,
                    Some(known) => Change::NodeChanged(known.aspects(&marks)),
                };
                self.nodes.insert(name, marks);
                self.snapshot.set_node(&node);
                self.wake(change);
            }
            Event::Delete(node) => self.node_gone(node.metadata.name.as_deref().unwrap_or_default()),
            Event::Init => self.sync.nodes.begin(),
            Event::InitDone => {
                let seen = self.sync.nodes.end();
                let gone: Vec<String> = self
                    .nodes
                    .keys()
                    .filter(|name| !seen.contains(*name))
                    .cloned()
                    .collect();
                gone.iter().for_each(|name| self.node_gone(name));
            }
        }
    }

    fn node_gone(&mut self, name: &str) {
        self.nodes.remove(name);
        self.snapshot.remove_node(name);
        self.wake(Change::NodeRemoved);
    }

    fn namespace_event(&mut self, event: Event<Namespace>) {
        match event {
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.sync.namespaces.saw(|| name.clone());
                let labels = namespace.metadata.labels.unwrap_or_default();
                if self.snapshot.namespaces().get(&name) != Some(&labels) {
                    self.snapshot.set_namespace(&name, labels);
                    self.wake(Change::NamespaceRelabelled);
                }
            }
            Event::Delete(namespace) => self
                .snapshot
                .remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default()),
            Event::Init => self.sync.namespaces.begin(),
            Event::InitDone => {
                let seen = self.sync.namespaces.end();
                let known = self.snapshot.namespaces().keys();
                let gone: Vec<String> = known.filter(|name| !seen.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.snapshot.remove_namespace(name));
            }
        }
    }

    fn selector_event(&mut self, source: Source, event: Event<Selected>) {
        match event {
            Event::Apply(selected) | Event::InitApply(selected) => {
                let Selected {
                    namespace,
                    name,
                    selector,
                } = selected;
                self.kin.set(source, &namespace, &name, selector);
            }
            Event::Delete(selected) => self.kin.remove(source, &selected.namespace, &selected.name),
            Event::Init => self.kin.clear(source),
            Event::InitDone => drop(self.sync.selectors.insert(source, true)),
        }
    }

    fn budget_event(&mut self, event: Event<PodDisruptionBudget>) {
        let key = |budget: &PodDisruptionBudget| {
            let meta = &budget.metadata;
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        match event {
            Event::Apply(budget) | Event::InitApply(budget) => {
                drop(self.budgets.by_name.insert(key(&budget), budget_of(budget)));
            }
            Event::Delete(budget) => drop(self.budgets.by_name.remove(&key(&budget))),
            Event::Init => {
                self.budgets.by_name.clear();
                self.budgets.synced = false;
            }
            Event::InitDone => {
                self.budgets.synced = true;
                for key in std::mem::take(&mut self.budgets.waiting) {
                    self.queue.made_room(&key, true, Instant::now());
                }
            }
        }
    }

    fn pods_listed(&mut self) {
        let seen = self.sync.pods.end();
        let placed = self.snapshot.pod_keys();
        let known = placed.iter().chain(self.queue.keys());
        let gone: BTreeSet<PodKey> = known.filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.pod_gone(key));
    }

    fn pod_changed(&mut self, pod: Pod) {
        let key = key_of(&pod);
        self.sync.pods.saw(|| key.clone());
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if self.snapshot.pod(&key).is_some_and(|(_, known)| known.uid != uid) {
            // Its end was not seen.
            self.pod_gone(&key);
        }
        let spec = pod.spec.as_ref();
        if let Some(node) = spec.and_then(|spec| spec.node_name.clone()) {
            return self.pod_placed(key, &node, &pod);
        }
        let name = spec.and_then(|spec| spec.scheduler_name.as_deref());
        let profile = self.settings.profiles.get(name.unwrap_or("default-scheduler"));
        let Some(profile) = profile.filter(|_| pod.metadata.deletion_timestamp.is_none()) else {
            self.snapshot.denominate(&key);
            return self.queue.remove(&key);
        };
        let now = Instant::now();
        if gated(&pod) {
            return self.queue.add_gated(key, uid, now);
        }
        // One that was bound and is not seen so yet is old news.
        if self.assumed.contains_key(&key) && !self.queue.contains(&key) {
            return;
        }
        let known = self.queue.contains(&key);
        let candidate = Candidate::with(Arc::new(pod), profile.clone(), None);
        if let Some(node) = candidate.nominated().filter(|_| !self.assumed.contains_key(&key)) {
            self.snapshot.nominate(node, candidate.info.clone());
        }
        if self.queue.add(candidate, now) {
            let event = if known {
                "UnscheduledPodUpdate"
            } else {
                "UnscheduledPodAdd"
            };
            self.metrics.incoming(event, "active", 1);
        }
    }

    fn pod_placed(&mut self, key: PodKey, node: &str, pod: &Pod) {
        let assumed = self.assumed.remove(&key).is_some();
        self.queue.remove(&key);
        self.rooms.give_up(&key);
        self.snapshot.denominate(&key);
        let info = Arc::new(PodInfo::new(pod));
        let before = self
            .snapshot
            .pod(&key)
            .filter(|(place, _)| *place == node)
            .map(|(_, info)| info.clone());
        match &before {
            // As it was assumed.
            Some(before) if same(before, &info) => {}
            _ => self.snapshot.set_pod(node, info.clone()),
        }
        match before {
            Some(before) if !assumed => {
                if before.labels != info.labels {
                    self.wake(Change::Relabelled(&before, &info));
                }
                if before.requests != info.requests {
                    self.wake(Change::Shrunk);
                }
                if info.terminating && !before.terminating {
                    self.wake(Change::Ending(&info));
                }
            }
            _ => self.wake(Change::Placed(&info)),
        }
    }

    fn pod_gone(&mut self, key: &PodKey) {
        self.queue.remove(key);
        self.assumed.remove(key);
        self.rooms.give_up(key);
        self.snapshot.denominate(key);
        self.reporter.forget(key);
        let info = self.snapshot.pod(key).map(|(_, info)| info.clone());
        if let Some(info) = info {
            self.snapshot.remove_pod(key);
            // What it occupied is free.
            self.wake(Change::Gone(&info));
            if let Some(preemptor) = self.rooms.gone(&info.uid) {
                self.queue.activate(&preemptor);
            }
        }
    }
}

/// Whether decisions see the same pod in both.
fn same(a: &PodInfo, b: &PodInfo) -> bool {
    a.labels == b.labels
        && a.requests == b.requests
        && a.terminating == b.terminating
        && a.started == b.started
        && a.preempted == b.preempted
}

fn budget_of(budget: PodDisruptionBudget) -> Budget {
    let status = budget.status.unwrap_or_default();
    Budget {
        namespace: budget.metadata.namespace.unwrap_or_default(),
        selector: budget.spec.and_then(|spec| spec.selector),
        allowed: status.disruptions_allowed.unwrap_or(0),
        disrupted: status.disrupted_pods.unwrap_or_default().into_keys().collect(),
    }
}
