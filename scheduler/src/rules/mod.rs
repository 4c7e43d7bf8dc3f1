//! The rules that nodes are filtered and scored by, one module each. Pure.

pub mod between;
pub mod fit;
pub mod image;
pub mod selection;
pub mod spread;
pub mod volume;

use crate::filter::Candidate;
use crate::plugin::{Plugin, Refusal};

pub const SCORE_MAX: i64 = 100;

/// What the filters say of one node: the first that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Fits,
    /// The pod names its nodes, and this is none of them.
    NotNamed,
    Unschedulable,
    NodeName,
    Tainted,
    NotEnforced,
    NotSelected,
    PortTaken,
    /// As `fit::Lacking` says.
    Lacking(fit::Lacking),
    /// A claim that one pod at a time may use has its pod.
    InUse,
    NoVolume,
    VolumeElsewhere,
    VolumeMissing,
    OtherZone,
    NoSpreadLabel,
    Skewed,
    NotAmong,
    TooNear,
    Barred,
    NoDevices,
    ClaimElsewhere,
}

impl Code {
    pub fn plugin(self) -> Option<Plugin> {
        Some(match self {
            Self::Fits => return None,
            Self::Unschedulable => Plugin::NodeUnschedulable,
            Self::NodeName => Plugin::NodeName,
            Self::Tainted => Plugin::TaintToleration,
            Self::NotNamed | Self::NotEnforced | Self::NotSelected => Plugin::NodeAffinity,
            Self::PortTaken => Plugin::NodePorts,
            Self::Lacking(_) => Plugin::NodeResourcesFit,
            Self::InUse => Plugin::VolumeRestrictions,
            Self::NoVolume | Self::VolumeElsewhere | Self::VolumeMissing => Plugin::VolumeBinding,
            Self::OtherZone => Plugin::VolumeZone,
            Self::NoSpreadLabel | Self::Skewed => Plugin::PodTopologySpread,
            Self::NotAmong | Self::TooNear | Self::Barred => Plugin::InterPodAffinity,
            Self::NoDevices | Self::ClaimElsewhere => Plugin::DynamicResources,
        })
    }

    /// Removing pods from the node would not help.
    pub fn unresolvable(self) -> bool {
        match self {
            Self::Fits | Self::PortTaken | Self::InUse | Self::Skewed | Self::TooNear | Self::Barred => false,
            Self::Lacking(lacking) => lacking.unresolvable(),
            _ => true,
        }
    }

    /// In upstream's words.
    pub fn reasons(self, candidate: &Candidate) -> Vec<String> {
        let text = match self {
            Self::Fits => return Vec::new(),
            Self::Lacking(lacking) => return lacking.reasons(&candidate.info.requests),
            Self::NotNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Self::Unschedulable => "node(s) were unschedulable",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::Tainted => "node(s) had untolerated taint(s)",
            Self::NotEnforced => "node(s) didn't match scheduler-enforced node affinity",
            Self::NotSelected => "node(s) didn't match Pod's node affinity/selector",
            Self::PortTaken => "node(s) didn't have free ports for the requested pod ports",
            Self::InUse => {
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            }
            Self::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Self::VolumeElsewhere => "node(s) didn't match PersistentVolume's node affinity",
            Self::VolumeMissing => "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            Self::OtherZone => "node(s) had no available volume zone",
            Self::NoSpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Skewed => "node(s) didn't match pod topology spread constraints",
            Self::NotAmong => "node(s) didn't match pod affinity rules",
            Self::TooNear => "node(s) didn't match pod anti-affinity rules",
            Self::Barred => "node(s) didn't satisfy existing pods anti-affinity rules",
            Self::NoDevices => "cannot allocate all claims",
            Self::ClaimElsewhere => "resourceclaim not available on the node",
        };
        vec![text.to_string()]
    }

    pub fn refusal(self, candidate: &Candidate) -> Option<Refusal> {
        Some(Refusal {
            plugin: self.plugin()?,
            reasons: self.reasons(candidate),
            unresolvable: self.unresolvable(),
        })
    }
}

/// Upstream's usual normalisation: the largest becomes 100.
pub fn share(value: i64, most: i64) -> i64 {
    if most == 0 { 0 } else { SCORE_MAX * value / most }
}
