//! The cluster as a decision sees it: nodes in dense order, what they have and
//! what is taken in columns, and how many pods of each shape are where. Kept true
//! by setting and removing nodes and pods, never recounted. Pure.
//!
//! ```text
//! set_node, set_pod, ... --> State (columns, shapes, changes)
//!                               |  what changed since
//!                               v
//! schedule, preempt, explain <- Memo (what earlier decisions worked out)
//! ```

mod amounts;
mod changes;
mod images;
mod nodes;
mod shapes;
mod storage;

pub use amounts::{Amount, Amounts};
pub use changes::Changes;
pub use images::Images;
pub use nodes::NodeSlot;
pub use shapes::{Entry, ShapeId, Shapes};
pub use storage::{ClaimState, ClassState, SELECTED_NODE, Storage, VolumeState};

pub use crate::pod::{PodInfo, PodKey, key_of};

use crate::affinity::Namespaces;
use crate::devices::Devices;
use crate::memo::Memo;
use crate::selector::Labels;
use k8s_openapi::api::core::v1::Node;
use nodes::Reported;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A node's place in the columns. Used again when the node is gone.
pub type Slot = u32;

#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) state: State,
    /// What decisions remember; never part of what is decided.
    pub(crate) memo: Memo,
}

/// A pod that is found by its key, without a second copy of it.
#[derive(Debug, Clone)]
struct Placed(Arc<PodInfo>);

impl Borrow<PodKey> for Placed {
    fn borrow(&self) -> &PodKey {
        &self.0.key
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Placed {}

impl Hash for Placed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

#[derive(Debug, Clone, Default)]
pub struct State {
    names: BTreeMap<String, Slot>,
    pub slots: Vec<NodeSlot>,
    /// By slot. False while only pods name a node, and it is not (or no longer) there.
    pub exists: Vec<bool>,
    free: Vec<Slot>,
    pub existing: usize,
    pub amounts: Amounts,
    pub images: Images,
    pub shapes: Shapes,
    places: HashMap<Placed, Slot>,
    /// How many placed pods use a claim (of storage).
    claim_users: HashMap<PodKey, usize>,
    /// How many pods have each priority.
    priorities: BTreeMap<i32, usize>,
    pub namespaces: Namespaces,
    /// How often labels of namespaces changed.
    pub namespaces_version: u64,
    /// Pods for which room was made, with the node.
    pub nominated: BTreeMap<PodKey, (String, Arc<PodInfo>)>,
    /// `None`: nobody follows claims, so pods are not kept waiting for theirs.
    pub storage: Option<Storage>,
    /// `None`: nobody follows devices, so pods are not kept waiting for them.
    pub devices: Option<Devices>,
    /// Labels, taints, being there.
    pub statics: Changes,
    /// Pods and amounts.
    pub dynamics: Changes,
}

impl Snapshot {
    /// Takes the node's new state; true if that can change a decision (a
    /// heartbeat does not).
    pub fn set_node(&mut self, node: &Node) -> bool {
        let state = &mut self.state;
        let name = node.metadata.name.clone().unwrap_or_default();
        let slot = state.slot_for(&name);
        let reported = Reported::of(node);
        let images = node.status.as_ref().and_then(|status| status.images.as_deref());
        state.images.set(slot, images.unwrap_or_default());
        let new = !std::mem::replace(&mut state.exists[slot as usize], true);
        let at = &mut state.slots[slot as usize];
        let statics = at.statics_differ(&reported) || new;
        let before = std::mem::take(&mut at.allocatable);
        at.take(reported);
        let pods_max = at.pods_max;
        let amounts = state.amounts.set_have(slot, &at.allocatable, pods_max, &before) || new;
        state.existing += usize::from(new);
        if statics {
            state.statics.push(slot);
        }
        if amounts {
            state.dynamics.push(slot);
        }
        statics || amounts
    }

    pub fn remove_node(&mut self, name: &str) {
        let state = &mut self.state;
        let Some(slot) = state.names.get(name).copied() else {
            return;
        };
        if !std::mem::take(&mut state.exists[slot as usize]) {
            return;
        }
        let at = &mut state.slots[slot as usize];
        let before = std::mem::take(&mut at.allocatable);
        at.take(Reported::default());
        state.existing -= 1;
        state.images.remove(slot);
        state.amounts.set_have(slot, &Default::default(), 0, &before);
        state.statics.push(slot);
        state.dynamics.push(slot);
        state.drop_if_unused(slot);
    }

    /// Places a pod (or moves it: a pod is on one node at most).
    pub fn set_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        let state = &mut self.state;
        let slot = state.slot_for(node);
        let known = state.shapes.known(&pod.shape).cloned();
        let pod = match known {
            Some(known) if !Arc::ptr_eq(&known, &pod.shape) => {
                let mut pod = Arc::unwrap_or_clone(pod);
                pod.shape = known;
                Arc::new(pod)
            }
            _ => pod,
        };
        state.shapes.add(slot, &pod);
        state.amounts.take(slot, &pod.requests, pod.scored, 1);
        *state.priorities.entry(pod.priority).or_default() += 1;
        for claim in &pod.claims {
            *state
                .claim_users
                .entry((pod.namespace.clone(), claim.clone()))
                .or_default() += 1;
        }
        state.places.insert(Placed(pod.clone()), slot);
        state.slots[slot as usize].add(pod);
        state.dynamics.push(slot);
    }

    /// The node it was on.
    pub fn remove_pod(&mut self, key: &PodKey) -> Option<String> {
        let state = &mut self.state;
        let slot = state.places.remove(key)?;
        let at = &mut state.slots[slot as usize];
        let name = at.name.clone();
        let pod = at.remove(key)?;
        state.shapes.remove(slot, &pod);
        state.amounts.take(slot, &pod.requests, pod.scored, -1);
        if let Some(count) = state.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                state.priorities.remove(&pod.priority);
            }
        }
        for claim in &pod.claims {
            let key = (pod.namespace.clone(), claim.clone());
            if let Some(count) = state.claim_users.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    state.claim_users.remove(&key);
                }
            }
        }
        state.dynamics.push(slot);
        state.drop_if_unused(slot);
        Some(name)
    }

    pub fn place_of(&self, key: &PodKey) -> Option<&str> {
        let slot = self.state.places.get(key)?;
        Some(&self.state.slots[*slot as usize].name)
    }

    /// The pod and the name of its node.
    pub fn pod(&self, key: &PodKey) -> Option<(&str, &Arc<PodInfo>)> {
        let slot = self.state.places.get(key)?;
        let at = &self.state.slots[*slot as usize];
        Some((&at.name, at.pod(key)?))
    }

    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        let slot = self.state.names.get(node);
        let at = slot.map(|slot| &self.state.slots[*slot as usize]);
        at.into_iter().flat_map(|at| &at.pods)
    }

    /// Keys of all placed pods, in order.
    pub fn pod_keys(&self) -> Vec<PodKey> {
        let mut keys: Vec<PodKey> = self.state.places.keys().map(|pod| pod.0.key.clone()).collect();
        keys.sort();
        keys
    }

    /// Names of the nodes that exist, in order.
    pub fn node_names(&self) -> Vec<String> {
        let names = self.state.names.iter();
        let existing = names.filter(|(_, slot)| self.state.exists[**slot as usize]);
        existing.map(|(name, _)| name.clone()).collect()
    }

    pub fn node_count(&self) -> usize {
        self.state.existing
    }

    pub fn pod_count(&self) -> usize {
        self.state.places.len()
    }

    /// Labels by namespace.
    pub fn namespaces(&self) -> &Namespaces {
        &self.state.namespaces
    }

    pub fn set_namespace(&mut self, name: &str, labels: Labels) {
        let before = self.state.namespaces.insert(name.to_string(), labels);
        if before.as_ref() != self.state.namespaces.get(name) {
            self.state.namespaces_version += 1;
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        if self.state.namespaces.remove(name).is_some() {
            self.state.namespaces_version += 1;
        }
    }

    /// Room was made on `node` for a pod that is not placed yet: pods of lower
    /// priority leave it that room.
    pub fn nominate(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.state.nominated.insert(pod.key.clone(), (node.to_string(), pod));
    }

    /// The pod was placed, is gone, or its nomination is.
    pub fn denominate(&mut self, key: &PodKey) {
        self.state.nominated.remove(key);
    }

    /// Claims, volumes and classes. From the first call on pods wait for their claims.
    pub fn storage(&mut self) -> &mut Storage {
        self.state.storage.get_or_insert_default()
    }

    /// Devices and their claims. From the first call on pods wait for theirs.
    pub fn devices(&mut self) -> &mut Devices {
        self.state.devices.get_or_insert_default()
    }
}

impl State {
    fn slot_for(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.names.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(NodeSlot::default());
            self.exists.push(false);
            self.amounts.grow(self.slots.len());
            u32::try_from(self.slots.len() - 1).expect("fewer nodes than 2^32")
        });
        self.slots[slot as usize] = NodeSlot {
            name: name.to_string(),
            ..NodeSlot::default()
        };
        self.names.insert(name.to_string(), slot);
        // Columns get a place for it.
        self.statics.push(slot);
        self.dynamics.push(slot);
        slot
    }

    /// A slot is kept while pods name the node, even if it is not there.
    fn drop_if_unused(&mut self, slot: Slot) {
        let at = &mut self.slots[slot as usize];
        if !self.exists[slot as usize] && at.pods.is_empty() {
            self.names.remove(&at.name);
            *at = NodeSlot::default();
            self.free.push(slot);
        }
    }

    /// Slots of the nodes that exist.
    pub fn existing(&self) -> impl Iterator<Item = Slot> {
        let slots = (0..).zip(&self.exists);
        slots.filter(|(_, exists)| **exists).map(|(slot, _)| slot)
    }

    pub fn slot_of(&self, name: &str) -> Option<Slot> {
        let slot = *self.names.get(name)?;
        self.exists[slot as usize].then_some(slot)
    }

    pub fn name_of(&self, slot: Slot) -> &str {
        &self.slots[slot as usize].name
    }

    /// How many placed pods use the claim.
    pub fn users_of(&self, claim: &PodKey) -> usize {
        self.claim_users.get(claim).copied().unwrap_or(0)
    }

    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    pub fn nominated_to(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        let all = self.nominated.values();
        all.filter(move |(name, _)| name == node).map(|(_, pod)| pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, allocatable: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}))
            .expect("a node")
    }

    fn pod(name: &str, cpu: &str) -> Arc<PodInfo> {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/x": "1"}}});
        let pod = json!({"metadata": {"namespace": "d", "name": name}, "spec": {"containers": [container]}});
        Arc::new(PodInfo::new(&serde_json::from_value(pod).expect("a pod")))
    }

    fn key(name: &str) -> PodKey {
        ("d".into(), name.into())
    }

    #[test]
    fn accounts_return_to_nothing_when_all_leave() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(&node("a", json!({"cpu": "4", "example.com/x": "8"})));
        for name in ["x", "y"] {
            snapshot.set_pod("a", pod(name, "100m"));
        }
        // A pod that is set twice counts once, and one that moves counts where it is.
        snapshot.set_pod("a", pod("x", "300m"));
        assert_eq!(snapshot.state.amounts.cpu.at(0), Amount { have: 4000, used: 400 });
        assert_eq!(
            snapshot.state.amounts.extended(0, "example.com/x"),
            Amount { have: 8, used: 2 }
        );
        snapshot.set_pod("b", pod("y", "100m"));
        assert_eq!(snapshot.state.amounts.cpu.at(0).used, 300);
        assert_eq!(snapshot.place_of(&key("y")), Some("b"));
        for name in ["x", "y"] {
            snapshot.remove_pod(&key(name));
        }
        let state = &snapshot.state;
        assert!(state.amounts.nothing_taken() && state.shapes.is_empty() && state.priorities.is_empty());
        assert_eq!(
            (state.names.len(), snapshot.pod_count()),
            (1, 0),
            "nobody names b any more"
        );
    }

    #[test]
    fn a_heartbeat_matters_to_nobody() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.set_node(&node("a", json!({"cpu": "4"}))));
        assert!(!snapshot.set_node(&node("a", json!({"cpu": "4"}))));
        assert!(snapshot.set_node(&node("a", json!({"cpu": "5"}))));
        assert!(
            snapshot.set_node(&node("a", json!({"cpu": "5", "example.com/x": "1"}))),
            "an extended resource"
        );
        assert!(snapshot.set_node(&node("a", json!({"cpu": "5"}))), "and its end");
    }

    #[test]
    fn a_node_that_leaves_takes_its_room_along_and_not_its_pods() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(&node("a", json!({"cpu": "4"})));
        snapshot.set_pod("a", pod("x", "1"));
        snapshot.remove_node("a");
        assert_eq!((snapshot.node_count(), snapshot.pods_on("a").count()), (0, 1));
        assert_eq!(snapshot.state.amounts.cpu.at(0), Amount { have: 0, used: 1000 });
        snapshot.set_node(&node("a", json!({"cpu": "4"})));
        assert_eq!(snapshot.state.amounts.cpu.at(0), Amount { have: 4000, used: 1000 });
        snapshot.remove_node("a");
        snapshot.remove_pod(&key("x"));
        snapshot.set_node(&node("b", json!({"cpu": "2"})));
        assert_eq!(snapshot.state.slots.len(), 1, "the slot is used again");
        assert_eq!(snapshot.state.amounts.cpu.at(0), Amount { have: 2000, used: 0 });
    }

    #[test]
    fn pods_of_one_shape_share_it() {
        let mut snapshot = Snapshot::default();
        snapshot.set_pod("a", pod("x", "1"));
        snapshot.set_pod("a", pod("y", "1"));
        let shape = |name| &snapshot.pod(&key(name)).expect("placed").1.shape;
        assert!(Arc::ptr_eq(shape("x"), shape("y")));
    }
}
