use super::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "a"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p", "labels": {}}, "spec": spec})).expect("valid")
}

fn node(labels: Value, taints: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "node1", "labels": labels}, "spec": {"taints": taints}}))
        .expect("valid")
}

#[track_caller]
fn check(result: Result<(), Refusal>, reason: &str, message: &str) {
    let found = result.err().unwrap_or_default();
    assert_eq!((found.0.as_str(), found.1.as_str()), (reason, message));
}

#[test]
fn sysctls_that_are_safe_or_allowed() {
    let forbidden = |name: &str| format!("forbidden sysctl: {name:?} not allowlisted");
    for (name, with, allowed, expected) in [
        ("net.ipv4.ip_unprivileged_port_start", json!({}), &[][..], String::new()),
        ("net/ipv4/tcp_syncookies", json!({}), &[], String::new()),
        ("kernel.shm_rmid_forced", json!({}), &[], String::new()),
        ("kernel.msgmax", json!({}), &[], forbidden("kernel.msgmax")),
        (
            "net.core.somaxconn",
            json!({}),
            &["kernel.msg*"],
            forbidden("net.core.somaxconn"),
        ),
        ("kernel.msgmax", json!({}), &["kernel.msg*"], String::new()),
        ("net.core.somaxconn", json!({}), &["net/core/somaxconn"], String::new()),
        (
            "kernel.shm_rmid_forced",
            json!({"hostIPC": true}),
            &[],
            "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled".into(),
        ),
        (
            "net.ipv4.tcp_syncookies",
            json!({"hostNetwork": true}),
            &[],
            "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled".into(),
        ),
        ("net.ipv4.tcp_syncookies", json!({"hostIPC": true}), &[], String::new()),
    ] {
        let mut spec = with;
        spec["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
        let allowed: Vec<String> = allowed.iter().map(|a: &&str| (*a).to_owned()).collect();
        let reason = if expected.is_empty() { "" } else { "SysctlForbidden" };
        check(of_itself(&pod(spec), None, &allowed), reason, &expected);
    }
    assert!(check_sysctl_pattern("net.core.*").is_ok() && check_sysctl_pattern("kernel.sem").is_ok());
    for wrong in ["kernel.pid_max", "vm.*", "*", "", "net.x y"] {
        assert!(check_sysctl_pattern(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn systems_and_features() {
    check(of_itself(&pod(json!({"os": {"name": "linux"}})), None, &[]), "", "");
    let message = "Failed to admit pod as the OS field doesn't match node OS";
    check(
        of_itself(&pod(json!({"os": {"name": "windows"}})), None, &[]),
        "PodOSNotSupported",
        message,
    );
    let strict = pod(json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}));
    let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
    check(
        of_itself(&strict, None, &[]),
        "SupplementalGroupsPolicyNotSupported",
        message,
    );
    let able = json!({"metadata": {}, "status": {"features": {"supplementalGroupsPolicy": true}}});
    let able: Node = serde_json::from_value(able).expect("valid");
    check(of_itself(&strict, Some(&able), &[]), "", "");
    let mut labelled = pod(json!({}));
    labelled.metadata.labels = Some(BTreeMap::from([("kubernetes.io/os".to_owned(), "windows".to_owned())]));
    assert_eq!(
        of_itself(&labelled, None, &[]).err().map(|r| r.0).as_deref(),
        Some("PodOSSelectorNodeLabelDoesNotMatch")
    );
}

#[test]
fn labels_of_the_node() {
    let node = node(json!({"zone": "a", "size": "5"}), json!([]));
    let affinity = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
    let expression = |operator: &str, key: &str, values: Value| {
        affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    };
    for (spec, fits) in [
        (json!({}), true),
        (json!({"nodeSelector": {"zone": "a"}}), true),
        (json!({"nodeSelector": {"zone": "b"}}), false),
        (json!({"nodeSelector": {"none": "a"}}), false),
        (expression("In", "zone", json!(["x", "a"])), true),
        (expression("In", "zone", json!(["x"])), false),
        (expression("NotIn", "zone", json!(["x"])), true),
        (expression("NotIn", "none", json!(["x"])), true),
        (expression("Exists", "zone", json!([])), true),
        (expression("DoesNotExist", "zone", json!([])), false),
        (expression("Gt", "size", json!(["4"])), true),
        (expression("Lt", "size", json!(["5"])), false),
        (affinity(json!({})), false),
        (
            affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node1"]}]})),
            true,
        ),
        (
            affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node2"]}]})),
            false,
        ),
    ] {
        let result = beside_others(&pod(spec.clone()), Some(&node), &[], false);
        assert_eq!(result.is_ok(), fits, "{spec}: {result:?}");
    }
    let wrong = beside_others(&pod(json!({"nodeSelector": {"zone": "b"}})), Some(&node), &[], false);
    let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    check(wrong, "NodeAffinity", message);
}

#[test]
fn taints_that_drive_pods_away() {
    let taints = json!([{"key": "k", "value": "v", "effect": "NoExecute"}, {"key": "other", "effect": "NoSchedule"}]);
    let node = node(json!({}), taints);
    let message = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    check(
        beside_others(&pod(json!({})), Some(&node), &[], false),
        "TaintToleration",
        message,
    );
    check(beside_others(&pod(json!({})), Some(&node), &[], true), "", "");
    for (toleration, fits) in [
        (json!({"key": "k", "operator": "Exists"}), true),
        (json!({"key": "k", "value": "v"}), true),
        (json!({"key": "k", "value": "x"}), false),
        (json!({"operator": "Exists", "effect": "NoExecute"}), true),
        (json!({"operator": "Exists", "effect": "NoSchedule"}), false),
    ] {
        let result = beside_others(&pod(json!({"tolerations": [toleration]})), Some(&node), &[], false);
        assert_eq!(result.is_ok(), fits, "{toleration}");
    }
}

#[test]
fn ports_of_the_host() {
    let with = |port: Value| pod(json!({"containers": [{"name": "a", "ports": [port]}]}));
    let taken = [Arc::new(with(
        json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}),
    ))];
    for (port, fits) in [
        (json!({"containerPort": 80}), true),
        (json!({"containerPort": 80, "hostPort": 80}), false),
        (
            json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}),
            false,
        ),
        (
            json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.2"}),
            true,
        ),
        (json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}), true),
        (json!({"containerPort": 80, "hostPort": 81}), true),
    ] {
        let result = beside_others(&with(port.clone()), None, &taken, false);
        assert_eq!(result.is_ok(), fits, "{port}");
    }
    let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    check(
        beside_others(&with(json!({"containerPort": 1, "hostPort": 80})), None, &taken, false),
        "NodePorts",
        message,
    );
}

#[test]
fn profiles_that_the_host_cannot_enforce() {
    let armored = |kind: &str| pod(json!({"securityContext": {"appArmorProfile": {"type": kind}}}));
    assert_eq!(blocked(&armored("Unconfined"), false), None);
    assert_eq!(blocked(&armored("RuntimeDefault"), true), None);
    let why = blocked(&armored("RuntimeDefault"), false).expect("blocked");
    assert_eq!(
        why.message,
        "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    );
}
