//! What decisions remember: columns that depend on nodes and pods and on a part of
//! what a pod wants, so that pods of one template look only at what changed since.
//! Everything here can be dropped at any time. Pure.

use crate::affinity::{Crowd, Pull};
use crate::devices::Program;
use crate::filter::{Candidate, NodeWants};
use crate::rules::{fit, selection};
use crate::selector::Labels;
use crate::snapshot::{Entry, ShapeId, Shapes, Slot, State};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A column takes up to 160 kB at 5,000 nodes; so many templates are remembered.
const COLUMNS_MAX: usize = 64;
const LISTS_MAX: usize = 1024;

#[derive(Debug, Clone, Default)]
pub struct Memo {
    tick: u64,
    topology: Kept<String, Arc<TopologyColumn>>,
    selections: Kept<Arc<NodeWants>, Arc<selection::Selection>>,
    fits: Kept<fit::Demand, Arc<fit::Fits>>,
    crowds: Kept<Crowd, Arc<Members>>,
    pulls: Kept<(String, Labels), Arc<Pulls>>,
    programs: Kept<String, Option<Program>>,
}

/// The least recently used goes when there are too many.
#[derive(Debug, Clone)]
struct Kept<K, V> {
    entries: HashMap<K, (u64, V)>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Default> Kept<K, V> {
    fn get(&mut self, key: &K, tick: u64, max: usize) -> &mut V {
        if !self.entries.contains_key(key) && self.entries.len() >= max {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        let entry = self.entries.entry(key.clone()).or_default();
        entry.0 = tick;
        &mut entry.1
    }
}

/// Each node's value of one label, as a small number; 0: it has none.
#[derive(Debug, Clone, Default)]
pub struct TopologyColumn {
    seen: Option<u64>,
    ids: HashMap<String, u32>,
    values: Vec<u32>,
}

impl TopologyColumn {
    fn refresh(&mut self, state: &State, key: &str) {
        let changed = self.seen.and_then(|seen| state.statics.since(seen));
        // Values that nobody has any more are forgotten by starting anew.
        let crowded = self.ids.len() > 2 * state.slots.len() + 16;
        match changed.filter(|_| !crowded) {
            Some(changed) => {
                self.values.resize(state.slots.len(), 0);
                changed.for_each(|slot| self.look(state, slot, key));
            }
            None => {
                self.ids.clear();
                self.values = vec![0; state.slots.len()];
                let slots = u32::try_from(state.slots.len()).unwrap_or(u32::MAX);
                (0..slots).for_each(|slot| self.look(state, slot, key));
            }
        }
        self.seen = Some(state.statics.now());
    }

    fn look(&mut self, state: &State, slot: Slot, key: &str) {
        let node = &state.slots[slot as usize];
        let value = node.labels.get(key).filter(|_| state.exists[slot as usize]);
        self.values[slot as usize] = match value {
            None => 0,
            Some(value) => match self.ids.get(value) {
                Some(id) => *id,
                None => {
                    let id = u32::try_from(self.ids.len() + 1).unwrap_or(0);
                    self.ids.insert(value.clone(), id);
                    id
                }
            },
        };
    }

    pub fn at(&self, slot: Slot) -> u32 {
        self.values[slot as usize]
    }

    /// One more than the largest value.
    pub fn width(&self) -> usize {
        self.ids.len() + 1
    }
}

/// How far a list has come: new shapes are added to it, and it starts anew when
/// labels of namespaces change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    shapes: ShapeId,
    gone: u64,
    namespaces: u64,
}

impl Seen {
    fn now(state: &State) -> Self {
        Self {
            shapes: state.shapes.next(),
            gone: state.shapes.gone(),
            namespaces: state.namespaces_version,
        }
    }
}

/// The shapes of pods that a selector is about.
#[derive(Debug, Clone, Default)]
pub struct Members {
    seen: Option<Seen>,
    ids: Vec<ShapeId>,
}

impl Members {
    fn refresh(&mut self, state: &State, crowd: &Crowd) {
        let (now, mut then) = (Seen::now(state), self.seen.unwrap_or_default());
        if crowd.namespace_selector.is_some() && then.namespaces != now.namespaces {
            (self.ids, then) = Default::default();
        }
        if then.gone != now.gone {
            self.ids.retain(|id| state.shapes.get(*id).is_some());
        }
        for (id, entry) in state.shapes.since(then.shapes) {
            if includes(state, crowd, entry) {
                self.ids.push(id);
            }
        }
        self.seen = Some(now);
    }

    pub fn entries<'m, 's: 'm>(&'m self, shapes: &'s Shapes) -> impl Iterator<Item = &'s Entry> + 'm {
        self.ids.iter().filter_map(|id| shapes.get(*id))
    }
}

fn includes(state: &State, crowd: &Crowd, entry: &Entry) -> bool {
    crowd.includes(&state.namespaces, &entry.shape.namespace, &entry.shape.labels)
}

/// The rules of placed pods that are about pods with certain labels.
#[derive(Debug, Clone, Default)]
pub struct Pulls {
    seen: Option<Seen>,
    /// By shape, then by the number of the rule.
    pub found: Vec<(ShapeId, usize, Pull)>,
}

impl Pulls {
    fn refresh(&mut self, state: &State, namespace: &str, labels: &Labels) {
        let (now, mut then) = (Seen::now(state), self.seen.unwrap_or_default());
        if then.namespaces != now.namespaces {
            (self.found, then) = Default::default();
        }
        if then.gone != now.gone {
            self.found.retain(|(id, _, _)| state.shapes.get(*id).is_some());
        }
        for (id, entry) in state.shapes.with_terms_since(then.shapes) {
            for (at, term) in entry.shape.terms.iter().enumerate() {
                if term.term.crowd.includes(&state.namespaces, namespace, labels) {
                    self.found.push((id, at, term.pull));
                }
            }
        }
        self.seen = Some(now);
    }
}

impl Memo {
    /// A new decision begins.
    pub fn start(&mut self) {
        self.tick += 1;
    }

    pub fn topology(&mut self, state: &State, key: &String) -> Arc<TopologyColumn> {
        let kept = self.topology.get(key, self.tick, COLUMNS_MAX);
        if kept.seen != Some(state.statics.now()) {
            Arc::make_mut(kept).refresh(state, key);
        }
        kept.clone()
    }

    pub fn selection(&mut self, state: &State, wants: &Arc<NodeWants>) -> Arc<selection::Selection> {
        let kept = self.selections.get(wants, self.tick, COLUMNS_MAX);
        if !kept.is_fresh(state) {
            Arc::make_mut(kept).refresh(state, wants);
        }
        kept.clone()
    }

    pub fn fits(&mut self, state: &State, candidate: &Candidate, demand: &fit::Demand) -> Arc<fit::Fits> {
        let kept = self.fits.get(demand, self.tick, COLUMNS_MAX);
        if !kept.is_fresh(state) {
            Arc::make_mut(kept).refresh(state, demand, &candidate.profile);
        }
        kept.clone()
    }

    /// A selector of devices, compiled.
    pub fn program(&mut self, expression: &String) -> Program {
        let kept = self.programs.get(expression, self.tick, LISTS_MAX);
        kept.get_or_insert_with(|| Program::compile(expression)).clone()
    }

    pub fn members(&mut self, state: &State, crowd: &Crowd) -> Arc<Members> {
        let kept = self.crowds.get(crowd, self.tick, LISTS_MAX);
        if kept.seen != Some(Seen::now(state)) {
            Arc::make_mut(kept).refresh(state, crowd);
        }
        kept.clone()
    }

    /// Empty without a look if no placed pod has rules.
    pub fn pulls(&mut self, state: &State, candidate: &Candidate) -> Arc<Pulls> {
        if !state.shapes.any_with_terms() {
            return Arc::default();
        }
        let key = (candidate.info.namespace.clone(), candidate.info.labels.clone());
        let kept = self.pulls.get(&key, self.tick, LISTS_MAX);
        if kept.seen != Some(Seen::now(state)) {
            Arc::make_mut(kept).refresh(state, &key.0, &key.1);
        }
        kept.clone()
    }
}
