//! Claims, volumes and classes are followed from the first pod on that has a claim. A pod whose
//! claims are bound only once it has a node is decided first: then its volumes are asked for, and
//! it is decided again, for the same node, when they are bound.

use super::observe::Listing;
use super::{Done, Driver};
use crate::call::{self, MERGE};
use crate::filter::Candidate;
use crate::hints::Change;
use crate::plugin::Plugin;
use crate::queue::Plugins;
use crate::rules::volume::{Step, before_binding};
use crate::snapshot::{ClaimState, ClassState, PodKey, SELECTED_NODE, VolumeState};
use http::Method;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::Event;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Following {
    started: bool,
    claims: Listing<PodKey>,
    volumes: Listing<String>,
    classes: Listing<String>,
    /// Pods that wait for the lists.
    waiting: Vec<PodKey>,
}

/// What a pod's claims needed was written, or could not be.
pub(super) struct Prepared {
    pod: PodKey,
    steps: Vec<Step>,
    failed: bool,
}

impl Driver {
    /// False while claims are not known yet: the pod is tried again when they are.
    pub(super) fn knows_storage(&mut self, pod: &PodKey) -> bool {
        let following = &mut self.storage;
        if following.claims.once && following.volumes.once && following.classes.once {
            return true;
        }
        following.waiting.push(pod.clone());
        if !following.started {
            following.started = true;
            self.snapshot.storage();
            self.watches.start_storage();
        }
        self.queue.making_room(pod);
        false
    }

    fn storage_listed(&mut self) {
        let following = &mut self.storage;
        if following.claims.once && following.volumes.once && following.classes.once {
            for key in std::mem::take(&mut following.waiting) {
                self.queue.made_room(&key, true, Instant::now());
            }
        }
    }

    pub(super) fn claim_event(&mut self, event: Event<PersistentVolumeClaim>) {
        let key = |claim: &PersistentVolumeClaim| {
            let meta = &claim.metadata;
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        let claims = &mut self.snapshot.storage().claims;
        match event {
            Event::Apply(claim) | Event::InitApply(claim) => {
                let key = key(&claim);
                self.storage.claims.saw(|| key.clone());
                if replaced(claims, &key, ClaimState::of(&claim)) {
                    self.wake(Change::Claim(&key));
                }
            }
            Event::Delete(claim) => drop(claims.remove(&key(&claim))),
            Event::Init => self.storage.claims.begin(),
            Event::InitDone => {
                let seen = self.storage.claims.end();
                claims.retain(|key, _| seen.contains(key));
                self.storage_listed();
            }
        }
    }

    pub(super) fn volume_event(&mut self, event: Event<PersistentVolume>) {
        let volumes = &mut self.snapshot.storage().volumes;
        match event {
            Event::Apply(volume) | Event::InitApply(volume) => {
                let name = volume.metadata.name.clone().unwrap_or_default();
                self.storage.volumes.saw(|| name.clone());
                let new = VolumeState::of(&volume);
                let known = volumes.insert(name, new.clone());
                if !known.is_some_and(|known| known.same(&new)) {
                    self.wake(Change::Storage);
                }
            }
            Event::Delete(volume) => drop(volumes.remove(volume.metadata.name.as_deref().unwrap_or_default())),
            Event::Init => self.storage.volumes.begin(),
            Event::InitDone => {
                let seen = self.storage.volumes.end();
                volumes.retain(|name, _| seen.contains(name));
                self.storage_listed();
            }
        }
    }

    pub(super) fn class_event(&mut self, event: Event<StorageClass>) {
        let classes = &mut self.snapshot.storage().classes;
        match event {
            Event::Apply(class) | Event::InitApply(class) => {
                let name = class.metadata.name.clone().unwrap_or_default();
                self.storage.classes.saw(|| name.clone());
                if replaced(classes, &name, ClassState::of(&class)) {
                    self.wake(Change::Storage);
                }
            }
            Event::Delete(class) => drop(classes.remove(class.metadata.name.as_deref().unwrap_or_default())),
            Event::Init => self.storage.classes.begin(),
            Event::InitDone => {
                let seen = self.storage.classes.end();
                classes.retain(|name, _| seen.contains(name));
                self.storage_listed();
            }
        }
    }

    /// Asks for the volumes that a pod needs on the node that was chosen for it. True if it has to wait for them.
    pub(super) fn waits_for_volumes(&mut self, candidate: &Candidate, node: &str, now: Instant) -> bool {
        if candidate.claims.is_empty() {
            return false;
        }
        let Some(steps) = before_binding(&self.snapshot.state, candidate, node) else {
            return false;
        };
        let key = &candidate.info.key;
        if steps.is_empty() {
            let by = Plugins::NONE.with(Plugin::VolumeBinding);
            self.queue.expecting(key, by, now);
            return true;
        }
        self.assume(&steps, node);
        self.queue.making_room(key);
        let (client, done) = (self.client.clone(), self.done.clone());
        let (pod, node) = (key.clone(), node.to_string());
        tokio::spawn(async move {
            let mut failed = false;
            for step in &steps {
                if let Err(error) = write(&client, step, &node).await {
                    let (namespace, pod) = &pod;
                    tracing::warn!(namespace, pod, ?step, %error, "a volume could not be asked for");
                    failed = true;
                }
            }
            // The receiver lives as long as the process schedules.
            let _ = done.send(Done::Prepared(Prepared { pod, steps, failed }));
        });
        true
    }

    /// The next decision counts with what is being written.
    fn assume(&mut self, steps: &[Step], node: &str) {
        let storage = self.snapshot.storage();
        for step in steps {
            match step {
                Step::Give { volume, claim, uid, .. } => {
                    if let Some(volume) = storage.volumes.get_mut(volume) {
                        volume.claim = Some((claim.clone(), uid.clone()));
                    }
                }
                Step::Provision { claim } => {
                    if let Some(claim) = storage.claims.get_mut(claim) {
                        claim.node = node.to_string();
                    }
                }
            }
        }
    }

    pub(super) fn prepared(&mut self, prepared: &Prepared) {
        let now = Instant::now();
        if !prepared.failed {
            return self.queue.made_room(&prepared.pod, true, now);
        }
        // What was written is seen by the watches again.
        let storage = self.snapshot.storage();
        for step in &prepared.steps {
            match step {
                Step::Give { volume, .. } => {
                    if let Some(volume) = storage.volumes.get_mut(volume) {
                        volume.claim = None;
                    }
                }
                Step::Provision { claim } => {
                    if let Some(claim) = storage.claims.get_mut(claim) {
                        claim.node.clear();
                    }
                }
            }
        }
        self.queue.held_in_vain(&prepared.pod, now);
    }
}

/// Whether that is news.
fn replaced<K: Ord + Clone, V: PartialEq>(known: &mut BTreeMap<K, V>, key: &K, new: V) -> bool {
    if known.get(key) == Some(&new) {
        return false;
    }
    known.insert(key.clone(), new);
    true
}

async fn write(client: &kube::Client, step: &Step, node: &str) -> Result<(), kube::Error> {
    let (path, patch) = match step {
        Step::Give {
            volume,
            version,
            claim,
            uid,
        } => {
            let (namespace, name) = claim;
            let reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": namespace, "name": name, "uid": uid});
            let patch = json!({
                "metadata": {"resourceVersion": version, "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
                "spec": {"claimRef": reference},
            });
            (format!("/api/v1/persistentvolumes/{volume}"), patch)
        }
        Step::Provision { claim } => {
            let (namespace, name) = claim;
            let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
            let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
            (path, patch)
        }
    };
    call::send(client, Method::PATCH, &path, MERGE, &patch).await
}
