//! Devices (dynamic resource allocation): which there are, whose they are, and which a pod
//! gets. Pure.
//!
//! ```text
//! ResourceSlices --> pools --.            .--> allocations, written before the pod is bound
//! ResourceClaims --> taken ---+-- search -+
//! DeviceClasses ---> wants --'            '--> why not
//! ```
//!
//! Source: KEP-4381 (structured parameters), KEP-4816 (prioritized list), KEP-5055 (taints),
//! KEP-4815 (partitionable devices).

mod allocation;
mod claim;
mod market;
mod pool;
mod search;
mod slice;
mod wants;

pub use claim::{ClaimState, ClassState};
pub use slice::{DeviceId, Slice};
pub use wants::{Program, Wants, owned, wants};

use crate::pod::PodKey;
use pool::{Pool, PoolKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a claim's new state means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing, or older than what is known.
    None,
    Changed,
    /// It gave devices back.
    Freed,
}

/// All that is known of devices. From the first pod that claims some on.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    claims: BTreeMap<PodKey, Arc<ClaimState>>,
    pub classes: BTreeMap<String, ClassState>,
    slices: BTreeMap<String, Arc<Slice>>,
    pools: BTreeMap<PoolKey, Pool>,
    /// Pools with devices of one node, by its name.
    local: BTreeMap<String, BTreeSet<PoolKey>>,
    /// Pools with devices that several nodes may reach.
    wide: BTreeSet<PoolKey>,
    /// How many claims have a device: one at most, but for what others than us do.
    taken: HashMap<DeviceId, usize>,
    /// Claims whose allocation is being written, with its devices.
    in_flight: BTreeMap<PodKey, Vec<DeviceId>>,
}

impl Devices {
    pub fn claim(&self, key: &PodKey) -> Option<&Arc<ClaimState>> {
        self.claims.get(key)
    }

    pub fn set_claim(&mut self, key: PodKey, claim: ClaimState) -> News {
        let known = self.claims.get(&key).filter(|known| known.uid == claim.uid);
        if let Some(known) = known
            && (known.version > claim.version || known.same(&claim))
        {
            return News::None;
        }
        let devices = claim.devices.clone();
        let before = self.claims.insert(key, Arc::new(claim));
        let before = before.map(|before| before.devices.clone()).unwrap_or_default();
        self.take(&devices);
        self.give_back(&before);
        let freed = before.iter().any(|device| !self.is_taken(device));
        if freed { News::Freed } else { News::Changed }
    }

    pub fn remove_claim(&mut self, key: &PodKey) -> News {
        let Some(claim) = self.claims.remove(key) else {
            return News::None;
        };
        self.give_back(&claim.devices);
        match claim.devices.is_empty() {
            true => News::Changed,
            false => News::Freed,
        }
    }

    /// Keys of those that are not in the set.
    pub fn claims_but(&self, seen: &BTreeSet<PodKey>) -> Vec<PodKey> {
        self.claims.keys().filter(|key| !seen.contains(*key)).cloned().collect()
    }

    /// These devices are being given to the claim: nobody else gets them meanwhile.
    pub fn begin(&mut self, claim: PodKey, devices: Vec<DeviceId>) {
        self.take(&devices);
        if let Some(before) = self.in_flight.insert(claim, devices) {
            self.give_back(&before);
        }
    }

    /// That was written, or was not. True if it had begun.
    pub fn end(&mut self, claim: &PodKey) -> bool {
        let devices = self.in_flight.remove(claim);
        if let Some(devices) = &devices {
            self.give_back(devices);
        }
        devices.is_some()
    }

    pub fn is_in_flight(&self, claim: &PodKey) -> bool {
        self.in_flight.contains_key(claim)
    }

    fn take(&mut self, devices: &[DeviceId]) {
        for device in devices {
            *self.taken.entry(device.clone()).or_default() += 1;
        }
    }

    fn give_back(&mut self, devices: &[DeviceId]) {
        for device in devices {
            if let Some(count) = self.taken.get_mut(device) {
                *count -= 1;
                if *count == 0 {
                    self.taken.remove(device);
                }
            }
        }
    }

    pub fn is_taken(&self, device: &DeviceId) -> bool {
        self.taken.contains_key(device)
    }

    /// True if that is news.
    pub fn set_slice(&mut self, slice: Slice) -> bool {
        if self.slices.get(&slice.name).is_some_and(|known| **known == slice) {
            return false;
        }
        let slice = Arc::new(slice);
        let before = self.slices.insert(slice.name.clone(), slice.clone());
        if let Some(before) = before.filter(|before| before.pool != slice.pool) {
            self.change_pool(&before.pool, |pool| pool.remove(&before.name));
        }
        self.change_pool(&slice.pool.clone(), |pool| pool.set(slice));
        true
    }

    pub fn remove_slice(&mut self, name: &str) {
        if let Some(slice) = self.slices.remove(name) {
            self.change_pool(&slice.pool, |pool| pool.remove(name));
        }
    }

    pub fn slices_but(&self, seen: &BTreeSet<String>) -> Vec<String> {
        self.slices
            .keys()
            .filter(|name| !seen.contains(*name))
            .cloned()
            .collect()
    }

    fn change_pool(&mut self, key: &PoolKey, change: impl FnOnce(&mut Pool)) {
        let pool = self.pools.entry(key.clone()).or_default();
        for node in pool.nodes() {
            if let Some(keys) = self.local.get_mut(node) {
                keys.remove(key);
                if keys.is_empty() {
                    self.local.remove(node);
                }
            }
        }
        self.wide.remove(key);
        change(pool);
        if pool.is_empty() {
            self.pools.remove(key);
            return;
        }
        for node in pool.nodes() {
            self.local.entry(node.to_string()).or_default().insert(key.clone());
        }
        if pool.is_wide() {
            self.wide.insert(key.clone());
        }
    }

    /// Pools that may have devices for the node, by driver and name.
    fn pools_for(&self, node: &str) -> impl Iterator<Item = (&PoolKey, &Pool)> {
        let local = self.local.get(node);
        let keys: BTreeSet<&PoolKey> = local.into_iter().flatten().chain(&self.wide).collect();
        keys.into_iter().filter_map(|key| Some((key, self.pools.get(key)?)))
    }
}

#[cfg(test)]
mod oracle_test;
#[cfg(test)]
mod test;
