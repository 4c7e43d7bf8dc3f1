//! ResourceSlices, as far as decisions care. Pure.

use super::pool::PoolKey;
use crate::selector::{Labels, NodeTerm};
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{self, Counter, DeviceTaint, DeviceToleration, ResourceSlice};
use serde_json::{Value, json};
use skiff_api::quantity::Quantity;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub device: String,
}

/// Amounts by name.
pub type Counters = BTreeMap<String, Quantity>;

#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    pub name: String,
    pub pool: PoolKey,
    /// Of the pool: only slices of the newest count.
    pub generation: i64,
    /// So many slices has the pool in this generation.
    pub slices: i64,
    pub reach: Reach,
    pub devices: Vec<Device>,
    /// What devices of the pool share, by set.
    pub counters: BTreeMap<String, Counters>,
}

/// The nodes that reach a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    All,
    Node(String),
    Nodes {
        terms: Vec<NodeTerm>,
        selector: NodeSelector,
    },
    /// Each of the slice's devices says it for itself.
    PerDevice,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    /// Looked at only if the slice leaves it to the device.
    pub reach: Reach,
    /// As expressions see it: attributes, capacity, allowMultipleAllocations.
    pub seen: Value,
    pub taints: Vec<DeviceTaint>,
    pub consumes: Vec<(String, Counters)>,
}

impl Reach {
    fn of(node: Option<&String>, selector: Option<&NodeSelector>, all: Option<bool>) -> Self {
        match (node, selector) {
            (Some(node), _) => Self::Node(node.clone()),
            (None, Some(selector)) => Self::Nodes {
                terms: selector.node_selector_terms.iter().map(NodeTerm::new).collect(),
                selector: selector.clone(),
            },
            (None, None) if all == Some(true) => Self::All,
            // Nobody.
            (None, None) => Self::Node(String::new()),
        }
    }

    pub fn reaches(&self, node: &String, labels: &Labels) -> bool {
        match self {
            Self::All | Self::PerDevice => true,
            Self::Node(name) => name == node,
            Self::Nodes { terms, .. } => terms.iter().any(|term| term.matches(node, labels)),
        }
    }
}

impl Slice {
    pub fn of(slice: &ResourceSlice) -> Self {
        let spec = &slice.spec;
        let pool = (spec.driver.clone(), spec.pool.name.clone());
        let reach = match spec.per_device_node_selection {
            Some(true) => Reach::PerDevice,
            _ => Reach::of(spec.node_name.as_ref(), spec.node_selector.as_ref(), spec.all_nodes),
        };
        let counters = spec.shared_counters.iter().flatten();
        Self {
            name: slice.metadata.name.clone().unwrap_or_default(),
            generation: spec.pool.generation,
            slices: spec.pool.resource_slice_count,
            reach,
            devices: spec
                .devices
                .iter()
                .flatten()
                .map(|device| Device::of(&pool, device))
                .collect(),
            counters: counters.map(|set| (set.name.clone(), amounts(&set.counters))).collect(),
            pool,
        }
    }

    /// What says which nodes reach the device.
    pub fn reach_of<'a>(&'a self, device: &'a Device) -> &'a Reach {
        match self.reach {
            Reach::PerDevice => &device.reach,
            _ => &self.reach,
        }
    }
}

fn amounts(counters: &BTreeMap<String, Counter>) -> Counters {
    let read = |counter: &Counter| counter.value.0.parse().unwrap_or_else(|_| Quantity::from_units(0));
    counters
        .iter()
        .map(|(name, counter)| (name.clone(), read(counter)))
        .collect()
}

impl Device {
    fn of((driver, pool): &PoolKey, device: &v1::Device) -> Self {
        let consumes = device.consumes_counters.iter().flatten();
        Self {
            id: DeviceId {
                driver: driver.clone(),
                pool: pool.clone(),
                device: device.name.clone(),
            },
            reach: Reach::of(
                device.node_name.as_ref(),
                device.node_selector.as_ref(),
                device.all_nodes,
            ),
            seen: json!({
                "attributes": device.attributes, "capacity": device.capacity,
                "allowMultipleAllocations": device.allow_multiple_allocations,
            }),
            taints: device.taints.clone().unwrap_or_default(),
            consumes: consumes
                .map(|one| (one.counter_set.clone(), amounts(&one.counters)))
                .collect(),
        }
    }

    /// An attribute by its name with domain; what has none is of the driver's.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        let value = self.member("attributes", name)?;
        let (kind, _) = value.as_object()?.iter().next()?;
        ["int", "bool", "string", "version"]
            .contains(&kind.as_str())
            .then_some(value)
    }

    pub fn capacity(&self, name: &str) -> Option<Quantity> {
        self.member("capacity", name)?["value"].as_str()?.parse().ok()
    }

    fn member(&self, of: &str, name: &str) -> Option<&Value> {
        let members = self.seen[of].as_object()?;
        let own = || members.get(name.strip_prefix(&self.id.driver)?.strip_prefix('/')?);
        members.get(name).or_else(own)
    }

    /// Whether its taints let somebody with these tolerations have it.
    pub fn tolerated(&self, tolerations: &[DeviceToleration]) -> bool {
        let bars = |taint: &&DeviceTaint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
        let mut taints = self.taints.iter().filter(bars);
        taints.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    }
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let says = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    says(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && says(&toleration.key).is_none_or(|key| key == taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => says(&toleration.value).unwrap_or_default() == says(&taint.value).unwrap_or_default(),
        }
}
