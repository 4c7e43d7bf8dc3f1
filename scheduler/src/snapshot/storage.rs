//! Claims, volumes and classes of storage, as far as decisions care. Pure.

use crate::pod::PodKey;
use crate::resources::whole;
use crate::selector::{Labels, NodeTerm, Selector};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Set by the controller that binds claims, when both sides say so.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Tells a provisioner for which node a volume is wanted.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The class's older place.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

#[derive(Debug, Clone, Default)]
pub struct Storage {
    pub claims: BTreeMap<PodKey, ClaimState>,
    pub volumes: BTreeMap<String, VolumeState>,
    pub classes: BTreeMap<String, ClassState>,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimState {
    pub uid: String,
    /// `spec.volumeName`; empty while it has none.
    pub volume: String,
    /// Claim and volume are bound to each other for good.
    pub bound: bool,
    /// The volume is gone (phase Lost).
    pub lost: bool,
    pub deleting: bool,
    /// Uid of what it was made for, if it was made for something.
    pub controller: String,
    /// The node for which its volume is being made.
    pub node: String,
    pub class: String,
    /// Of volumes it may be bound to.
    pub selector: Option<Selector>,
    pub modes: Vec<String>,
    pub volume_mode: String,
    pub bytes: i64,
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeState {
    /// Its `resourceVersion`: who gives it away must have seen it as it is.
    pub version: String,
    /// Whose it is, or shall be; with the uid if that is known.
    pub claim: Option<(PodKey, String)>,
    /// It can be given to a claim.
    pub available: bool,
    /// The nodes that reach it, as alternatives; `None`: any.
    pub nodes: Option<Vec<NodeTerm>>,
    /// Labels that say in which zones and regions it is, with what a node may have there.
    pub zones: Vec<(String, Vec<String>)>,
    pub class: String,
    pub labels: Labels,
    pub modes: Vec<String>,
    pub volume_mode: String,
    pub bytes: i64,
}

/// A StorageClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassState {
    /// Claims are bound when a pod that uses them is placed.
    pub waits_for_pod: bool,
    /// Volumes are made on demand.
    pub provisions: bool,
    /// Where they can be made, as alternatives of labels with values; empty: anywhere.
    pub topologies: Vec<Vec<(String, Vec<String>)>>,
}

/// Where volumes and nodes are, by its names of now and of old.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// The label that says the same, now or of old.
fn other_name(key: &str) -> &'static str {
    let at = ZONES.iter().position(|known| *known == key).unwrap_or_default();
    ZONES[(at + 2) % ZONES.len()]
}

/// Of several zones one will do: they are written `a__b`.
fn zones(labels: Option<&Labels>) -> Vec<(String, Vec<String>)> {
    let said = |key: &&str| {
        let values = labels?.get(*key)?;
        Some(((*key).to_string(), values.split("__").map(str::to_string).collect()))
    };
    ZONES.iter().filter_map(said).collect()
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

impl ClaimState {
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let meta = &claim.metadata;
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.as_ref();
        let volume = spec.volume_name.unwrap_or_default();
        let owners = meta.owner_references.iter().flatten();
        let controller = owners
            .filter(|owner| owner.controller == Some(true))
            .map(|owner| &owner.uid);
        let class = annotation(meta, CLASS).map(str::to_string).or(spec.storage_class_name);
        let requests = spec.resources.and_then(|resources| resources.requests);
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            bound: !volume.is_empty() && annotation(meta, BIND_COMPLETED).is_some(),
            volume,
            lost: status.and_then(|status| status.phase.as_deref()) == Some("Lost"),
            deleting: meta.deletion_timestamp.is_some(),
            controller: controller.into_iter().next().cloned().unwrap_or_default(),
            node: annotation(meta, SELECTED_NODE).unwrap_or_default().to_string(),
            class: class.unwrap_or_default(),
            selector: spec.selector.as_ref().map(|selector| Selector::new(Some(selector))),
            modes: spec.access_modes.unwrap_or_default(),
            volume_mode: mode(spec.volume_mode),
            bytes: requests
                .as_ref()
                .and_then(|list| list.get("storage"))
                .map_or(0, |size| whole(&size.0)),
        }
    }
}

impl VolumeState {
    pub fn of(volume: &PersistentVolume) -> Self {
        let meta = &volume.metadata;
        let spec = volume.spec.clone().unwrap_or_default();
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let claim = spec.claim_ref.map(|claim| {
            let key = (claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
            (key, claim.uid.unwrap_or_default())
        });
        let nodes = spec.node_affinity.and_then(|affinity| affinity.required);
        let capacity = spec.capacity.as_ref().and_then(|list| list.get("storage"));
        Self {
            version: meta.resource_version.clone().unwrap_or_default(),
            available: meta.deletion_timestamp.is_none() && matches!(phase, None | Some("" | "Pending" | "Available")),
            claim,
            zones: zones(meta.labels.as_ref()),
            nodes: nodes.map(|nodes| nodes.node_selector_terms.iter().map(NodeTerm::new).collect()),
            class: spec.storage_class_name.unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            modes: spec.access_modes.unwrap_or_default(),
            volume_mode: mode(spec.volume_mode),
            bytes: capacity.map_or(0, |size| whole(&size.0)),
        }
    }

    /// Whether decisions see the same volume in both.
    pub fn same(&self, other: &Self) -> bool {
        let unversioned = |volume: &Self| Self {
            version: String::new(),
            ..volume.clone()
        };
        unversioned(self) == unversioned(other)
    }

    pub fn reaches(&self, node: &String, labels: &Labels) -> bool {
        let nodes = self.nodes.as_ref();
        nodes.is_none_or(|terms| terms.iter().any(|term| term.matches(node, labels)))
    }

    /// Whether the node is where the volume's labels say; one that does not say where it is will do.
    pub fn in_zone(&self, labels: &Labels) -> bool {
        if !ZONES.iter().any(|key| labels.contains_key(*key)) {
            return true;
        }
        self.zones.iter().all(|(key, values)| {
            let at = labels.get(key).or_else(|| labels.get(other_name(key)));
            at.is_some_and(|at| values.contains(at))
        })
    }

    /// Whether it could be the claim's, nodes aside.
    pub fn suits(&self, key: &PodKey, claim: &ClaimState) -> bool {
        let own = |(known, uid): &(PodKey, String)| known == key && (uid.is_empty() || *uid == claim.uid);
        match &self.claim {
            Some(of) if !own(of) => return false,
            None if !self.available => return false,
            _ => {}
        }
        self.class == claim.class
            && self.bytes >= claim.bytes
            && self.volume_mode == claim.volume_mode
            && claim.modes.iter().all(|mode| self.modes.contains(mode))
            && (self.claim.is_some() || claim.selector.as_ref().is_none_or(|wants| wants.selects(&self.labels)))
    }
}

impl ClassState {
    pub fn of(class: &StorageClass) -> Self {
        let alternative = |term: &TopologySelectorTerm| {
            let rules = term.match_label_expressions.iter().flatten();
            rules.map(|rule| (rule.key.clone(), rule.values.clone())).collect()
        };
        let topologies = class.allowed_topologies.iter().flatten();
        Self {
            waits_for_pod: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisions: !matches!(class.provisioner.as_str(), "" | NO_PROVISIONER),
            topologies: topologies.map(alternative).collect(),
        }
    }

    /// Whether a volume can be made for a node with these labels.
    pub fn provisions_on(&self, labels: &Labels) -> bool {
        let holds = |(key, values): &(String, Vec<String>)| labels.get(key).is_some_and(|value| values.contains(value));
        self.provisions && (self.topologies.is_empty() || self.topologies.iter().any(|term| term.iter().all(holds)))
    }
}

fn mode(mode: Option<String>) -> String {
    mode.unwrap_or_else(|| "Filesystem".into())
}
