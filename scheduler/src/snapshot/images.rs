//! Which images lie on which nodes. Pure.

use crate::snapshot::Slot;
use k8s_openapi::api::core::v1::ContainerImage;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Bytes by node.
    on: HashMap<Arc<str>, BTreeMap<Slot, i64>>,
    of: HashMap<Slot, Vec<Arc<str>>>,
}

impl Images {
    pub fn set(&mut self, slot: Slot, images: &[ContainerImage]) {
        if self.same(slot, images) {
            return;
        }
        self.remove(slot);
        let mut names = Vec::new();
        for image in images {
            for name in image.names.iter().flatten() {
                let known = self.on.get_key_value(name.as_str()).map(|(known, _)| known.clone());
                let name = known.unwrap_or_else(|| Arc::from(name.as_str()));
                let bytes = image.size_bytes.unwrap_or(0);
                self.on.entry(name.clone()).or_default().insert(slot, bytes);
                names.push(name);
            }
        }
        if !names.is_empty() {
            self.of.insert(slot, names);
        }
    }

    fn same(&self, slot: Slot, images: &[ContainerImage]) -> bool {
        let known = self.of.get(&slot).map(Vec::as_slice).unwrap_or_default();
        let mut known = known.iter();
        let all = images.iter().flat_map(|image| {
            let bytes = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name, bytes))
        });
        let mut same = true;
        for (name, bytes) in all {
            same &= known.next().is_some_and(|known| **known == **name)
                && self.on.get(name.as_str()).and_then(|on| on.get(&slot)) == Some(&bytes);
        }
        same && known.next().is_none()
    }

    pub fn remove(&mut self, slot: Slot) {
        for name in self.of.remove(&slot).unwrap_or_default() {
            if let Some(on) = self.on.get_mut(&name) {
                on.remove(&slot);
                if on.is_empty() {
                    self.on.remove(&name);
                }
            }
        }
    }

    /// The nodes that have it, with its bytes there.
    pub fn on(&self, name: &str) -> Option<&BTreeMap<Slot, i64>> {
        self.on.get(name)
    }
}
