//! One node: what it said of itself, and its pods. Pure.

use crate::pod::{PodInfo, PodKey};
use crate::resources::{self, Resources};
use crate::selector::Labels;
use k8s_openapi::api::core::v1::{Node, Taint};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct NodeSlot {
    pub name: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_max: i64,
    /// By key.
    pub pods: Vec<Arc<PodInfo>>,
    /// Of its pods.
    pub lowest_priority: Option<i32>,
}

/// What decisions take from a Node object.
#[derive(Debug, Default)]
pub struct Reported {
    labels: Labels,
    taints: Vec<Taint>,
    unschedulable: bool,
    allocatable: Resources,
    pods_max: i64,
}

impl Reported {
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let mut taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        for taint in &mut taints {
            // When it was put there does not matter here.
            taint.time_added = None;
        }
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints,
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: allocatable.map(Resources::from_list).unwrap_or_default(),
            pods_max: allocatable
                .and_then(|list| list.get("pods"))
                .map(|pods| resources::whole(&pods.0))
                .unwrap_or(0),
        }
    }
}

impl NodeSlot {
    pub fn statics_differ(&self, reported: &Reported) -> bool {
        self.labels != reported.labels || self.taints != reported.taints || self.unschedulable != reported.unschedulable
    }

    pub fn take(&mut self, reported: Reported) {
        self.labels = reported.labels;
        self.taints = reported.taints;
        self.unschedulable = reported.unschedulable;
        self.allocatable = reported.allocatable;
        self.pods_max = reported.pods_max;
    }

    fn find(&self, key: &PodKey) -> Result<usize, usize> {
        self.pods.binary_search_by(|pod| pod.key.cmp(key))
    }

    pub fn pod(&self, key: &PodKey) -> Option<&Arc<PodInfo>> {
        self.pods.get(self.find(key).ok()?)
    }

    /// Not one that is there already.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        let lowest = self
            .lowest_priority
            .map_or(pod.priority, |lowest| lowest.min(pod.priority));
        self.lowest_priority = Some(lowest);
        if let Err(at) = self.find(&pod.key) {
            self.pods.insert(at, pod);
        }
    }

    pub fn remove(&mut self, key: &PodKey) -> Option<Arc<PodInfo>> {
        let at = self.find(key).ok()?;
        let pod = self.pods.remove(at);
        if self.lowest_priority == Some(pod.priority) {
            self.lowest_priority = self.pods.iter().map(|pod| pod.priority).min();
        }
        Some(pod)
    }
}
