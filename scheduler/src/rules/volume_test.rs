use super::*;
use crate::schedule::schedule;
use crate::snapshot::Snapshot;
use serde_json::{Value, json};
use std::sync::Arc;

/// Two nodes, and what is stored where.
fn cluster(storage: &Value) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": name, "topology.kubernetes.io/zone": name}},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}}});
        snapshot.set_node(&serde_json::from_value(node).expect("a node"));
    }
    let to = snapshot.storage();
    for (kind, object) in storage
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| (&pair[0], &pair[1]))
    {
        let name = object["metadata"]["name"].as_str().expect("a name").to_string();
        let object = object.clone();
        match kind.as_str() {
            Some("claim") => {
                let claim = ClaimState::of(&serde_json::from_value(object).expect("a claim"));
                drop(to.claims.insert(("d".into(), name), claim));
            }
            Some("volume") => {
                let volume = VolumeState::of(&serde_json::from_value(object).expect("a volume"));
                drop(to.volumes.insert(name, volume));
            }
            _ => {
                let class = ClassState::of(&serde_json::from_value(object).expect("a class"));
                drop(to.classes.insert(name, class));
            }
        }
    }
    snapshot
}

fn pod(volumes: Value) -> Candidate {
    let pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes}});
    Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
}

fn user() -> Candidate {
    pod(json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]))
}

/// A claim named data, changed by a merge patch.
fn claim(patch: &Value) -> Value {
    let mut claim = json!({"metadata": {"name": "data", "uid": "c1"},
        "spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    merge(&mut claim, patch);
    json!(["claim", claim])
}

fn volume(name: &str, patch: &Value) -> Value {
    let mut volume = json!({"metadata": {"name": name, "resourceVersion": "7"}, "spec": {"storageClassName": "late",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"}}, "status": {"phase": "Available"}});
    merge(&mut volume, patch);
    json!(["volume", volume])
}

fn class(provisioner: &str) -> Value {
    json!(["class", {"metadata": {"name": "late"}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}])
}

fn merge(to: &mut Value, patch: &Value) {
    match (to.as_object_mut(), patch.as_object()) {
        (Some(to), Some(patch)) => {
            for (key, value) in patch {
                merge(to.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => *to = patch.clone(),
    }
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [node]}]}]}}}})
}

fn bound() -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}})
}

fn decide(snapshot: &mut Snapshot, candidate: &Candidate) -> Result<String, String> {
    let decision = schedule(snapshot, candidate, 0);
    decision.map(|place| place.node).map_err(|why| why.to_string())
}

#[test]
fn whoever_has_no_claims_waits_for_none_and_nobody_while_they_are_not_followed() {
    let mut snapshot = cluster(&json!([]));
    assert!(decide(&mut snapshot, &pod(json!([]))).is_ok());
    snapshot.state.storage = None;
    assert!(decide(&mut snapshot, &user()).is_ok());
}

#[test]
fn pods_wait_for_their_claims() {
    let both = pod(json!([
        {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "none"}}]));
    let made = pod(json!([{"name": "v", "ephemeral": {}}]));
    let mut foreign = claim(&json!({"metadata": {"name": "p-v"}}));
    foreign[1]["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "other", "controller": true}]);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let lost = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Lost"}});
    let immediate = json!({"spec": {"storageClassName": "other"}});
    let half = json!({"spec": {"volumeName": "pv"}});
    let late = class("driver.example.com");
    for (storage, who, text) in [
        (json!([]), user(), "persistentvolumeclaim \"data\" not found"),
        (
            json!([claim(&deleted)]),
            both,
            "persistentvolumeclaim \"none\" not found",
        ),
        (
            json!([]),
            made.clone(),
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"",
        ),
        (
            json!([foreign]),
            made,
            "PVC d/p-v was not created for pod d/p (pod is not owner)",
        ),
        (
            json!([claim(&deleted)]),
            user(),
            "persistentvolumeclaim \"data\" is being deleted",
        ),
        (
            json!([claim(&lost)]),
            user(),
            "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"pv\"",
        ),
        (
            json!([claim(&immediate)]),
            user(),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            json!([claim(&json!({}))]),
            user(),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            json!([claim(&half), late]),
            user(),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            json!([claim(&bound())]),
            user(),
            "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ),
        (
            json!([claim(&bound()), volume("pv", &on("c"))]),
            user(),
            "2 node(s) didn't match PersistentVolume's node affinity",
        ),
        (
            json!([claim(&json!({})), class("kubernetes.io/no-provisioner")]),
            user(),
            "2 node(s) didn't find available persistent volumes to bind",
        ),
    ] {
        let got = decide(&mut cluster(&storage), &who);
        assert_eq!(got, Err(format!("0/2 nodes are available: {text}.")), "{storage}");
    }
}

#[test]
fn pods_go_where_their_volumes_are() {
    for node in ["a", "b"] {
        let mut snapshot = cluster(&json!([claim(&bound()), volume("pv", &on(node))]));
        assert_eq!(decide(&mut snapshot, &user()), Ok(node.to_string()));
        assert_eq!(before_binding(&snapshot.state, &user(), node), None);
    }
    let mut anywhere = cluster(&json!([claim(&bound()), volume("pv", &json!({}))]));
    assert!(decide(&mut anywhere, &user()).is_ok());
}

#[test]
fn pods_go_to_the_zones_of_their_volumes() {
    let said = |key: &str, value: &str| volume("pv", &json!({"metadata": {"labels": {key: value}}}));
    let of = |volume: Value| cluster(&json!([claim(&bound()), volume]));
    for (key, value, expected) in [
        ("topology.kubernetes.io/zone", "b", Ok("b".to_string())),
        ("topology.kubernetes.io/zone", "c__a", Ok("a".to_string())),
        // The label of old says the same.
        ("failure-domain.beta.kubernetes.io/zone", "b", Ok("b".to_string())),
        (
            "topology.kubernetes.io/zone",
            "c",
            Err("0/2 nodes are available: 2 node(s) had no available volume zone.".to_string()),
        ),
    ] {
        assert_eq!(decide(&mut of(said(key, value)), &user()), expected, "{key}={value}");
    }
    // A node that does not say where it is will do.
    let mut snapshot = of(said("topology.kubernetes.io/zone", "c"));
    let node =
        json!({"metadata": {"name": "d"}, "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}}});
    snapshot.set_node(&serde_json::from_value(node).expect("a node"));
    assert_eq!(decide(&mut snapshot, &user()), Ok("d".to_string()));
}

#[test]
fn volumes_are_chosen_or_asked_for_where_the_pod_goes() {
    let by_hand = class("kubernetes.io/no-provisioner");
    let made = class("driver.example.com");
    let mut only_b = made.clone();
    only_b[1]["allowedTopologies"] = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}]);
    let give = |volume: &str| {
        vec![Step::Give {
            volume: volume.into(),
            version: "7".into(),
            claim: ("d".into(), "data".into()),
            uid: "c1".into(),
        }]
    };
    let provision = vec![Step::Provision {
        claim: ("d".into(), "data".into()),
    }];
    let plain = claim(&json!({}));
    let selected = claim(&json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "b"}}}));
    let size = |text: &str| json!({"spec": {"capacity": {"storage": text}}});
    let of = |name: &str, uid: &str| {
        let mut reserved = on("b");
        reserved["spec"]["claimRef"] = json!({"namespace": "d", "name": name, "uid": uid});
        reserved
    };
    for (what, storage, expected) in [
        (
            "the smallest that is large enough",
            json!([
                plain,
                by_hand,
                volume("large", &size("9Gi")),
                volume("pv", &on("b")),
                volume("small", &size("1Gi"))
            ]),
            ("a", give("large")),
        ),
        (
            "the only one",
            json!([plain, by_hand, volume("pv", &on("b"))]),
            ("b", give("pv")),
        ),
        (
            "reserved for it",
            json!([plain, by_hand, volume("large", &of("data", "")), volume("pv", &on("b"))]),
            ("b", give("large")),
        ),
        (
            "its own: nothing is to be written",
            json!([plain, by_hand, volume("pv", &of("data", "c1"))]),
            ("b", vec![]),
        ),
        (
            "another's",
            json!([plain, made, volume("pv", &of("other", ""))]),
            ("a", provision.clone()),
        ),
        (
            "one of that name that is no more",
            json!([plain, made, volume("pv", &of("data", "c0"))]),
            ("a", provision.clone()),
        ),
        ("made where it can be", json!([plain, only_b]), ("b", provision)),
        ("being made", json!([selected, made]), ("b", vec![])),
    ] {
        let mut snapshot = cluster(&storage);
        let node = decide(&mut snapshot, &user()).expect(what);
        // Where both will do, either may be chosen.
        let other = node == "b"
            && matches!(
                what,
                "another's" | "one of that name that is no more" | "the smallest that is large enough"
            );
        assert!(node == expected.0 || other, "{what}: {node}");
        if what == "the smallest that is large enough" {
            let there = before_binding(&snapshot.state, &user(), "b");
            assert_eq!(there, Some(give("pv")), "{what}");
        }
        assert_eq!(
            before_binding(&snapshot.state, &user(), expected.0),
            Some(expected.1),
            "{what}"
        );
    }
}

#[test]
fn two_claims_do_not_share_a_volume() {
    let mut second = claim(&json!({"metadata": {"uid": "c2"}}));
    second[1]["metadata"]["name"] = json!("more");
    let both = pod(json!([
        {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "more"}}]));
    let hand = class("kubernetes.io/no-provisioner");
    let first = claim(&json!({}));
    let mut one = cluster(&json!([first, second, hand, volume("pv", &on("a"))]));
    assert!(decide(&mut one, &both).is_err());
    let mut two = cluster(&json!([
        first,
        second,
        hand,
        volume("pv", &on("a")),
        volume("pv2", &on("a"))
    ]));
    assert_eq!(decide(&mut two, &both), Ok("a".to_string()));
    assert_eq!(before_binding(&two.state, &both, "a").map(|steps| steps.len()), Some(2));
}

#[test]
fn a_claim_for_one_pod_waits_for_the_other_pod() {
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
    for (mode, message) in [
        ("ReadWriteOnce", None),
        (
            "ReadWriteOncePod",
            Some(
                "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
            ),
        ),
    ] {
        let mut patch = bound.clone();
        patch["spec"]["accessModes"] = json!([mode]);
        let mut snapshot = cluster(&json!([claim(&patch), volume("v", &json!({}))]));
        let other = json!({"metadata": {"namespace": "d", "name": "other", "uid": "o"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
        let other = Arc::new(crate::pod::PodInfo::new(&serde_json::from_value(other).expect("a pod")));
        snapshot.set_pod("a", other.clone());
        let got = schedule(&mut snapshot, &user(), 0).err().map(|why| why.to_string());
        assert_eq!(got.as_deref(), message, "{mode}");
        // A pod without the claim does not care, and when the other is gone nobody does.
        assert!(schedule(&mut snapshot, &pod(json!([])), 0).is_ok());
        snapshot.remove_pod(&other.key);
        assert!(schedule(&mut snapshot, &user(), 0).is_ok(), "{mode}");
    }
}
