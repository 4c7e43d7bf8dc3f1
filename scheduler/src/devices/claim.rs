//! ResourceClaims and DeviceClasses, as far as decisions care. Pure.

use super::slice::DeviceId;
use crate::selector::NodeTerm;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceClassConfiguration, DeviceSelector, ResourceClaim};
use std::sync::Arc;

/// Pods that may use one claim at once.
const CONSUMERS_MAX: usize = 256;

#[derive(Debug, Clone)]
pub struct ClaimState {
    pub uid: String,
    /// Its `resourceVersion`, as a number.
    pub version: u64,
    pub object: Arc<ResourceClaim>,
    pub deleting: bool,
    /// The uid of the pod that it was made for.
    pub owner: Option<String>,
    pub allocated: bool,
    /// Where it can be used, once it is allocated; `None`: anywhere.
    pub nodes: Option<Vec<NodeTerm>>,
    /// That nobody else can have.
    pub devices: Vec<DeviceId>,
    /// Uids in `status.reservedFor`.
    pub consumers: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassState {
    /// Expressions.
    pub selectors: Vec<String>,
    pub config: Vec<DeviceClassConfiguration>,
}

impl ClaimState {
    pub fn of(mut claim: ResourceClaim) -> Self {
        claim.metadata.managed_fields = None;
        let meta = &claim.metadata;
        let version = meta.resource_version.as_ref().and_then(|version| version.parse().ok());
        let status = claim.status.as_ref();
        let allocation = status.and_then(|status| status.allocation.as_ref());
        let nodes = allocation.and_then(|allocation| allocation.node_selector.as_ref());
        let results = allocation
            .and_then(|allocation| allocation.devices.as_ref())
            .and_then(|devices| devices.results.as_ref());
        let own = results
            .into_iter()
            .flatten()
            .filter(|result| result.admin_access != Some(true));
        let owners = meta.owner_references.iter().flatten();
        let pod = |owner: &&_| is_pod(owner);
        let consumers = status.and_then(|status| status.reserved_for.as_ref());
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            version: version.unwrap_or(0),
            deleting: meta.deletion_timestamp.is_some(),
            owner: owners.into_iter().find(pod).map(|owner| owner.uid.clone()),
            allocated: allocation.is_some(),
            nodes: nodes.map(|nodes| nodes.node_selector_terms.iter().map(NodeTerm::new).collect()),
            devices: own
                .map(|result| DeviceId {
                    driver: result.driver.clone(),
                    pool: result.pool.clone(),
                    device: result.device.clone(),
                })
                .collect(),
            consumers: consumers.into_iter().flatten().map(|one| one.uid.clone()).collect(),
            object: Arc::new(claim),
        }
    }

    /// Whether decisions see the same claim in both.
    pub fn same(&self, other: &Self) -> bool {
        self.version == other.version
    }

    pub fn full(&self) -> bool {
        self.consumers.len() >= CONSUMERS_MAX
    }

    pub fn is_reserved_for(&self, pod: &str) -> bool {
        self.consumers.iter().any(|uid| uid == pod)
    }
}

fn is_pod(owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> bool {
    owner.controller == Some(true) && owner.kind == "Pod" && owner.api_version == "v1"
}

impl ClassState {
    pub fn of(class: &DeviceClass) -> Self {
        Self {
            selectors: expressions(class.spec.selectors.as_deref()),
            config: class.spec.config.clone().unwrap_or_default(),
        }
    }
}

/// Of selectors, those that there are.
pub fn expressions(selectors: Option<&[DeviceSelector]>) -> Vec<String> {
    let all = selectors.unwrap_or_default().iter();
    all.filter_map(|selector| Some(selector.cel.as_ref()?.expression.clone()))
        .collect()
}
