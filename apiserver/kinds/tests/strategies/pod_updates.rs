//! Updates of pods: what steers a gated pod, what a resize may do, what a status may say.

use crate::pod;
use crate::updates::update;
use serde_json::{Value, json};

type Change = fn(&mut Value);

fn said(sub: &str, old: &Value, change: Change) -> Vec<String> {
    update("pods", sub, old, change).1
}

fn check(sub: &str, old: &Value, rows: &[(Change, &[&str])]) {
    for (i, (change, want)) in rows.iter().enumerate() {
        let got = said(sub, old, *change);
        let fine = got.len() == want.len() && got.iter().zip(*want).all(|(g, w)| g.contains(w));
        assert!(fine, "row {i}\n got {got:#?}\nwant {want:#?}");
    }
}

fn base(extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}}}]});
    for (key, value) in extra.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = pod(spec);
    object["metadata"]["generation"] = json!(1);
    object["status"] = json!({"phase": "Running", "qosClass": "Burstable"});
    object
}

#[test]
fn gated_pods_are_only_steered_to_fewer_nodes() {
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]});
    let gated = base(json!({
        "schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
    }));
    fn terms(p: &mut Value) -> &mut Value {
        &mut p["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    }
    check(
        "",
        &gated,
        &[
            (|p| p["spec"]["nodeSelector"]["c"] = json!("d"), &[]),
            (
                |p| p["spec"]["nodeSelector"] = json!({"a": "c"}),
                &[
                    "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                ],
            ),
            (
                |p| {
                    terms(p)[0]["matchExpressions"]
                        .as_array_mut()
                        .expect("a list")
                        .push(json!({"key": "b", "operator": "Exists"}))
                },
                &[],
            ),
            (
                |p| terms(p)[0]["matchExpressions"][0]["key"] = json!("b"),
                &["nodeSelectorTerms[0]: Invalid value: "],
            ),
            (
                |p| terms(p).as_array_mut().expect("a list").push(json!({})),
                &["no additions/deletions to non-empty NodeSelectorTerms list are allowed"],
            ),
            (
                |p| {
                    p["spec"]["affinity"]["podAffinity"] =
                        json!({"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]})
                },
                &["spec: Forbidden: pod updates may not change fields other than"],
            ),
            (
                |p| p["spec"]["schedulingGates"] = json!([{"name": "h"}]),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'",
                ],
            ),
            (|p| p["spec"]["schedulingGates"] = json!([]), &[]),
        ],
    );
    check(
        "",
        &base(json!({"nodeSelector": {"a": "b"}})),
        &[(
            |p| p["spec"]["nodeSelector"]["c"] = json!("d"),
            &["spec: Forbidden: pod updates"],
        )],
    );
}

#[test]
fn resizes() {
    let running = base(json!({"initContainers": [{"name": "i", "image": "i:1"}]}));
    fn resources(p: &mut Value) -> &mut Value {
        &mut p["spec"]["containers"][0]["resources"]
    }
    check(
        "resize",
        &running,
        &[
            (|p| resources(p)["requests"]["cpu"] = json!("1500m"), &[]),
            (|p| resources(p)["requests"]["memory"] = json!("2Gi"), &[]),
            (|p| p["spec"]["containers"][0]["image"] = json!("i:2"), &[]),
            (
                |p| resources(p)["requests"] = json!({"cpu": "1"}),
                &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
            ),
            (
                |p| resources(p)["limits"]["memory"] = json!("1Gi"),
                &[
                    "spec.containers[0].resources.limits[memory]: Forbidden: memory limits cannot be added unless resizePolicy is RestartContainer",
                ],
            ),
            (
                |p| resources(p)["requests"]["ephemeral-storage"] = json!("1Gi"),
                &["spec: Forbidden: only cpu and memory resources are mutable"],
            ),
            (
                |p| p["spec"]["initContainers"][0]["resources"] = json!({"requests": {"cpu": "1"}}),
                &["spec: Forbidden: resources for non-sidecar init containers are immutable"],
            ),
        ],
    );
    let mut guaranteed = base(json!({}));
    guaranteed["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    guaranteed["status"]["qosClass"] = json!("Guaranteed");
    check(
        "resize",
        &guaranteed,
        &[(
            |p| p["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("2"),
            &["spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing"],
        )],
    );
    let mut fixed = base(json!({"nodeName": "n"}));
    fixed["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    check(
        "resize",
        &fixed,
        &[(
            |p| p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2"),
            &["[]: Forbidden: static pods cannot be resized"],
        )],
    );
    check(
        "ephemeralcontainers",
        &fixed,
        &[(
            |p| p["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]),
            &["[]: Forbidden: static pods do not support ephemeral containers"],
        )],
    );
    check(
        "",
        &fixed,
        &[(
            |p| p["metadata"]["annotations"] = json!({}),
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
            ],
        )],
    );
}

#[test]
fn statuses() {
    let mut ended = base(json!({"restartPolicy": "OnFailure"}));
    ended["status"]["containerStatuses"] = json!([
        {"name": "c", "state": {"terminated": {"exitCode": 0}}}, {"name": "d", "state": {"terminated": {"exitCode": 1}}},
    ]);
    check(
        "status",
        &ended,
        &[
            (|p| p["status"]["phase"] = json!("Succeeded"), &[]),
            (
                |p| p["status"]["containerStatuses"][1]["state"] = json!({"running": {}}),
                &[],
            ),
            (
                |p| p["status"]["containerStatuses"][0]["state"] = json!({"running": {}}),
                &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
            ),
            (
                |p| p["status"]["qosClass"] = json!("Guaranteed"),
                &["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
            ),
            (
                |p| p["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
                &[
                    "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
                ],
            ),
            (
                |p| p["status"]["hostIPs"] = json!([{"ip": "10.0.0.1"}]),
                &["status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`"],
            ),
            (
                |p| p["status"]["nominatedNodeName"] = json!("A"),
                &["status.nominatedNodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must"],
            ),
            (
                |p| p["status"]["conditions"] = json!([{"type": "a b", "status": "True"}]),
                &["metadata.conditions[0].Type: Invalid value: \"a b\": name part must consist"],
            ),
            (
                |p| p["status"]["resourceClaimStatuses"] = json!([{"name": "x"}]),
                &[
                    "status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`",
                ],
            ),
        ],
    );
}

/// A pod whose containers may all be restarted for one of them.
#[test]
fn ends_that_are_not_for_good() {
    let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}});
    let mut ended = base(json!({"restartPolicy": "Never"}));
    ended["spec"]["containers"][0]["restartPolicy"] = json!("Never");
    ended["spec"]["initContainers"] = json!([{"name": "i", "image": "i:1"}]);
    let over = |name: &str| json!([{"name": name, "state": {"terminated": {"exitCode": 0}}}]);
    ended["status"]["containerStatuses"] = over("c");
    ended["status"]["initContainerStatuses"] = over("i");
    ended["status"]["ephemeralContainerStatuses"] = over("e");
    let again = |p: &mut Value| {
        for list in [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            p["status"][list][0]["state"] = json!({"waiting": {}});
        }
    };
    let refused =
        |list: &str| format!("status.{list}[0].state: Forbidden: may not be transitioned to non-terminated state");
    let (_, mut errors) = update("pods", "status", &ended, again);
    errors.sort();
    let all = [
        "containerStatuses",
        "ephemeralContainerStatuses",
        "initContainerStatuses",
    ];
    assert_eq!(errors, all.map(refused));
    ended["spec"]["containers"][0]["restartPolicyRules"] = json!([rule]);
    let (_, errors) = update("pods", "status", &ended, again);
    assert_eq!(errors, [refused("ephemeralContainerStatuses")]);
}

#[test]
fn seen_generations_are_not_cleared() {
    let mut seen = base(json!({}));
    seen["status"]["observedGeneration"] = json!(3);
    seen["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "observedGeneration": 3}]);
    let (got, errors) = update("pods", "status", &seen, |p| {
        p["status"] = json!({"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]});
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        got["status"],
        json!({
            "phase": "Failed", "qosClass": "Burstable", "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": "False", "observedGeneration": 3}],
        })
    );
}
