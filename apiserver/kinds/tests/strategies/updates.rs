use crate::{kind, pod, template};
use serde_json::{Value, json};

/// Defaults both, prepares as for an update, and answers errors and the object.
pub fn update(name: &str, sub: &str, old: &Value, change: impl FnOnce(&mut Value)) -> (Value, Vec<String>) {
    let strategy = kind(name).strategy;
    let mut old = old.clone();
    strategy.default(&mut old);
    let mut new = old.clone();
    change(&mut new);
    strategy.default(&mut new);
    strategy.prepare_update(sub, &mut new, &old);
    let errors = strategy
        .validate_update(sub, &new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    (new, errors)
}

fn running() -> Value {
    let mut p = pod(
        json!({"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}], "tolerations": [{"key": "a", "operator": "Exists"}]}),
    );
    p["metadata"]["generation"] = json!(1);
    p["status"] = json!({"phase": "Running", "qosClass": "BestEffort"});
    p
}

#[test]
fn pods_change_only_what_may_change() {
    let allowed: [fn(&mut Value); 4] = [
        |p| p["spec"]["containers"][0]["image"] = json!("i:2"),
        |p| p["spec"]["activeDeadlineSeconds"] = json!(10),
        |p| p["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]),
        |p| p["metadata"]["labels"] = json!({"x": "y"}),
    ];
    for change in allowed {
        assert_eq!(update("pods", "", &running(), change).1, Vec::<String>::new());
    }
    let refused: [(fn(&mut Value), &str); 4] = [
        (
            |p| p["spec"]["containers"][0]["command"] = json!(["x"]),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (|p| p["spec"]["nodeName"] = json!("m"), "spec: Forbidden: pod updates"),
        (
            |p| p["spec"]["tolerations"] = json!([]),
            "spec.tolerations: Forbidden: existing toleration can not be modified",
        ),
        (
            |p| p["spec"]["containers"] = json!([]),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
    ];
    for (change, want) in refused {
        let (_, errors) = update("pods", "", &running(), change);
        assert!(errors.len() == 1 && errors[0].contains(want), "{want}: {errors:?}");
    }
}

#[test]
fn status_and_spec_are_kept_apart() {
    let (new, _) = update("pods", "", &running(), |p| {
        p["status"]["phase"] = json!("Failed");
        p["spec"]["containers"][0]["image"] = json!("i:2");
    });
    assert_eq!(new["status"]["phase"], "Running");
    assert_eq!(new["metadata"]["generation"], 2);

    let (new, _) = update("pods", "status", &running(), |p| {
        p["status"]["phase"] = json!("Failed");
        p["spec"]["containers"][0]["image"] = json!("i:2");
    });
    assert_eq!(new["status"]["phase"], "Failed");
    assert_eq!(new["spec"]["containers"][0]["image"], "i:1");
    assert_eq!(new["metadata"]["generation"], 1);
}

#[test]
fn ephemeral_containers_go_through_their_subresource() {
    let (new, errors) = update("pods", "ephemeralcontainers", &running(), |p| {
        p["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "busybox"}]);
        p["spec"]["containers"][0]["image"] = json!("i:2");
    });
    assert!(errors.is_empty());
    assert_eq!(new["spec"]["ephemeralContainers"][0]["name"], "d");
    assert_eq!(new["spec"]["containers"][0]["image"], "i:1");
}

#[test]
fn immutable_fields() {
    let workload =
        json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
    let map = json!({"metadata": {"name": "m"}, "immutable": true, "data": {"a": "b"}});
    let class = json!({"metadata": {"name": "c"}, "provisioner": "a"});
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "x"}});
    let priority = json!({"metadata": {"name": "p"}, "value": 1});
    let cases: Vec<(&str, &Value, fn(&mut Value), &str)> = vec![
        (
            "deployments.apps",
            &workload,
            |o| o["spec"]["selector"]["matchLabels"]["a"] = json!("c"),
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable",
        ),
        (
            "statefulsets.apps",
            &workload,
            |o| o["spec"]["serviceName"] = json!("c"),
            "spec: Forbidden: updates to statefulset spec for fields other than",
        ),
        (
            "jobs.batch",
            &workload,
            |o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("z:1"),
            "spec.template: Invalid value",
        ),
        (
            "services",
            &service,
            |o| {
                o["spec"]["clusterIP"] = json!("10.0.0.2");
                o["spec"]["clusterIPs"] = json!(["10.0.0.2"]);
            },
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
        ),
        (
            "configmaps",
            &map,
            |o| o["data"]["a"] = json!("c"),
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        (
            "storageclasses.storage.k8s.io",
            &class,
            |o| o["provisioner"] = json!("b"),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            "clusterrolebindings.rbac.authorization.k8s.io",
            &binding,
            |o| o["roleRef"]["name"] = json!("y"),
            "cannot change roleRef",
        ),
        (
            "priorityclasses.scheduling.k8s.io",
            &priority,
            |o| o["value"] = json!(2),
            "value: Forbidden: may not be changed in an update.",
        ),
    ];
    for (name, old, change, want) in cases {
        let (_, errors) = update(name, "", old, change);
        assert!(
            errors.len() == 1 && errors[0].contains(want),
            "{name} {want}: {errors:?}"
        );
        let (_, errors) = update(name, "", old, |_| {});
        assert!(errors.is_empty(), "{name} unchanged: {errors:?}");
    }
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let old = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30001}]}});
    let (new, errors) = update("services", "", &old, |o| {
        o["spec"] = json!({"type": "NodePort", "ports": [{"port": 80}]});
    });
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);

    let (new, _) = update("services", "", &old, |o| o["spec"]["type"] = json!("ClusterIP"));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], Value::Null);
}

#[test]
fn an_approval_brings_only_conditions() {
    let old = json!({"metadata": {"name": "c"}, "spec": {"request": "x", "usages": ["client auth"], "signerName": "a.b/c"}, "status": {}});
    let approve = |o: &mut Value| {
        o["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "forged"});
        o["spec"]["request"] = json!("other");
    };
    let (new, errors) = update(
        "certificatesigningrequests.certificates.k8s.io",
        "approval",
        &old,
        approve,
    );
    assert!(errors.is_empty());
    assert_eq!(
        new["status"],
        json!({"conditions": [{"type": "Approved", "status": "True"}]})
    );
    assert_eq!(new["spec"]["request"], "x");
    let (_, errors) = update(
        "certificatesigningrequests.certificates.k8s.io",
        "status",
        &old,
        approve,
    );
    assert!(
        errors[0].contains("updates may not add a condition of type \"Approved\""),
        "{errors:?}"
    );
}

#[test]
fn grace_of_a_deletion() {
    let strategy = kind("pods").strategy;
    let mut bound = running();
    strategy.default(&mut bound);
    let mut done = bound.clone();
    done["status"]["phase"] = json!("Succeeded");
    let mut unbound = bound.clone();
    unbound["spec"]["nodeName"] = Value::Null;
    for (pod, asked, want) in [
        (&bound, None, Some(30)),
        (&bound, Some(5), Some(5)),
        (&bound, Some(0), None),
        (&bound, Some(-1), Some(1)),
        (&done, None, None),
        (&unbound, Some(5), None),
    ] {
        assert_eq!(strategy.grace_period_seconds(pod, asked), want, "{asked:?}");
    }
    assert_eq!(
        kind("configmaps").strategy.grace_period_seconds(&json!({}), Some(5)),
        None
    );
}

#[test]
fn job_pods_are_tied_by_uid() {
    let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}});
    let strategy = kind("jobs.batch").strategy;
    strategy.default(&mut job);
    strategy.prepare_create(&mut job);
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        "u"
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"],
        "j"
    );
    assert!(strategy.validate(&job).is_empty());
}
