//! Which change in the cluster may help which pod that was refused. Pure.
//!
//! Waking too many costs decisions; waking too few leaves a pod waiting for five
//! minutes. So a change wakes those whom a plugin refused that looks at what changed,
//! and among them those whose own rules can have to do with it.

use crate::filter::Candidate;
use crate::plugin::Plugin;
use crate::queue::Plugins;
use crate::selector;
use crate::snapshot::{PodInfo, PodKey};
use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    NodeAdded,
    NodeChanged(NodeAspects),
    NodeRemoved,
    /// A pod has got a node.
    Placed(&'a PodInfo),
    /// A placed pod has other labels now.
    Relabelled(&'a PodInfo, &'a PodInfo),
    /// A placed pod asks for another amount.
    Shrunk,
    /// A placed pod is on its way out: it does not count among those that are spread.
    Ending(&'a PodInfo),
    /// A placed pod is gone.
    Gone(&'a PodInfo),
    NamespaceRelabelled,
    /// A claim is new or another than it was.
    Claim(&'a PodKey),
    /// A volume or a class of storage is.
    Storage,
    /// A claim of devices is new or another than it was; with whether it gave devices back.
    ResourceClaim(&'a PodKey, bool),
    /// A class of devices is.
    DeviceClass,
    /// Devices are.
    ResourceSlice,
}

/// What of a node is not as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeAspects {
    pub labels: bool,
    pub taints: bool,
    pub allocatable: bool,
}

/// What of a node decisions look at, to notice what changes: heartbeats change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMarks {
    labels: u64,
    taints: u64,
    allocatable: u64,
}

impl NodeMarks {
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let mut taints = DefaultHasher::new();
        spec.and_then(|spec| spec.unschedulable).hash(&mut taints);
        for taint in spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten() {
            (&taint.key, &taint.value, &taint.effect).hash(&mut taints);
        }
        let mut allocatable = DefaultHasher::new();
        for (name, amount) in status
            .and_then(|status| status.allocatable.as_ref())
            .into_iter()
            .flatten()
        {
            (name, &amount.0).hash(&mut allocatable);
        }
        // Images only say where a pod starts sooner; they ride along.
        for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
            (&image.names, image.size_bytes).hash(&mut allocatable);
        }
        let mut labels = DefaultHasher::new();
        node.metadata.labels.hash(&mut labels);
        Self {
            labels: labels.finish(),
            taints: taints.finish(),
            allocatable: allocatable.finish(),
        }
    }

    pub fn aspects(&self, new: &Self) -> NodeAspects {
        NodeAspects {
            labels: self.labels != new.labels,
            taints: self.taints != new.taints,
            allocatable: self.allocatable != new.allocatable,
        }
    }
}

impl Change<'_> {
    /// Upstream's name of the event, as metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeAdded => "NodeAdd",
            Self::NodeChanged(aspects) if aspects.allocatable => "NodeAllocatableChange",
            Self::NodeChanged(aspects) if aspects.labels => "NodeLabelChange",
            Self::NodeChanged(_) => "NodeTaintChange",
            Self::NodeRemoved => "NodeDelete",
            Self::Placed(_) => "AssignedPodAdd",
            Self::Relabelled(..) => "AssignedPodUpdate",
            Self::Shrunk => "AssignedPodScaleDown",
            Self::Ending(_) => "AssignedPodUpdate",
            Self::Gone(_) => "AssignedPodDelete",
            Self::NamespaceRelabelled => "NamespaceUpdate",
            Self::Claim(_) => "PersistentVolumeClaimUpdate",
            Self::Storage => "PersistentVolumeUpdate",
            Self::ResourceClaim(..) => "ResourceClaimUpdate",
            Self::DeviceClass => "DeviceClassUpdate",
            Self::ResourceSlice => "ResourceSliceUpdate",
        }
    }

    /// The plugins that look at what changed.
    pub fn concerns(self) -> Plugins {
        use Plugin::{
            DynamicResources, InterPodAffinity, NodeAffinity, NodePorts, NodeResourcesFit, NodeUnschedulable,
            PodTopologySpread, TaintToleration, VolumeBinding, VolumeRestrictions, VolumeZone,
        };
        match self {
            Self::NodeAdded => Plugins::ANY,
            Self::NodeChanged(aspects) => {
                let mut plugins = Plugins::NONE;
                if aspects.labels {
                    plugins = [
                        NodeAffinity,
                        PodTopologySpread,
                        InterPodAffinity,
                        VolumeBinding,
                        VolumeZone,
                        DynamicResources,
                    ]
                    .into_iter()
                    .fold(plugins, Plugins::with);
                }
                if aspects.taints {
                    // Spreading counts only nodes whose taints are tolerated, where asked to.
                    plugins = [NodeUnschedulable, TaintToleration, PodTopologySpread]
                        .into_iter()
                        .fold(plugins, Plugins::with);
                }
                match aspects.allocatable {
                    true => plugins.with(NodeResourcesFit),
                    false => plugins,
                }
            }
            // A topology domain less: the skew may be smaller, and a first pod of its kind be the first.
            Self::NodeRemoved => [PodTopologySpread, InterPodAffinity].into_iter().collect(),
            Self::Placed(_) | Self::Relabelled(..) | Self::NamespaceRelabelled => {
                [PodTopologySpread, InterPodAffinity].into_iter().collect()
            }
            Self::Claim(_) => [VolumeRestrictions, VolumeBinding, VolumeZone].into_iter().collect(),
            Self::Storage => Plugins::NONE.with(VolumeBinding).with(VolumeZone),
            Self::ResourceClaim(..) | Self::DeviceClass | Self::ResourceSlice => Plugins::NONE.with(DynamicResources),
            Self::Shrunk => Plugins::NONE.with(NodeResourcesFit),
            Self::Ending(_) => Plugins::NONE.with(PodTopologySpread),
            Self::Gone(_) => [
                NodePorts,
                NodeResourcesFit,
                PodTopologySpread,
                InterPodAffinity,
                VolumeRestrictions,
                VolumeBinding,
            ]
            .into_iter()
            .collect(),
        }
    }

    /// Whether this pod, which those plugins refused, may have a better chance now.
    pub fn may_help(self, candidate: &Candidate, refused_by: Plugins) -> bool {
        let others = |but: &[Plugin]| {
            let concerned = self.concerns();
            ALL.iter()
                .any(|plugin| concerned.contains(*plugin) && refused_by.contains(*plugin) && !but.contains(plugin))
        };
        let by_pods = [Plugin::PodTopologySpread, Plugin::InterPodAffinity];
        match self {
            Self::Placed(pod) | Self::Ending(pod) => counts(candidate, pod),
            Self::Gone(pod) => {
                let ports = refused_by.contains(Plugin::NodePorts) && shares_port(candidate, pod);
                ports || others(&[&by_pods[..], &[Plugin::NodePorts]].concat()) || counts(candidate, pod)
            }
            Self::Claim((namespace, name)) => {
                let mut claims = candidate.claims.iter();
                candidate.info.namespace == *namespace && claims.any(|claim| claim.name == *name)
            }
            Self::ResourceClaim((namespace, name), freed) => {
                let mut claims = candidate.devices.iter();
                let own = candidate.info.namespace == *namespace
                    && claims.any(|entry| entry.claim.as_ref().is_none_or(|claim| claim == name));
                own || freed
            }
            Self::Relabelled(old, new) => counts(candidate, old) || counts(candidate, new),
            _ => others(&[]),
        }
    }
}

const ALL: [Plugin; 14] = [
    Plugin::NodeUnschedulable,
    Plugin::NodeName,
    Plugin::TaintToleration,
    Plugin::NodeAffinity,
    Plugin::NodePorts,
    Plugin::NodeResourcesFit,
    Plugin::VolumeRestrictions,
    Plugin::VolumeBinding,
    Plugin::VolumeZone,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
    Plugin::DynamicResources,
    Plugin::NodeResourcesBalancedAllocation,
    Plugin::ImageLocality,
];

/// Whether a rule between pods may look at the other one. Namespaces that are chosen by
/// their labels count as if they were chosen: they are rare.
fn counts(candidate: &Candidate, other: &PodInfo) -> bool {
    let namespace = &candidate.info.key.0;
    let spec = candidate.spec();
    let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_deref());
    let spreads = constraints.unwrap_or_default().iter().any(|constraint| {
        other.key.0 == *namespace && selector::selects(constraint.label_selector.as_ref(), &other.labels)
    });
    let affinity = spec.and_then(|spec| spec.affinity.as_ref());
    let near = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref());
    let apart = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref());
    let own = [near, apart].into_iter().flatten().flatten();
    spreads
        || own.into_iter().any(|term| term_counts(term, namespace, other))
        // Whose pod keeps others away, and keeps this one away no more.
        || other.bars(&candidate.info)
}

fn term_counts(term: &PodAffinityTerm, own: &str, other: &PodInfo) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let there = match (listed.is_empty(), &term.namespace_selector) {
        (_, Some(_)) => true,
        (true, None) => other.key.0 == own,
        (false, None) => listed.contains(&other.key.0),
    };
    there && selector::selects(term.label_selector.as_ref(), &other.labels)
}

fn shares_port(candidate: &Candidate, other: &PodInfo) -> bool {
    candidate.info.ports.iter().any(|wanted| {
        other
            .ports
            .iter()
            .any(|taken| (wanted.port, &wanted.protocol) == (taken.port, &taken.protocol))
    })
}

/// Whether the pod's gates keep it from being tried.
pub fn gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref());
    !gates.unwrap_or_default().is_empty()
}

#[cfg(test)]
#[path = "hints_test.rs"]
mod tests;
