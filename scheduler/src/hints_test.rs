use super::*;
use serde_json::{Value, json};
use std::sync::Arc;

fn pod(name: &str, labels: Value, spec: Value) -> Candidate {
    let mut pod = json!({"metadata": {"namespace": "d", "name": name, "uid": name, "labels": labels}, "spec": spec});
    pod["spec"]["containers"] = json!([{"name": "c", "ports": spec["ports"]}]);
    Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
}

fn by(plugins: &[Plugin]) -> Plugins {
    plugins.iter().copied().collect()
}

fn node(change: impl Fn(&mut Value)) -> NodeMarks {
    let mut node = json!({"metadata": {"name": "n", "labels": {"zone": "a"}, "resourceVersion": "1"},
        "spec": {}, "status": {"allocatable": {"cpu": "4"}, "conditions": []}});
    change(&mut node);
    NodeMarks::of(&serde_json::from_value(node).expect("a node"))
}

#[test]
fn a_nodes_aspects_are_told_apart_and_heartbeats_are_none() {
    let before = node(|_| {});
    let aspects = |change: &dyn Fn(&mut Value)| before.aspects(&node(change));
    let (labels, taints, allocatable) = (true, true, true);
    let none = NodeAspects::default();
    assert_eq!(
        aspects(&|node| node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}])),
        none
    );
    assert_eq!(
        aspects(&|node| node["metadata"]["labels"]["zone"] = json!("b")),
        NodeAspects { labels, ..none }
    );
    assert_eq!(
        aspects(&|node| node["spec"]["unschedulable"] = json!(true)),
        NodeAspects { taints, ..none }
    );
    assert_eq!(
        aspects(&|node| node["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}])),
        NodeAspects { taints, ..none }
    );
    assert_eq!(
        aspects(&|node| node["status"]["allocatable"]["gpu"] = json!("1")),
        NodeAspects { allocatable, ..none }
    );
}

#[test]
fn who_is_woken_by_what() {
    let plain = pod("plain", json!({"app": "a"}), json!({}));
    let port = pod(
        "port",
        json!({}),
        json!({"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}),
    );
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}});
    let near = pod(
        "near",
        json!({}),
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
    );
    let apart = pod(
        "apart",
        json!({}),
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
    );
    let spread = pod(
        "spread",
        json!({}),
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "a"}}}]}),
    );
    let claims = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    let claims = pod("claims", json!({}), claims);
    let (own, other) = (
        ("d".to_string(), "data".to_string()),
        ("e".to_string(), "data".to_string()),
    );
    let taints = NodeAspects {
        taints: true,
        ..NodeAspects::default()
    };
    use Plugin::{InterPodAffinity, NodePorts, NodeResourcesFit, PodTopologySpread, TaintToleration, VolumeBinding};
    for (what, change, refused, by_plugins, woken) in [
        (
            "a new node helps all",
            Change::NodeAdded,
            &plain,
            by(&[NodeResourcesFit]),
            true,
        ),
        (
            "room, not taints",
            Change::NodeChanged(taints),
            &plain,
            by(&[NodeResourcesFit]),
            false,
        ),
        (
            "taints",
            Change::NodeChanged(taints),
            &plain,
            by(&[TaintToleration]),
            true,
        ),
        ("its claim", Change::Claim(&own), &claims, by(&[VolumeBinding]), true),
        (
            "another claim",
            Change::Claim(&other),
            &claims,
            by(&[VolumeBinding]),
            false,
        ),
        ("a volume", Change::Storage, &claims, by(&[VolumeBinding]), true),
        (
            "a volume is no room",
            Change::Storage,
            &claims,
            by(&[NodeResourcesFit]),
            false,
        ),
        (
            "room is freed",
            Change::Gone(&near.info),
            &plain,
            by(&[NodeResourcesFit]),
            true,
        ),
        (
            "taints stay",
            Change::Gone(&near.info),
            &plain,
            by(&[TaintToleration]),
            false,
        ),
        (
            "a placed pod takes room",
            Change::Placed(&near.info),
            &plain,
            by(&[NodeResourcesFit]),
            false,
        ),
        (
            "one to be near to",
            Change::Placed(&plain.info),
            &near,
            by(&[InterPodAffinity]),
            true,
        ),
        (
            "another one",
            Change::Placed(&port.info),
            &near,
            by(&[InterPodAffinity]),
            false,
        ),
        (
            "one to keep away from goes",
            Change::Gone(&plain.info),
            &apart,
            by(&[InterPodAffinity]),
            true,
        ),
        (
            "who kept it away goes",
            Change::Gone(&apart.info),
            &plain,
            by(&[InterPodAffinity]),
            true,
        ),
        (
            "who does not",
            Change::Gone(&near.info),
            &plain,
            by(&[InterPodAffinity]),
            false,
        ),
        (
            "one counted",
            Change::Placed(&plain.info),
            &spread,
            by(&[PodTopologySpread]),
            true,
        ),
        (
            "one not counted",
            Change::Gone(&port.info),
            &spread,
            by(&[PodTopologySpread]),
            false,
        ),
        ("the port", Change::Gone(&port.info), &port, by(&[NodePorts]), true),
        ("no port", Change::Gone(&plain.info), &port, by(&[NodePorts]), false),
        (
            "relabelled away",
            Change::Relabelled(&plain.info, &port.info),
            &apart,
            by(&[InterPodAffinity]),
            true,
        ),
        ("asks for less", Change::Shrunk, &plain, by(&[NodeResourcesFit]), true),
        (
            "one counted ends",
            Change::Ending(&plain.info),
            &spread,
            by(&[PodTopologySpread]),
            true,
        ),
        (
            "its room is still taken",
            Change::Ending(&plain.info),
            &plain,
            by(&[NodeResourcesFit]),
            false,
        ),
        (
            "labels of a namespace",
            Change::NamespaceRelabelled,
            &near,
            by(&[InterPodAffinity]),
            true,
        ),
        (
            "which others do not ask",
            Change::NamespaceRelabelled,
            &plain,
            by(&[NodeResourcesFit]),
            false,
        ),
    ] {
        assert_eq!(change.may_help(refused, by_plugins), woken, "{what}");
    }
}

#[test]
fn what_helps_a_pod_is_something_that_concerns_its_plugins() {
    let candidate = pod("a", json!({}), json!({}));
    for plugin in ALL {
        for change in [
            Change::NodeAdded,
            Change::NodeRemoved,
            Change::Shrunk,
            Change::Gone(&candidate.info),
        ] {
            if change.may_help(&candidate, by(&[plugin])) {
                assert!(change.concerns().contains(plugin), "{change:?} {plugin:?}");
            }
        }
    }
}

#[test]
fn claims_of_devices_wake_their_pods_and_given_back_devices_wake_all() {
    let claims = json!([{"name": "x", "resourceClaimName": "mine"}]);
    let named = pod("named", json!({}), json!({"resourceClaims": claims}));
    let templates = json!([{"name": "x", "resourceClaimTemplateName": "t"}]);
    let unmade = pod("unmade", json!({}), json!({"resourceClaims": templates}));
    let key = |namespace: &str, name: &str| (namespace.to_string(), name.to_string());
    let (mine, other, elsewhere) = (key("d", "mine"), key("d", "other"), key("e", "mine"));
    for (claim, freed, pod, woken) in [
        (&mine, false, &named, true),
        (&other, false, &named, false),
        (&elsewhere, false, &named, false),
        (&other, true, &named, true),
        (&elsewhere, true, &named, true),
        // Its own claim may be this one.
        (&other, false, &unmade, true),
    ] {
        let change = Change::ResourceClaim(claim, freed);
        let got = change.may_help(pod, by(&[Plugin::DynamicResources]));
        assert_eq!(got, woken, "{claim:?} {freed} {}", pod.info.key.1);
    }
    for change in [Change::DeviceClass, Change::ResourceSlice] {
        assert!(change.may_help(&named, by(&[Plugin::DynamicResources])));
        assert!(!change.may_help(&named, by(&[Plugin::NodeResourcesFit])));
    }
}
