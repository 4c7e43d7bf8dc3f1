use crate::{kind, pod, template};
use serde_json::{Value, json};
use skiff_kinds::kinds;

const NOW: &str = "2026-01-02T00:00:00Z";

fn cells(name: &str, mut object: Value) -> Vec<String> {
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T23:50:00Z");
    let row = kind(name).strategy.row(&object, NOW.parse().expect("a time"));
    row.iter()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string))
        .collect()
}

#[test]
fn every_row_has_a_cell_per_column() {
    for kind in kinds() {
        let row = kind
            .strategy
            .row(&json!({"metadata": {"name": "x"}}), NOW.parse().expect("a time"));
        assert_eq!(row.len(), kind.columns.len(), "{}", kind.plural);
    }
}

fn pod_status(spec: Value, status: Value, deleted: bool) -> (String, String, String) {
    let mut object = pod(spec);
    object["status"] = status;
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!(NOW);
    }
    let row = cells("pods", object);
    (row[1].clone(), row[2].clone(), row[3].clone())
}

#[test]
fn pods() {
    let one = json!({"containers": [{"name": "c"}]});
    let two_init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "a"}, {"name": "b"}]});
    let sidecar = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "a", "restartPolicy": "Always"}]});
    let container = |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 0, "state": state}]});
    let init = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": state}]});
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "c", "ready": true, "restartCount": 3, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}}]});
    let cases = [
        (&one, json!({"phase": "Pending"}), false, "0/1", "Pending", "0"),
        (&one, ready.clone(), false, "1/1", "Running", "3 (5m ago)"),
        (&one, ready, true, "1/1", "Terminating", "3 (5m ago)"),
        (
            &one,
            container(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            false,
            "0/1",
            "CrashLoopBackOff",
            "0",
        ),
        (
            &one,
            container(json!({"terminated": {"exitCode": 1, "reason": "Error"}})),
            false,
            "0/1",
            "Error",
            "0",
        ),
        (
            &one,
            container(json!({"terminated": {"exitCode": 3}})),
            false,
            "0/1",
            "ExitCode:3",
            "0",
        ),
        (
            &one,
            container(json!({"terminated": {"exitCode": 137, "signal": 9}})),
            false,
            "0/1",
            "Signal:9",
            "0",
        ),
        (
            &one,
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed"}}}]}),
            true,
            "0/1",
            "Completed",
            "0",
        ),
        (
            &one,
            json!({"phase": "Failed", "reason": "Evicted"}),
            false,
            "0/1",
            "Evicted",
            "0",
        ),
        (
            &one,
            json!({"phase": "Running", "reason": "NodeLost"}),
            true,
            "0/1",
            "Unknown",
            "0",
        ),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            false,
            "0/1",
            "SchedulingGated",
            "0",
        ),
        (&two_init, init(json!({"running": {}})), false, "0/1", "Init:1/2", "0"),
        (
            &two_init,
            init(json!({"waiting": {"reason": "PodInitializing"}})),
            false,
            "0/1",
            "Init:1/2",
            "0",
        ),
        (
            &two_init,
            init(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            false,
            "0/1",
            "Init:CrashLoopBackOff",
            "0",
        ),
        (
            &two_init,
            init(json!({"terminated": {"exitCode": 2}})),
            false,
            "0/1",
            "Init:ExitCode:2",
            "0",
        ),
        (
            &sidecar,
            json!({"phase": "Running", "initContainerStatuses": [{"name": "a", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}}], "containerStatuses": [{"name": "c", "ready": true, "state": {"running": {}}}]}),
            false,
            "2/2",
            "Running",
            "2",
        ),
    ];
    for (spec, status, deleted, ready, word, restarts) in cases {
        let got = pod_status(spec.clone(), status.clone(), deleted);
        assert_eq!(
            got,
            (ready.to_string(), word.to_string(), restarts.to_string()),
            "{status}"
        );
    }
}

#[test]
fn other_kinds() {
    let cases: Vec<(&str, Value, Vec<&str>)> = vec![
        (
            "nodes",
            json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
                   "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
                              "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://1.6"}}}),
            vec![
                "n",
                "Ready,SchedulingDisabled",
                "control-plane",
                "10m",
                "v1.36.0",
                "1.2.3.4",
                "<none>",
                "Debian",
                "6.1",
                "containerd://1.6",
            ],
        ),
        (
            "deployments.apps",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template()}, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
            vec!["x", "2/3", "3", "1", "10m", "c", "i:1", "a=b"],
        ),
        (
            "services",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}}),
            vec![
                "x",
                "NodePort",
                "10.0.0.1",
                "<none>",
                "80:30080/TCP,53/UDP",
                "10m",
                "a=1,b=2",
            ],
        ),
        (
            "services",
            json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}),
            vec!["x", "LoadBalancer", "10.0.0.1", "<pending>", "<none>", "10m", "<none>"],
        ),
        (
            "jobs.batch",
            json!({"spec": {"completions": 1}, "status": {"succeeded": 1, "startTime": "2026-01-01T23:50:00Z", "completionTime": "2026-01-01T23:50:07Z", "conditions": [{"type": "Complete", "status": "True"}]}}),
            vec!["x", "Complete", "1/1", "7s", "10m", "", "", "<none>"],
        ),
        (
            "cronjobs.batch",
            json!({"spec": {"schedule": "@daily", "suspend": false}}),
            vec!["x", "@daily", "<none>", "False", "0", "<none>", "10m", "", "", "<none>"],
        ),
        (
            "events",
            json!({"type": "Normal", "reason": "Pulled", "message": "m\n", "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:00Z", "count": 4}),
            vec![
                "60s",
                "Normal",
                "Pulled",
                "pod/p",
                "",
                "kubelet, n",
                "m",
                "60m",
                "4",
                "x",
            ],
        ),
        (
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            vec!["x", "1.1.1.1:80,1.1.1.2:80,1.1.1.1:81 + 1 more...", "10m"],
        ),
        (
            "endpointslices.discovery.k8s.io",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            vec!["x", "IPv4", "80", "1.1.1.1", "10m"],
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
            vec!["x", "Bound", "v", "1Gi", "RWO,RWX", "s", "<unset>", "10m", "Filesystem"],
        ),
        (
            "storageclasses.storage.k8s.io",
            json!({"metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
            vec!["s (default)", "p", "Delete", "Immediate", "false", "10m"],
        ),
        (
            "rolebindings.rbac.authorization.k8s.io",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            vec!["x", "Role/r", "10m", "u", "", "n/s"],
        ),
        (
            "roles.rbac.authorization.k8s.io",
            json!({}),
            vec!["x", "2026-01-01T23:50:00Z"],
        ),
        (
            "horizontalpodautoscalers.autoscaling",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}}),
            vec!["x", "Deployment/d", "cpu: <unknown>/80%", "1", "5", "0", "10m"],
        ),
        (
            "ingresses.networking.k8s.io",
            json!({"spec": {"ingressClassName": "c", "rules": [{"host": "a.b"}], "tls": [{}]}}),
            vec!["x", "c", "a.b", "", "80, 443", "10m"],
        ),
        (
            "certificatesigningrequests.certificates.k8s.io",
            json!({"spec": {"signerName": "a/b", "username": "u"}, "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}),
            vec!["x", "10m", "a/b", "u", "<none>", "Approved,Issued"],
        ),
    ];
    for (name, object, want) in cases {
        assert_eq!(cells(name, object), want, "{name}");
    }
}

#[test]
fn ages() {
    let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let cases = [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (3000 * 86400, "8y"),
        (-5, "<invalid>"),
    ];
    for (seconds, want) in cases {
        let then = now - jiff::SignedDuration::from_secs(seconds);
        assert_eq!(skiff_kinds::age(&json!(then.to_string()), now), want, "{seconds}");
    }
    assert_eq!(skiff_kinds::age(&Value::Null, now), "<unknown>");
}
