//! What must hold, one thing in each file. `Report` is what a simulation left behind.

pub mod backups;
pub mod durable;
pub mod glances;
pub mod leases;
pub mod linearizable;
pub mod once;
pub mod one_leader;
pub mod order;
pub mod quota;
pub mod same_state;
pub mod watches;

use crate::clients::{Glance, Record, Watched};
use crate::observer::{Change, History};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Report {
    pub history: History,
    pub records: Vec<Record>,
    pub glances: Vec<Glance>,
    pub watched: Vec<Watched>,
    /// Leases that were revoked, and at which revision.
    pub revoked: Vec<(i64, u64)>,
    /// By server: the revision and the keys with their values at the end.
    pub finals: BTreeMap<u64, (u64, BTreeMap<String, u64>)>,
}

impl Report {
    /// The values of all keys after a revision.
    pub fn values_at(&self, revision: u64) -> BTreeMap<String, u64> {
        let mut values = BTreeMap::new();
        for change in self.history.range(..=revision).flat_map(|(_, changes)| changes) {
            match change.value {
                Some(value) => values.insert(change.key.clone(), value),
                None => values.remove(&change.key),
            };
        }
        values
    }

    /// Where each value was written.
    pub fn writes(&self) -> BTreeMap<(&str, u64), Vec<u64>> {
        let mut writes: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
        for (revision, changes) in &self.history {
            for Change { key, value, .. } in changes {
                if let Some(value) = value {
                    writes.entry((key, *value)).or_default().push(*revision);
                }
            }
        }
        writes
    }

    pub fn check(&self) -> Result<(), String> {
        once::check(self)?;
        durable::check(self)?;
        order::check(self)?;
        glances::check(self)?;
        watches::check(self)?;
        leases::check(self)?;
        linearizable::check(&self.records)
    }
}
