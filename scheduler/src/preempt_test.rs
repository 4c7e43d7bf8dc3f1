use super::*;
use crate::pod::PodInfo;
use crate::schedule::schedule;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

fn cluster(nodes: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "2Gi", "pods": "10", "example.com/x": "5"}}});
        snapshot.set_node(&serde_json::from_value::<Node>(node).expect("a node"));
    }
    snapshot
}

fn pod(name: &str, priority: i32, requests: Value) -> Value {
    json!({"metadata": {"namespace": "d", "name": name, "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]}, "status": {}})
}

fn place(snapshot: &mut Snapshot, node: &str, pod: Value) {
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    snapshot.set_pod(node, Arc::new(PodInfo::new(&pod)));
}

fn candidate(pod: Value) -> Candidate {
    Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
}

/// (node, names of the victims), or the whole message.
fn tried(snapshot: &mut Snapshot, pod: Value, budgets: &[Budget]) -> Result<(String, Vec<String>), String> {
    let candidate = candidate(pod);
    let why = schedule(snapshot, &candidate, 0).expect_err("it does not fit");
    match preempt(snapshot, &candidate, &why, budgets) {
        Ok(room) => {
            let names = room.victims.iter().map(|victim| victim.key.1.clone());
            Ok((room.node, names.collect()))
        }
        Err(vain) => Err(why.without_preemption(&vain).to_string()),
    }
}

fn victims(node: &str, names: &[&str]) -> Result<(String, Vec<String>), String> {
    Ok((node.to_string(), names.iter().map(ToString::to_string).collect()))
}

fn cpu(amount: &str) -> Value {
    json!({"cpu": amount})
}

#[test]
fn messages_in_vain() {
    let mut snapshot = cluster(&["a", "b", "c"]);
    let tainted = json!({"metadata": {"name": "c"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    snapshot.set_node(&serde_json::from_value::<Node>(tainted).expect("a node"));
    for node in ["a", "b"] {
        place(&mut snapshot, node, pod(node, 5, cpu("2")));
    }
    let here = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, preemption: ";
    let nobody = format!(
        "{here}0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
    assert_eq!(tried(&mut snapshot, pod("p", 5, cpu("1")), &[]), Err(nobody));
    let hopeless = format!("{here}0/3 nodes are available: 3 Preemption is not helpful for scheduling.");
    assert_eq!(tried(&mut snapshot, pod("p", 9, cpu("3")), &[]), Err(hopeless));
    let mut never = pod("p", 9, cpu("1"));
    never["spec"]["preemptionPolicy"] = json!("Never");
    let message = format!("{here}not eligible due to preemptionPolicy=Never.");
    assert_eq!(tried(&mut snapshot, never, &[]), Err(message));
    assert_eq!(tried(&mut snapshot, pod("p", 9, cpu("1")), &[]), victims("a", &["a"]));
}

#[test]
fn what_is_left_when_all_lower_ones_go_is_said() {
    let mut snapshot = cluster(&["a"]);
    place(&mut snapshot, "a", pod("high", 9, cpu("1500m")));
    place(&mut snapshot, "a", pod("low", 1, cpu("400m")));
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Insufficient cpu.";
    assert_eq!(tried(&mut snapshot, pod("p", 5, cpu("1")), &[]), Err(message.into()));
}

#[test]
fn no_more_go_than_must_and_the_least_important_first() {
    let mut snapshot = cluster(&["a"]);
    for (name, priority, amount) in [("small", 1, "200m"), ("big", 1, "1"), ("better", 3, "800m")] {
        place(&mut snapshot, "a", pod(name, priority, cpu(amount)));
    }
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("200m")), &[]),
        victims("a", &["small"])
    );
    assert_eq!(tried(&mut snapshot, pod("p", 5, cpu("1")), &[]), victims("a", &["big"]));
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("2")), &[]),
        victims("a", &["better", "big", "small"])
    );
}

#[test]
fn the_node_is_chosen_where_it_hurts_least() {
    let started = |mut pod: Value, second: &str| {
        pod["status"]["startTime"] = json!(format!("2026-01-01T00:00:{second}Z"));
        pod
    };
    for (case, on_a, on_b, expected) in [
        (
            "lowest highest priority",
            vec![(3, "1", "00"), (1, "1", "00")],
            vec![(2, "2", "00")],
            "b",
        ),
        (
            "smaller sum",
            vec![(2, "1", "00"), (2, "1", "00")],
            vec![(2, "1", "00"), (1, "1", "00")],
            "b",
        ),
        ("fewer", vec![(2, "1", "00"), (2, "1", "00")], vec![(2, "2", "00")], "b"),
        ("later start", vec![(2, "2", "00")], vec![(2, "2", "30")], "b"),
        ("equal", vec![(2, "2", "00")], vec![(2, "2", "00")], "a"),
    ] {
        let mut snapshot = cluster(&["a", "b"]);
        for (node, pods) in [("a", on_a), ("b", on_b)] {
            for (at, (priority, amount, second)) in pods.into_iter().enumerate() {
                place(
                    &mut snapshot,
                    node,
                    started(pod(&format!("{node}{at}"), priority, cpu(amount)), second),
                );
            }
        }
        let got = tried(&mut snapshot, pod("p", 5, cpu("2")), &[]);
        assert_eq!(got.map(|(node, _)| node), Ok(expected.to_string()), "{case}");
    }
}

fn budget(selector: Value, allowed: i32) -> Budget {
    Budget {
        namespace: "d".into(),
        selector: Some(serde_json::from_value(selector).expect("a selector")),
        allowed,
        disrupted: BTreeSet::new(),
    }
}

#[test]
fn budgets_are_kept_where_possible() {
    let mut snapshot = cluster(&["a", "b"]);
    place(&mut snapshot, "a", pod("guarded", 1, cpu("2")));
    place(&mut snapshot, "b", pod("free", 3, cpu("2")));
    let guard = |allowed| budget(json!({"matchLabels": {"app": "guarded"}}), allowed);
    // Without a budget the lower priority goes.
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[]),
        victims("a", &["guarded"])
    );
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[guard(0)]),
        victims("b", &["free"])
    );
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[guard(1)]),
        victims("a", &["guarded"])
    );
    let mut counted = guard(0);
    counted.disrupted.insert("guarded".into());
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[counted]),
        victims("a", &["guarded"])
    );
    let mut elsewhere = guard(0);
    elsewhere.namespace = "e".into();
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[elsewhere]),
        victims("a", &["guarded"])
    );
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[budget(json!({}), 0)]),
        victims("a", &["guarded"])
    );
    // On one node, the guarded one stays if another can go, though that is more important.
    let mut snapshot = cluster(&["a"]);
    place(&mut snapshot, "a", pod("guarded", 1, cpu("1")));
    place(&mut snapshot, "a", pod("free", 3, cpu("1")));
    assert_eq!(
        tried(&mut snapshot, pod("p", 5, cpu("1")), &[guard(0)]),
        victims("a", &["free"])
    );
    // If it must, it goes, and that is counted.
    let candidate = candidate(pod("p", 5, cpu("2")));
    let why = schedule(&mut snapshot, &candidate, 0).expect_err("full");
    let room = preempt(&mut snapshot, &candidate, &why, &[guard(0)]).expect("room");
    assert_eq!((room.violations, room.victims.len()), (1, 2));
}

#[test]
fn while_victims_end_nobody_else_has_to_go() {
    let mut snapshot = cluster(&["a", "b"]);
    let mut leaving = pod("leaving", 1, cpu("2"));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut ended_by_us = leaving.clone();
    ended_by_us["status"] =
        json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]});
    place(&mut snapshot, "b", pod("other", 1, cpu("2")));
    let mut nominated = pod("p", 5, cpu("1"));
    nominated["status"] = json!({"nominatedNodeName": "a"});
    place(&mut snapshot, "a", ended_by_us);
    let message = "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node.";
    assert_eq!(tried(&mut snapshot, nominated.clone(), &[]), Err(message.into()));
    // One that ends for another reason is no promise.
    place(&mut snapshot, "a", leaving);
    assert!(tried(&mut snapshot, nominated, &[]).is_ok());
}

#[test]
fn room_is_kept_for_those_it_was_made_for() {
    let mut snapshot = cluster(&["a"]);
    let info = |name: &str, priority| candidate(pod(name, priority, cpu("1500m"))).info;
    snapshot.nominate("a", info("promised", 5));
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    for priority in [1, 5] {
        assert_eq!(
            tried(&mut snapshot, pod("p", priority, cpu("1")), &[]),
            Err(message.into())
        );
    }
    // The promised one itself, and who is more important, may have it.
    for (name, priority) in [("promised", 5), ("p", 6)] {
        assert!(
            schedule(&mut snapshot, &candidate(pod(name, priority, cpu("1"))), 0).is_ok(),
            "{name}"
        );
    }
    snapshot.denominate(&("d".into(), "promised".into()));
    assert!(schedule(&mut snapshot, &candidate(pod("p", 1, cpu("1"))), 0).is_ok());
    // Lower promises are broken, and it is said which.
    place(&mut snapshot, "a", pod("low", 0, cpu("1")));
    snapshot.nominate("a", info("promised", 5));
    let candidate = candidate(pod("p", 9, cpu("2")));
    let why = schedule(&mut snapshot, &candidate, 0).expect_err("full");
    let room = preempt(&mut snapshot, &candidate, &why, &[]).expect("room");
    assert_eq!(room.denominated, [("d".to_string(), "promised".to_string())]);
}

#[test]
fn the_nominated_node_is_tried_first() {
    let mut snapshot = cluster(&["a", "b"]);
    place(&mut snapshot, "b", pod("x", 1, cpu("1")));
    let mut nominated = pod("p", 5, cpu("1"));
    let chosen = |snapshot: &mut Snapshot, pod: Value| schedule(snapshot, &candidate(pod), 0).expect("it fits").node;
    assert_eq!(chosen(&mut snapshot, nominated.clone()), "a", "it is emptier");
    nominated["status"] = json!({"nominatedNodeName": "b"});
    assert_eq!(chosen(&mut snapshot, nominated), "b");
}

#[test]
fn extended_resources_and_spreading_make_room_too() {
    let mut snapshot = cluster(&["a", "b"]);
    for (node, name, priority) in [("a", "low", 1), ("b", "high", 7)] {
        place(&mut snapshot, node, pod(name, priority, json!({"example.com/x": "4"})));
    }
    let wants = pod("p", 5, json!({"example.com/x": "3"}));
    assert_eq!(tried(&mut snapshot, wants, &[]), victims("a", &["low"]));
    // Two of the crowd on a, none on b, which is full of more important pods.
    let mut snapshot = cluster(&["a", "b"]);
    place(&mut snapshot, "b", pod("full", 9, cpu("2")));
    for name in ["one", "two"] {
        let mut crowd = pod(name, 1, cpu("100m"));
        crowd["metadata"]["labels"] = json!({"app": "crowd"});
        place(&mut snapshot, "a", crowd);
    }
    let mut spread = pod("p", 5, cpu("100m"));
    spread["metadata"]["labels"] = json!({"app": "crowd"});
    spread["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 2, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "crowd"}}}]);
    let (node, gone) = tried(&mut snapshot, spread, &[]).expect("room");
    assert_eq!((node.as_str(), gone.len()), ("a", 1), "one is enough");
}

#[test]
fn who_has_a_claim_for_one_pod_goes_for_a_more_important_one() {
    let mut snapshot = cluster(&["a", "b"]);
    let claim = json!({"metadata": {"name": "data", "uid": "c", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": ["ReadWriteOncePod"], "volumeName": "v"}, "status": {"phase": "Bound"}});
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}}});
    let storage = snapshot.storage();
    let claim = crate::snapshot::ClaimState::of(&serde_json::from_value(claim).expect("a claim"));
    storage.claims.insert(("d".into(), "data".into()), claim);
    let volume = crate::snapshot::VolumeState::of(&serde_json::from_value(volume).expect("a volume"));
    storage.volumes.insert("v".into(), volume);
    let user = |name: &str, priority: i32| {
        let mut pod = pod(name, priority, json!({}));
        pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        pod
    };
    place(&mut snapshot, "b", user("low", 1));
    place(&mut snapshot, "b", pod("other", 1, json!({})));
    place(&mut snapshot, "a", pod("third", 1, json!({})));
    assert_eq!(tried(&mut snapshot, user("high", 5), &[]), victims("b", &["low"]));
    let message = tried(&mut snapshot, user("lower", 0), &[]).expect_err("nobody is less important");
    assert!(
        message
            .contains("2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"),
        "{message}"
    );
}
