//! A pod to be placed, with what it wants read once. Pure.

use crate::affinity::Crowd;
use crate::pod::{PodInfo, claims};
use crate::profile::{Profile, SpreadDefaults};
use crate::selector::{NodeTerm, Selector};
use crate::tolerations::Tolerated;
use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, Pod, PodSpec, PreferredSchedulingTerm, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub info: Arc<PodInfo>,
    /// How pods of its `spec.schedulerName` are scheduled.
    pub profile: Arc<Profile>,
    /// What its Services and its owner select, for the profile's default spreading;
    /// `None` where nothing selects it, or it spreads by constraints of its own.
    pub kin: Option<Arc<LabelSelector>>,
    /// What it wants of a node by itself, whatever runs there.
    pub node: Arc<NodeWants>,
    pub spread: Spreading,
    pub claims: Vec<Claim>,
    pub devices: Vec<DeviceEntry>,
}

/// Pods of one template want the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeWants {
    /// `spec.nodeName`; empty for pods that are to be placed.
    pub name: String,
    pub selector: Vec<(String, String)>,
    /// Alternatives; `None`: any node.
    pub required: Option<Vec<NodeTerm>>,
    /// The profile's own, which come first.
    pub enforced: Option<Vec<NodeTerm>>,
    pub preferred: Vec<(i32, NodeTerm)>,
    pub tolerations: Vec<Tolerated>,
    pub images: Vec<String>,
    /// The only nodes that can match, if the required terms name them.
    pub named: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Spreading {
    pub hard: Vec<Constraint>,
    pub soft: Vec<Constraint>,
    /// The pod has no constraints of its own; `hard` and `soft` are the profile's.
    pub defaulted: bool,
    /// The soft ones skip nodes that lack one of the keys (not so upstream's own defaults).
    pub all_keys: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Constraint {
    pub key: String,
    pub max_skew: i64,
    pub min_domains: i64,
    /// Whom to count; `None`: the pod's kin.
    pub crowd: Option<Crowd>,
    pub own: bool,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

/// One of `spec.resourceClaims`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceEntry {
    /// `None`: it has not been made yet; empty: none is needed.
    pub claim: Option<String>,
    /// For the pod, from a template.
    pub made: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub name: String,
    /// Made for the pod by a controller (a generic ephemeral volume).
    pub ephemeral: bool,
}

impl Candidate {
    /// With the default profile, owned by nothing.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self::with(pod, Arc::default(), None)
    }

    pub fn with(pod: Arc<Pod>, profile: Arc<Profile>, kin: Option<Arc<LabelSelector>>) -> Self {
        let info = Arc::new(PodInfo::new(&pod));
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let node = Arc::new(node_wants(spec, &profile));
        let spread = spreading(spec, &info, &profile);
        let claims = claims(&pod)
            .map(|(name, ephemeral)| Claim { name, ephemeral })
            .collect();
        let devices = device_entries(&pod);
        Self {
            pod,
            info,
            profile,
            kin,
            node,
            spread,
            claims,
            devices,
        }
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The node that room was made on for this pod.
    pub fn nominated(&self) -> Option<&String> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_ref().filter(|name| !name.is_empty())
    }
}

fn node_wants(spec: &PodSpec, profile: &Profile) -> NodeWants {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let added = profile.added_affinity.as_ref();
    let required = affinity.and_then(required_terms);
    let preferred = [added, affinity].into_iter().flatten().flat_map(preferred_terms);
    NodeWants {
        name: spec.node_name.clone().unwrap_or_default(),
        selector: spec.node_selector.clone().unwrap_or_default().into_iter().collect(),
        enforced: added.and_then(required_terms),
        preferred: preferred.collect(),
        tolerations: spec.tolerations.iter().flatten().map(Tolerated::new).collect(),
        images: images(spec),
        named: required.as_deref().and_then(named),
        required,
    }
}

fn required_terms(affinity: &NodeAffinity) -> Option<Vec<NodeTerm>> {
    let selector: &NodeSelector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(selector.node_selector_terms.iter().map(NodeTerm::new).collect())
}

fn preferred_terms(affinity: &NodeAffinity) -> impl Iterator<Item = (i32, NodeTerm)> {
    let terms = affinity.preferred_during_scheduling_ignored_during_execution.iter();
    terms
        .flatten()
        .filter(|term| term.weight != 0)
        .map(|term: &PreferredSchedulingTerm| (term.weight, NodeTerm::new(&term.preference)))
}

/// One alternative that names no nodes leaves all of them open.
fn named(terms: &[NodeTerm]) -> Option<BTreeSet<String>> {
    let names: Option<Vec<BTreeSet<String>>> = terms.iter().map(NodeTerm::names).collect();
    let names = names.filter(|names| !names.is_empty())?;
    Some(names.into_iter().flatten().collect())
}

/// As nodes report them: with a tag.
fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
    containers
        .map(|container| container.image.as_deref())
        .chain(volumes.map(|image| image.reference.as_deref()))
        .map(|name| {
            let name = name.unwrap_or_default();
            if name.rfind(':') <= name.rfind('/') {
                format!("{name}:latest")
            } else {
                name.to_string()
            }
        })
        .collect()
}

fn spreading(spec: &PodSpec, info: &PodInfo, profile: &Profile) -> Spreading {
    let own = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let defaulted = own.is_empty();
    let defaults = if defaulted { defaults(profile) } else { Vec::new() };
    let all: &[TopologySpreadConstraint] = if defaulted { &defaults } else { own };
    let of = |action: &str| {
        let chosen = all.iter().filter(|one| one.when_unsatisfiable == action);
        chosen.map(|one| constraint(one, info, defaulted)).collect()
    };
    Spreading {
        hard: of("DoNotSchedule"),
        soft: of("ScheduleAnyway"),
        defaulted,
        all_keys: !defaulted || profile.spread != SpreadDefaults::System,
    }
}

fn constraint(constraint: &TopologySpreadConstraint, info: &PodInfo, defaulted: bool) -> Constraint {
    let mut selector = Selector::new(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = info.labels.get(key) {
            selector = selector.and_label(key, value);
        }
    }
    let honors = |policy: &Option<String>, default| policy.as_deref().map_or(default, |policy| policy == "Honor");
    Constraint {
        key: constraint.topology_key.clone(),
        max_skew: i64::from(constraint.max_skew),
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        own: defaulted || selector.selects(&info.labels),
        crowd: (!defaulted).then(|| Crowd::within(&info.namespace, selector)),
        honor_affinity: honors(&constraint.node_affinity_policy, true),
        honor_taints: honors(&constraint.node_taints_policy, false),
    }
}

fn device_entries(pod: &Pod) -> Vec<DeviceEntry> {
    let entries = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let status = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_ref());
    let made = |entry: &str| {
        let mut known = status.into_iter().flatten();
        known
            .find(|known| known.name == entry)
            .map(|known| known.resource_claim_name.clone().unwrap_or_default())
    };
    entries
        .map(|entry| match &entry.resource_claim_name {
            Some(name) => DeviceEntry {
                claim: Some(name.clone()),
                made: false,
            },
            None => DeviceEntry {
                claim: made(&entry.name),
                made: true,
            },
        })
        .collect()
}

/// The constraints of pods that have none.
fn defaults(profile: &Profile) -> Vec<TopologySpreadConstraint> {
    let soft = |key: &str, max_skew| TopologySpreadConstraint {
        topology_key: key.into(),
        max_skew,
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    };
    match &profile.spread {
        // Upstream's numbers.
        SpreadDefaults::System => vec![
            soft("kubernetes.io/hostname", 3),
            soft("topology.kubernetes.io/zone", 5),
        ],
        SpreadDefaults::List(list) => list.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Labels;
    use serde_json::{Value, json};

    fn candidate(spec: Value) -> Candidate {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let pod =
            json!({"metadata": {"namespace": "d", "name": "p", "labels": {"app": "web", "hash": "1"}}, "spec": spec});
        Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
    }

    #[test]
    fn images_have_a_tag() {
        let container = |image: &str| json!({"name": "c", "image": image});
        let spec = json!({
            "initContainers": [container("a")],
            "containers": [container("r.io:5000/b"), container("c:1"), container("d@sha256:00")],
            "volumes": [{"name": "v", "image": {"reference": "e"}}],
        });
        let expected = ["a:latest", "r.io:5000/b:latest", "c:1", "d@sha256:00", "e:latest"];
        assert_eq!(candidate(spec).node.images, expected);
    }

    #[test]
    fn only_if_every_alternative_names_nodes_are_they_known() {
        let named =
            |values: Value| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
        let other = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
        for (terms, expected) in [
            (json!([named(json!(["a"])), named(json!(["b"]))]), Some(2)),
            (json!([named(json!(["a"])), other]), None),
            (json!([other]), None),
        ] {
            let spec = json!({"affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
            let got = candidate(spec).node.named.as_ref().map(BTreeSet::len);
            assert_eq!(got, expected, "{terms}");
        }
        assert_eq!(candidate(json!({})).node.named, None);
    }

    #[test]
    fn constraints_have_defaults_and_take_labels_along() {
        let all = candidate(json!({"topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
             "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["hash", "absent"]},
            {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 3,
             "labelSelector": {"matchLabels": {"app": "db"}}, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"},
        ]}));
        let (hard, soft) = (&all.spread.hard[0], &all.spread.soft[0]);
        let same = Labels::from([("app".into(), "web".into()), ("hash".into(), "1".into())]);
        let other = Labels::from([("app".into(), "web".into()), ("hash".into(), "2".into())]);
        let crowd = hard.crowd.as_ref().expect("its own");
        assert!(crowd.pods.selects(&same) && !crowd.pods.selects(&other));
        assert_eq!((hard.own, hard.max_skew, hard.min_domains), (true, 2, 1));
        assert_eq!((hard.honor_affinity, hard.honor_taints), (true, false));
        assert_eq!((soft.own, soft.min_domains), (false, 3));
        assert_eq!((soft.honor_affinity, soft.honor_taints), (false, true));
        assert!(all.spread.all_keys && !all.spread.defaulted);
        let default = candidate(json!({})).spread;
        let keys: Vec<(&str, i64)> = default
            .soft
            .iter()
            .map(|one| (one.key.as_str(), one.max_skew))
            .collect();
        assert_eq!(
            keys,
            [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)]
        );
        assert!(!default.all_keys && default.defaulted && default.hard.is_empty());
    }

    #[test]
    fn claims_of_devices_are_named_or_made_for_the_pod() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "resourceClaims": [
            {"name": "a", "resourceClaimName": "shared"}, {"name": "b", "resourceClaimTemplateName": "t"},
            {"name": "c", "resourceClaimTemplateName": "t"}, {"name": "d", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-x"}, {"name": "d"}]}});
        let got = Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod"))).devices;
        let got: Vec<(Option<&str>, bool)> = got.iter().map(|one| (one.claim.as_deref(), one.made)).collect();
        let wanted = [
            (Some("shared"), false),
            (Some("p-b-x"), true),
            (None, true),
            (Some(""), true),
        ];
        assert_eq!(got, wanted);
    }

    #[test]
    fn claims_are_named_or_made_for_the_pod() {
        let got = candidate(json!({"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}}]}))
        .claims;
        let got: Vec<(&str, bool)> = got.iter().map(|claim| (claim.name.as_str(), claim.ephemeral)).collect();
        assert_eq!(got, [("data", false), ("p-b", true)]);
    }
}
