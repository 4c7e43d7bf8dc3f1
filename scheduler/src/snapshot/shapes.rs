//! Which shapes of pods there are, and how many of each on which node. Pure.

use crate::pod::{PodInfo, Shape};
use crate::snapshot::Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Rises with every new shape and is never used again, so that "the new ones
/// since" is a range.
pub type ShapeId = u64;

/// How many pods of one shape are on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub slot: Slot,
    pub pods: u32,
    /// How many of them are being deleted.
    pub leaving: u32,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub shape: Arc<Shape>,
    /// By slot.
    pub at: Vec<Share>,
}

#[derive(Debug, Clone, Default)]
pub struct Shapes {
    ids: HashMap<Arc<Shape>, ShapeId>,
    entries: BTreeMap<ShapeId, Entry>,
    with_terms: BTreeSet<ShapeId>,
    next: ShapeId,
    /// How many have gone.
    gone: u64,
}

impl Shapes {
    /// The one kept for all equal ones, if there is one.
    pub fn known(&self, shape: &Arc<Shape>) -> Option<&Arc<Shape>> {
        self.ids.get_key_value(shape).map(|(known, _)| known)
    }

    pub fn add(&mut self, slot: Slot, pod: &PodInfo) {
        let id = match self.ids.get(&pod.shape) {
            Some(id) => *id,
            None => self.enter(pod.shape.clone()),
        };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let at = match entry.at.binary_search_by_key(&slot, |share| share.slot) {
            Ok(at) => at,
            Err(at) => {
                let share = Share {
                    slot,
                    pods: 0,
                    leaving: 0,
                };
                entry.at.insert(at, share);
                at
            }
        };
        entry.at[at].pods += 1;
        entry.at[at].leaving += u32::from(pod.terminating);
    }

    fn enter(&mut self, shape: Arc<Shape>) -> ShapeId {
        let id = self.next;
        self.next += 1;
        if !shape.terms.is_empty() {
            self.with_terms.insert(id);
        }
        self.ids.insert(shape.clone(), id);
        self.entries.insert(id, Entry { shape, at: Vec::new() });
        id
    }

    pub fn remove(&mut self, slot: Slot, pod: &PodInfo) {
        let Some(id) = self.ids.get(&pod.shape).copied() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Ok(at) = entry.at.binary_search_by_key(&slot, |share| share.slot) else {
            return;
        };
        entry.at[at].pods -= 1;
        entry.at[at].leaving -= u32::from(pod.terminating);
        if entry.at[at].pods == 0 {
            entry.at.remove(at);
        }
        if entry.at.is_empty() {
            self.leave(id);
        }
    }

    fn leave(&mut self, id: ShapeId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.gone += 1;
        self.ids.remove(&entry.shape);
        self.with_terms.remove(&id);
    }

    pub fn get(&self, id: ShapeId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// What the next new shape will be called.
    pub fn next(&self) -> ShapeId {
        self.next
    }

    /// Changes when a shape goes.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    pub fn since(&self, then: ShapeId) -> impl Iterator<Item = (ShapeId, &Entry)> {
        self.entries.range(then..).map(|(id, entry)| (*id, entry))
    }

    /// Those with rules about other pods.
    pub fn with_terms_since(&self, then: ShapeId) -> impl Iterator<Item = (ShapeId, &Entry)> {
        let ids = self.with_terms.range(then..);
        ids.filter_map(|id| Some((*id, self.entries.get(id)?)))
    }

    pub fn any_with_terms(&self) -> bool {
        !self.with_terms.is_empty()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.entries.is_empty() && self.with_terms.is_empty()
    }
}
