//! The leases there are, and the keys that go with each. When a lease ends is not known
//! here: the leader says so with a command. Cloning is O(1). Pure.

use crate::contract::*;
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

#[derive(Debug, Clone, Default)]
struct Granted {
    ttl_s: u32,
    keys: OrdSet<Bytes>,
}

#[derive(Debug, Clone, Default)]
pub struct Leases(OrdMap<LeaseId, Granted>);

impl Leases {
    pub fn restore(leases: Vec<Lease>, entries: &[Entry]) -> Self {
        let granted = leases.into_iter().map(|lease| {
            let keys = OrdSet::new();
            (
                lease.id,
                Granted {
                    ttl_s: lease.ttl_s,
                    keys,
                },
            )
        });
        let mut restored = Leases(granted.collect());
        for entry in entries.iter().filter(|e| e.lease() != 0) {
            restored.moved(entry.key(), 0, entry.lease());
        }
        restored
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.0.contains_key(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, id: LeaseId) -> Option<Lease> {
        self.0.get(&id).map(|granted| Lease {
            id,
            ttl_s: granted.ttl_s,
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Lease> {
        self.0.iter().map(|(id, granted)| Lease {
            id: *id,
            ttl_s: granted.ttl_s,
        })
    }

    /// The keys that go with a lease, in order.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.0.get(&id).into_iter().flat_map(|granted| granted.keys.iter())
    }

    pub(super) fn grant(&mut self, lease: Lease) -> Result<(), Refused> {
        if self.contains(lease.id) {
            return Err(Refused::LeaseExists(lease.id));
        }
        let keys = OrdSet::new();
        self.0.insert(
            lease.id,
            Granted {
                ttl_s: lease.ttl_s,
                keys,
            },
        );
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<Vec<Bytes>, Refused> {
        let granted = self.0.remove(&id).ok_or(Refused::LeaseNotFound(id))?;
        Ok(granted.keys.into_iter().collect())
    }

    /// A key went from one lease to another; 0 is none.
    pub(super) fn moved(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if let Some(granted) = self.0.get_mut(&from) {
            granted.keys.remove(key);
        }
        if let Some(granted) = self.0.get_mut(&to) {
            granted.keys.insert(Bytes::copy_from_slice(key));
        }
    }
}
