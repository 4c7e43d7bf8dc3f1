//! The slices of one pool of a driver: only those of the newest generation count, and only
//! when all of them are there. Pure.

use super::slice::{Device, Reach, Slice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Driver and name.
pub type PoolKey = (String, String);

#[derive(Debug, Clone, Default)]
pub struct Pool {
    all: BTreeMap<String, Arc<Slice>>,
    /// Those of the newest generation, by name.
    current: Vec<Arc<Slice>>,
    pub state: Whole,
}

/// Whether a pool's devices can be given away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whole {
    #[default]
    Yes,
    /// Some of its slices are not there yet.
    Updating,
    /// Two of its devices have the same name.
    Invalid,
}

impl Pool {
    pub fn set(&mut self, slice: Arc<Slice>) {
        self.all.insert(slice.name.clone(), slice);
        self.look();
    }

    pub fn remove(&mut self, name: &str) {
        self.all.remove(name);
        self.look();
    }

    fn look(&mut self) {
        let newest = self.all.values().map(|slice| slice.generation).max();
        let current = self.all.values().filter(|slice| Some(slice.generation) == newest);
        self.current = current.cloned().collect();
        let wanted = self.current.first().map_or(0, |slice| slice.slices);
        let mut names = BTreeSet::new();
        let mut devices = self.current.iter().flat_map(|slice| &slice.devices);
        self.state = if !devices.all(|device| names.insert(&device.id.device)) {
            Whole::Invalid
        } else if i64::try_from(self.current.len()).is_ok_and(|there| there < wanted) {
            Whole::Updating
        } else {
            Whole::Yes
        };
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn slices(&self) -> &[Arc<Slice>] {
        &self.current
    }

    fn reaches(&self) -> impl Iterator<Item = &Reach> {
        let of = |slice: &'_ Arc<Slice>| match slice.reach {
            Reach::PerDevice => 0..slice.devices.len(),
            _ => 0..1,
        };
        self.current.iter().flat_map(move |slice| {
            of(slice).map(|at| match slice.reach {
                Reach::PerDevice => &slice.devices[at].reach,
                _ => &slice.reach,
            })
        })
    }

    /// Names of the nodes that alone reach some of it.
    pub fn nodes(&self) -> BTreeSet<&str> {
        let names = self.reaches().filter_map(|reach| match reach {
            Reach::Node(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    pub fn is_wide(&self) -> bool {
        self.reaches().any(|reach| !matches!(reach, Reach::Node(_)))
    }

    pub fn devices(&self) -> impl Iterator<Item = (&Slice, &Device)> {
        let slices = self.current.iter();
        slices.flat_map(|slice| slice.devices.iter().map(move |device| (&**slice, device)))
    }
}
