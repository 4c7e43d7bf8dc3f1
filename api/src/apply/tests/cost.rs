//! What tracking costs.

use super::*;

/// What tracking costs a status patch and a create; printed, and bounded far above
/// what it takes so that only a change of kind fails.
#[test]
fn tracking_is_cheap() {
    let containers: Vec<Value> = (0..3)
        .map(|i| {
            json!({"name": format!("c{i}"), "image": "registry/app:1", "ports": [{"containerPort": 80 + i, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "token", "mountPath": "/var/run"}], "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"})
        })
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "labels": {"app": "web"}},
        "spec": {"containers": containers, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "volumes": [{"name": "token", "projected": {"sources": []}}], "tolerations": [{"key": "a"}, {"key": "b"}]}});
    let status = |n: u32| {
        let states: Vec<Value> = (0..3)
            .map(|i| json!({"name": format!("c{i}"), "ready": true, "restartCount": n, "image": "registry/app:1", "imageID": "sha256:1",
                "state": {"running": {"startedAt": T1}}}))
            .collect();
        let conditions: Vec<Value> = ["Ready", "Initialized", "PodScheduled", "ContainersReady"]
            .iter()
            .map(|t| json!({"type": t, "status": "True", "lastTransitionTime": T1}))
            .collect();
        json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": conditions, "containerStatuses": states})
    };
    let kubelet = Writer {
        subresource: "status",
        ..by("kubelet")
    };
    const ROUNDS: u32 = 200;
    let mut create = std::time::Duration::ZERO;
    let mut live = Value::Null;
    for _ in 0..ROUNDS {
        live = pod.clone();
        let begin = std::time::Instant::now();
        track_update(&tracking("Pod"), None, &mut live, &by("controller"));
        create += begin.elapsed() / ROUNDS;
    }
    live["metadata"]["uid"] = "u".into();
    let unset = live.clone();
    live["status"] = status(0);
    track_update(&tracking("Pod"), Some(&unset), &mut live, &kubelet);
    let mut patch = std::time::Duration::ZERO;
    for n in 1..=ROUNDS {
        let mut new = live.clone();
        new["status"] = status(n);
        let begin = std::time::Instant::now();
        track_update(&tracking("Pod"), Some(&live), &mut new, &kubelet);
        patch += begin.elapsed() / ROUNDS;
        assert_eq!(new["metadata"]["managedFields"].as_array().unwrap().len(), 2);
    }
    let mut text = live.clone();
    let begin = std::time::Instant::now();
    for _ in 0..ROUNDS {
        text = serde_json::from_str(&text.to_string()).unwrap();
    }
    let parse = begin.elapsed() / ROUNDS;
    println!("create {create:?}, status update {patch:?}; writing and parsing the object {parse:?}");
    assert!(
        create.as_millis() < 20 && patch.as_millis() < 10,
        "{create:?} {patch:?}"
    );
}
