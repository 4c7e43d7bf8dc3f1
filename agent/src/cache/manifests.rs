//! The node's own pods in its copy: they come before what the API has by their names,
//! and mirrors of pods that the node does not run are nobody's.

use super::{Cache, Change, State};
use crate::manifest::{is_mirror, mirror};
use crate::pod::spec::Key;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Both in one lookup: the node's own pod, and the API's.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

pub(super) fn pod(state: &State, key: &Key) -> Option<Arc<Pod>> {
    let held = state.pods.get(key);
    match state.manifests.get(key) {
        Some(own) => Some(Arc::new(mirror::shown(own, held.map(Arc::as_ref)))),
        None => held.filter(|pod| !is_mirror(pod)).cloned(),
    }
}

pub(super) fn pods(state: &State) -> BTreeMap<Key, Arc<Pod>> {
    let keys = state.pods.keys().chain(state.manifests.keys());
    keys.filter_map(|key| Some((key.clone(), pod(state, key)?))).collect()
}

impl Cache {
    /// Replaces the node's own pods and tells of those that differ.
    pub fn set_manifests(&self, manifests: BTreeMap<Key, Arc<Pod>>) {
        let mut state = self.lock();
        let uid = |pods: &BTreeMap<Key, Arc<Pod>>, key: &Key| pods.get(key).and_then(|p| p.metadata.uid.clone());
        let keys = state.manifests.keys().chain(manifests.keys());
        let changed: std::collections::BTreeSet<Key> = keys
            .filter(|key| uid(&state.manifests, key) != uid(&manifests, key))
            .cloned()
            .collect();
        // A file that was only looked at again is the pod that it was.
        let mut manifests = manifests;
        for (key, pod) in &mut manifests {
            if let Some(known) = state.manifests.get(key).filter(|_| !changed.contains(key)) {
                *pod = known.clone();
            }
        }
        state.manifests = manifests;
        drop(state);
        for key in changed {
            self.touch(key);
        }
    }

    /// Has the pod looked at again.
    pub fn touch(&self, key: Key) {
        let _ = self.changes.send(Change::Pod(key));
    }

    pub fn own_and_held(&self, key: &Key) -> Pair {
        let state = self.lock();
        (state.manifests.get(key).cloned(), state.pods.get(key).cloned())
    }

    /// The UID under which the API has a pod of the node's own.
    pub fn mirror_uid(&self, own: &Pod) -> Option<String> {
        let state = self.lock();
        let held = state.pods.get(&crate::pod::spec::key(own))?;
        let same = crate::manifest::mirrors(held, own);
        held.metadata.uid.clone().filter(|_| same)
    }

    /// False when the API is being asked for this one already.
    pub fn begin_mirroring(&self, key: &Key) -> bool {
        self.lock().mirroring.insert(key.clone())
    }

    pub fn end_mirroring(&self, key: &Key, again: bool) {
        self.lock().mirroring.remove(key);
        if again {
            self.touch(key.clone());
        }
    }
}
