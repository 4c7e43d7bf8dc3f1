//! What nodes have and what is taken of it, column by column. Pure.

use crate::resources::Resources;
use crate::snapshot::Slot;
use std::collections::HashMap;

/// By slot.
#[derive(Debug, Clone, Default)]
pub struct Amounts {
    pub cpu: Column,
    pub memory: Column,
    pub ephemeral: Column,
    pub pods: Column,
    /// Taken, with a floor for containers that ask for nothing.
    pub scored_cpu: Vec<i64>,
    pub scored_memory: Vec<i64>,
    /// Few nodes have each of these.
    extended: HashMap<String, HashMap<Slot, Amount>>,
}

#[derive(Debug, Clone, Default)]
pub struct Column {
    pub have: Vec<i64>,
    pub used: Vec<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub have: i64,
    pub used: i64,
}

impl Column {
    fn grow(&mut self, len: usize) {
        self.have.resize(len, 0);
        self.used.resize(len, 0);
    }

    pub fn at(&self, slot: Slot) -> Amount {
        Amount {
            have: self.have[slot as usize],
            used: self.used[slot as usize],
        }
    }
}

impl Amounts {
    pub fn grow(&mut self, len: usize) {
        for column in [&mut self.cpu, &mut self.memory, &mut self.ephemeral, &mut self.pods] {
            column.grow(len);
        }
        self.scored_cpu.resize(len, 0);
        self.scored_memory.resize(len, 0);
    }

    /// True if something is different now.
    pub fn set_have(&mut self, slot: Slot, have: &Resources, pods: i64, before: &Resources) -> bool {
        let at = slot as usize;
        let changed = before != have || self.pods.have[at] != pods;
        self.cpu.have[at] = have.milli_cpu;
        self.memory.have[at] = have.memory_bytes;
        self.ephemeral.have[at] = have.ephemeral_bytes;
        self.pods.have[at] = pods;
        for name in before.extended.keys().filter(|name| !have.extended.contains_key(*name)) {
            self.change(slot, name, |amount| amount.have = 0);
        }
        for (name, value) in &have.extended {
            self.change(slot, name, |amount| amount.have = *value);
        }
        changed
    }

    /// `sign`: 1 when a pod comes, -1 when it goes.
    pub fn take(&mut self, slot: Slot, requests: &Resources, scored: (i64, i64), sign: i64) {
        let at = slot as usize;
        // Whatever is asked for, what was added is subtracted again.
        let add = |sum: &mut i64, more: i64| *sum = sum.wrapping_add(sign * more);
        add(&mut self.cpu.used[at], requests.milli_cpu);
        add(&mut self.memory.used[at], requests.memory_bytes);
        add(&mut self.ephemeral.used[at], requests.ephemeral_bytes);
        add(&mut self.pods.used[at], 1);
        add(&mut self.scored_cpu[at], scored.0);
        add(&mut self.scored_memory[at], scored.1);
        for (name, value) in &requests.extended {
            self.change(slot, name, |amount| add(&mut amount.used, *value));
        }
    }

    fn change(&mut self, slot: Slot, name: &str, change: impl FnOnce(&mut Amount)) {
        if !self.extended.contains_key(name) {
            self.extended.insert(name.to_string(), HashMap::new());
        }
        let Some(column) = self.extended.get_mut(name) else {
            return;
        };
        let amount = column.entry(slot).or_default();
        change(amount);
        if *amount == Amount::default() {
            column.remove(&slot);
        }
        if column.is_empty() {
            self.extended.remove(name);
        }
    }

    pub fn extended(&self, slot: Slot, name: &str) -> Amount {
        let column = self.extended.get(name);
        column.and_then(|column| column.get(&slot)).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub fn nothing_taken(&self) -> bool {
        let columns = [&self.cpu, &self.memory, &self.ephemeral, &self.pods];
        let plain = columns.iter().flat_map(|column| &column.used);
        let scored = self.scored_cpu.iter().chain(&self.scored_memory);
        plain.chain(scored).all(|used| *used == 0)
            && self
                .extended
                .values()
                .flat_map(HashMap::values)
                .all(|amount| amount.used == 0)
    }
}
