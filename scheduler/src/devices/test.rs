//! Decisions about pods that claim devices.

use super::{ClaimState, ClassState, News, Slice, Wants, wants};
use crate::filter::Candidate;
use crate::schedule::schedule;
use crate::snapshot::Snapshot;
use serde_json::{Value, json};
use std::sync::Arc;

const DRIVER: &str = "gpu.example.com";

/// Nodes `a` and `b` (zones east and west), the class `gpu` of all devices of the driver, and what is given.
fn cluster(slices: &[Value], claims: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, zone) in [("a", "east"), ("b", "west")] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": zone}},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}}});
        snapshot.set_node(&serde_json::from_value(node).expect("a node"));
    }
    let devices = snapshot.devices();
    let class = json!({"metadata": {"name": "gpu"}, "spec": {
        "selectors": [{"cel": {"expression": format!("device.driver == '{DRIVER}'")}}],
        "config": [{"opaque": {"driver": DRIVER, "parameters": {"from": "class"}}}]}});
    let class = serde_json::from_value(class).expect("a class");
    devices.classes.insert("gpu".into(), ClassState::of(&class));
    for slice in slices {
        devices.set_slice(Slice::of(&serde_json::from_value(slice.clone()).expect("a slice")));
    }
    for claim in claims {
        let name = claim["metadata"]["name"].as_str().expect("a name").to_string();
        let claim = serde_json::from_value(claim.clone()).expect("a claim");
        devices.set_claim(("d".into(), name), ClaimState::of(claim));
    }
    snapshot
}

fn slice(name: &str, pool: &str, extra: Value) -> Value {
    let mut slice = json!({"metadata": {"name": name}, "spec": {"driver": DRIVER,
        "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1}}});
    for (key, value) in extra.as_object().expect("fields") {
        slice["spec"][key] = value.clone();
    }
    slice
}

/// Two devices of a node: a small one, and a large one.
fn local(node: &str) -> Value {
    let device = |name: &str, model: &str, memory: &str| {
        json!({"name": name, "attributes": {"model": {"string": model}, "gpu.example.com/numa": {"int": 0}},
            "capacity": {"memory": {"value": memory}}})
    };
    slice(
        &format!("{node}-gpus"),
        node,
        json!({"nodeName": node, "devices": [device("gpu-0", "s", "10Gi"), device("gpu-1", "l", "40Gi")]}),
    )
}

fn claim(name: &str, devices: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "5"}, "spec": {"devices": devices}})
}

fn exactly(extra: Value) -> Value {
    let mut request = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    for (key, value) in extra.as_object().expect("fields") {
        request[key] = value.clone();
    }
    json!({"requests": [{"name": "r", "exactly": request}]})
}

fn select(expression: &str) -> Value {
    json!({"selectors": [{"cel": {"expression": expression}}]})
}

fn pod(claims: &[&str]) -> Candidate {
    let entries: Vec<Value> = claims
        .iter()
        .map(|name| json!({"name": name, "resourceClaimName": name}))
        .collect();
    let pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "pod"},
        "spec": {"containers": [{"name": "c"}], "resourceClaims": entries}});
    Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
}

/// Where the pod goes, with the devices it gets there; or why nowhere.
fn decide(snapshot: &mut Snapshot, pod: &Candidate) -> Result<(String, Vec<String>), String> {
    let placement = schedule(snapshot, pod, 0).map_err(|why| why.to_string())?;
    let allocations = allocations(snapshot, pod, &placement.node);
    let names = allocations.iter().flat_map(|allocation| {
        let results = allocation["devices"]["results"].as_array().cloned().unwrap_or_default();
        results.into_iter().map(|result| {
            let text = |key: &str| result[key].as_str().unwrap_or_default().to_string();
            format!("{}={}/{}", text("request"), text("pool"), text("device"))
        })
    });
    Ok((placement.node, names.collect()))
}

fn allocations(snapshot: &mut Snapshot, pod: &Candidate, node: &str) -> Vec<Value> {
    let Snapshot { state, memo } = snapshot;
    let slot = state.slot_of(node).expect("a node");
    let labels = state.slots[slot as usize].labels.clone();
    let Wants::Nodes(plan) = wants(state.devices.as_ref(), memo, pod) else {
        return Vec::new();
    };
    let found = plan.allocate(&node.to_string(), &labels);
    found
        .into_iter()
        .map(|(_, allocation, _)| serde_json::to_value(allocation).expect("written"))
        .collect()
}

fn check(slices: &[Value], asked: Value, wanted: Result<(&str, &[&str]), &str>) {
    let mut snapshot = cluster(slices, &[claim("c", asked.clone())]);
    let got = decide(&mut snapshot, &pod(&["c"]));
    let wanted = wanted
        .map(|(node, devices)| (node.to_string(), devices.iter().map(ToString::to_string).collect()))
        .map_err(ToString::to_string);
    assert_eq!(got, wanted, "{asked}");
}

const NONE: &str = "0/2 nodes are available: 2 cannot allocate all claims.";

#[test]
fn requests_choose_devices() {
    let a = &[local("a")][..];
    check(a, exactly(json!({})), Ok(("a", &["r=a/gpu-0"])));
    check(a, exactly(json!({"count": 2})), Ok(("a", &["r=a/gpu-0", "r=a/gpu-1"])));
    check(a, exactly(json!({"count": 3})), Err(NONE));
    check(
        a,
        exactly(json!({"allocationMode": "All"})),
        Ok(("a", &["r=a/gpu-0", "r=a/gpu-1"])),
    );
    let model = |model: &str| exactly(select(&format!("device.attributes['{DRIVER}'].model == '{model}'")));
    check(a, model("l"), Ok(("a", &["r=a/gpu-1"])));
    check(a, model("xl"), Err(NONE));
    let memory = format!("device.capacity['{DRIVER}'].memory.compareTo(quantity('20Gi')) >= 0");
    check(a, exactly(select(&memory)), Ok(("a", &["r=a/gpu-1"])));
    check(
        a,
        exactly(json!({"capacity": {"requests": {"memory": "20Gi"}}})),
        Ok(("a", &["r=a/gpu-1"])),
    );
    check(a, exactly(json!({"capacity": {"requests": {"cores": "1"}}})), Err(NONE));
    check(&[], exactly(json!({})), Err(NONE));
    check(&[], exactly(json!({"allocationMode": "All"})), Err(NONE));
    check(
        a,
        exactly(json!({"deviceClassName": "tpu"})),
        Err("0/2 nodes are available: request r: device class tpu does not exist."),
    );
    check(
        a,
        exactly(json!({"count": 33})),
        Err("0/2 nodes are available: claim d/c, request r: exceeds the claim limit of 32 devices."),
    );
    let gone = exactly(select(&format!("device.attributes['{DRIVER}'].gone == 1")));
    check(
        a,
        gone,
        Err("0/2 nodes are available: request r: selector #1: CEL runtime error: no such key: gone."),
    );
}

#[test]
fn alternatives_come_in_order() {
    let model = |name: &str, model: &str, count: u32| {
        let expression = format!("device.attributes['{DRIVER}'].model == '{model}'");
        json!({"name": name, "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count,
            "selectors": [{"cel": {"expression": expression}}]})
    };
    let first = |list: Value| json!({"requests": [{"name": "r", "firstAvailable": list}]});
    let a = &[local("a")][..];
    check(
        a,
        first(json!([model("big", "l", 1), model("small", "s", 1)])),
        Ok(("a", &["r/big=a/gpu-1"])),
    );
    check(
        a,
        first(json!([model("big", "l", 2), model("small", "s", 1)])),
        Ok(("a", &["r/small=a/gpu-0"])),
    );
    check(
        a,
        first(json!([model("big", "l", 2), model("small", "s", 2)])),
        Err(NONE),
    );
}

#[test]
fn constraints_hold_among_requests() {
    let both = |constraint: Value| {
        let request = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "gpu", "count": 1}});
        json!({"requests": [request("r"), request("s")], "constraints": [constraint]})
    };
    let a = &[local("a")][..];
    let all: (&str, &[&str]) = ("a", &["r=a/gpu-0", "s=a/gpu-1"]);
    check(a, both(json!({"matchAttribute": "gpu.example.com/numa"})), Ok(all));
    check(a, both(json!({"distinctAttribute": "gpu.example.com/numa"})), Err(NONE));
    check(a, both(json!({"matchAttribute": "gpu.example.com/model"})), Err(NONE));
    check(a, both(json!({"distinctAttribute": "gpu.example.com/model"})), Ok(all));
    check(
        a,
        both(json!({"matchAttribute": "gpu.example.com/model", "requests": ["s"]})),
        Ok(all),
    );
    check(a, both(json!({"matchAttribute": "gpu.example.com/unknown"})), Err(NONE));
}

#[test]
fn only_whole_pools_of_the_newest_generation_count() {
    let part = |name: &str, generation: i64, of: i64, device: &str| {
        slice(
            name,
            "p",
            json!({"nodeName": "a", "pool": {"name": "p", "generation": generation, "resourceSliceCount": of},
                "devices": [{"name": device}]}),
        )
    };
    let one = || exactly(json!({}));
    check(&[part("x", 1, 2, "d0")], one(), Err(NONE));
    check(
        &[part("x", 1, 2, "d0"), part("y", 1, 2, "d1")],
        exactly(json!({"count": 2})),
        Ok(("a", &["r=p/d0", "r=p/d1"])),
    );
    check(
        &[part("x", 1, 1, "old"), part("y", 2, 1, "new")],
        one(),
        Ok(("a", &["r=p/new"])),
    );
    check(&[part("x", 1, 2, "d0"), part("y", 1, 2, "d0")], one(), Err(NONE));
    check(
        &[part("x", 1, 2, "d0")],
        exactly(json!({"allocationMode": "All"})),
        Err(
            "0/2 nodes are available: claim d/c, request r: asks for all devices, but resource pool gpu.example.com/p is currently being updated.",
        ),
    );
}

#[test]
fn devices_say_who_reaches_them() {
    let term =
        json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}]});
    let one = [json!({"name": "d"})];
    let wide = slice("w", "w", json!({"nodeSelector": term, "devices": one}));
    check(std::slice::from_ref(&wide), exactly(json!({})), Ok(("b", &["r=w/d"])));
    let mut snapshot = cluster(&[wide], &[claim("c", exactly(json!({})))]);
    assert_eq!(allocations(&mut snapshot, &pod(&["c"]), "b")[0]["nodeSelector"], term);
    let all = slice("w", "w", json!({"allNodes": true, "devices": one}));
    let mut snapshot = cluster(&[all], &[claim("c", exactly(json!({})))]);
    assert_eq!(
        allocations(&mut snapshot, &pod(&["c"]), "b")[0].get("nodeSelector"),
        None
    );
    let each = slice(
        "w",
        "w",
        json!({"perDeviceNodeSelection": true, "devices": [{"name": "x", "nodeName": "b"}, {"name": "y", "nodeSelector": term}]}),
    );
    check(&[each], exactly(json!({"count": 2})), Ok(("b", &["r=w/x", "r=w/y"])));
}

#[test]
fn taints_keep_devices_from_those_who_do_not_tolerate_them() {
    let tainted = |effect: &str| {
        let taint = json!({"key": "broken", "value": "yes", "effect": effect});
        slice(
            "s",
            "p",
            json!({"nodeName": "a", "devices": [{"name": "d", "taints": [taint]}]}),
        )
    };
    let some: Result<(&str, &[&str]), &str> = Ok(("a", &["r=p/d"]));
    check(&[tainted("NoSchedule")], exactly(json!({})), Err(NONE));
    check(&[tainted("NoExecute")], exactly(json!({})), Err(NONE));
    check(&[tainted("None")], exactly(json!({})), some);
    for (toleration, wanted) in [
        (json!({"operator": "Exists"}), some),
        (
            json!({"key": "broken", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}),
            some,
        ),
        (json!({"key": "broken", "operator": "Equal", "value": "no"}), Err(NONE)),
        (json!({"key": "other", "operator": "Exists"}), Err(NONE)),
        (json!({"operator": "Exists", "effect": "NoExecute"}), Err(NONE)),
    ] {
        check(
            &[tainted("NoSchedule")],
            exactly(json!({"tolerations": [toleration]})),
            wanted,
        );
    }
}

fn allocated(name: &str, device: &str, admin: bool, consumers: usize) -> Value {
    let mut claim = claim(name, exactly(json!({})));
    let consumers: Vec<Value> = (0..consumers)
        .map(|at| json!({"resource": "pods", "name": at.to_string(), "uid": at.to_string()}))
        .collect();
    let here =
        json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]});
    claim["status"] = json!({"reservedFor": consumers, "allocation": {"nodeSelector": here, "devices": {"results": [
        {"request": "r", "driver": DRIVER, "pool": "a", "device": device, "adminAccess": admin}]}}});
    claim
}

#[test]
fn a_device_is_one_claims_unless_for_administration() {
    let slices = [local("a")];
    let mut snapshot = cluster(
        &slices,
        &[allocated("x", "gpu-0", false, 1), claim("c", exactly(json!({})))],
    );
    let other = Ok(("a".to_string(), vec!["r=a/gpu-1".to_string()]));
    assert_eq!(decide(&mut snapshot, &pod(&["c"])), other);
    // While an allocation is written it counts as well.
    let key = ("d".to_string(), "y".to_string());
    let taken = snapshot.devices().slices["a-gpus"].devices[1].id.clone();
    snapshot.devices().begin(key.clone(), vec![taken]);
    assert_eq!(decide(&mut snapshot, &pod(&["c"])), Err(NONE.to_string()));
    assert!(snapshot.devices().end(&key) && !snapshot.devices().end(&key));
    assert_eq!(decide(&mut snapshot, &pod(&["c"])), other);
    let first = Ok(("a".to_string(), vec!["r=a/gpu-0".to_string()]));
    let administers = claim("c", exactly(json!({"adminAccess": true})));
    let mut snapshot = cluster(&slices, &[allocated("x", "gpu-0", false, 1), administers]);
    assert_eq!(decide(&mut snapshot, &pod(&["c"])), first);
    let mut snapshot = cluster(
        &slices,
        &[allocated("x", "gpu-0", true, 1), claim("c", exactly(json!({})))],
    );
    assert_eq!(decide(&mut snapshot, &pod(&["c"])), first);
}

#[test]
fn what_a_claim_gives_back_is_news_once() {
    let mut snapshot = cluster(&[], &[allocated("x", "gpu-0", false, 1)]);
    let key = ("d".to_string(), "x".to_string());
    let mut set = |version: &str, claim: Value| {
        let mut claim = claim;
        claim["metadata"]["resourceVersion"] = json!(version);
        let claim = serde_json::from_value(claim).expect("a claim");
        snapshot.devices().set_claim(key.clone(), ClaimState::of(claim))
    };
    assert_eq!(set("5", allocated("x", "gpu-0", false, 1)), News::None);
    assert_eq!(set("4", claim("x", exactly(json!({})))), News::None, "older");
    assert_eq!(set("6", allocated("x", "gpu-0", false, 2)), News::Changed);
    assert_eq!(set("7", claim("x", exactly(json!({})))), News::Freed);
    assert_eq!(set("8", allocated("x", "gpu-1", false, 1)), News::Changed);
    assert_eq!(snapshot.devices().remove_claim(&key), News::Freed);
    assert!(snapshot.devices().taken.is_empty());
}

#[test]
fn allocated_claims_say_where_and_who() {
    let slices = [local("a"), local("b")];
    let mut snapshot = cluster(&slices, &[allocated("x", "gpu-0", false, 1)]);
    assert_eq!(decide(&mut snapshot, &pod(&["x"])), Ok(("a".to_string(), vec![])));
    snapshot.remove_node("a");
    let gone = "0/1 nodes are available: 1 resourceclaim not available on the node.";
    assert_eq!(decide(&mut snapshot, &pod(&["x"])), Err(gone.to_string()));
    let mut snapshot = cluster(&slices, &[allocated("x", "gpu-0", false, 256)]);
    let full = "0/2 nodes are available: resourceclaim in use.";
    assert_eq!(decide(&mut snapshot, &pod(&["x"])), Err(full.to_string()));
    // One claim here, one wherever devices are left.
    let mut snapshot = cluster(
        &slices,
        &[
            allocated("x", "gpu-0", false, 1),
            claim("y", exactly(json!({"count": 2}))),
        ],
    );
    assert_eq!(
        decide(&mut snapshot, &pod(&["x", "y"])),
        Err(
            "0/2 nodes are available: 1 cannot allocate all claims, 1 resourceclaim not available on the node."
                .to_string()
        )
    );
    assert_eq!(
        decide(&mut snapshot, &pod(&["y"])),
        Ok(("b".to_string(), vec!["r=b/gpu-0".to_string(), "r=b/gpu-1".to_string()]))
    );
}

#[test]
fn pods_wait_for_claims_that_are_not_theirs_yet() {
    let mut deleting = claim("c", exactly(json!({})));
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (claims, wanted) in [
        (vec![], "resourceclaim \"c\" not found"),
        (vec![deleting], "resourceclaim \"c\" is being deleted"),
    ] {
        let wanted = format!("0/2 nodes are available: {wanted}.");
        assert_eq!(decide(&mut cluster(&[local("a")], &claims), &pod(&["c"])), Err(wanted));
    }
    let made = |status: Value| {
        let pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "pod"},
            "spec": {"containers": [], "resourceClaims": [{"name": "g", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": status}});
        Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
    };
    let mut own = claim("p-g-x", exactly(json!({})));
    own["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true}]);
    let named = json!([{"name": "g", "resourceClaimName": "p-g-x"}]);
    for (claims, status, wanted) in [
        (vec![], json!([]), Err("pod \"d/p\": ResourceClaim not found")),
        (
            vec![],
            named.clone(),
            Err("waiting for dynamic resource controller to create the resourceclaim \"p-g-x\""),
        ),
        (
            vec![claim("p-g-x", exactly(json!({})))],
            named.clone(),
            Err("ResourceClaim d/p-g-x was not created for pod d/p (pod is not owner)"),
        ),
        (vec![own], named, Ok(())),
    ] {
        let got = decide(&mut cluster(&[local("a")], &claims), &made(status)).map(drop);
        assert_eq!(got, wanted.map_err(|text| format!("0/2 nodes are available: {text}.")));
    }
}

#[test]
fn an_allocation_carries_configuration_and_place() {
    let config = |request: &str, from: &str| json!({"requests": [request], "opaque": {"driver": DRIVER, "parameters": {"from": from}}});
    let mut asked = exactly(json!({"tolerations": [{"operator": "Exists"}]}));
    asked["config"] = json!([config("r", "claim"), {"opaque": {"driver": DRIVER, "parameters": {"for": "all"}}}]);
    let mut snapshot = cluster(&[local("a")], &[claim("c", asked)]);
    let opaque = |parameters: Value| json!({"driver": DRIVER, "parameters": parameters});
    let wanted = json!([{
        "devices": {
            "results": [{"request": "r", "driver": DRIVER, "pool": "a", "device": "gpu-0", "tolerations": [{"operator": "Exists"}]}],
            "config": [
                {"source": "FromClass", "requests": ["r"], "opaque": opaque(json!({"from": "class"}))},
                {"source": "FromClaim", "requests": ["r"], "opaque": opaque(json!({"from": "claim"}))},
                {"source": "FromClaim", "opaque": opaque(json!({"for": "all"}))},
            ],
        },
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]},
    }]);
    assert_eq!(Value::Array(allocations(&mut snapshot, &pod(&["c"]), "a")), wanted);
}
