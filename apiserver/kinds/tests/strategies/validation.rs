use crate::{errors, pod, template};
use serde_json::{Value, json};
use skiff_kinds::kinds;

pub fn check(name: &str, object: Value, want: &[&str]) {
    let got = errors(name, object.clone());
    let ok = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| g.contains(w));
    assert!(ok, "{name} of {object}\n got {got:#?}\nwant {want:#?}");
}

pub fn container(extra: Value) -> Value {
    let mut c = json!({"name": "c", "image": "i:1"});
    for (k, v) in extra.as_object().into_iter().flatten() {
        c[k] = v.clone();
    }
    pod(json!({"containers": [c]}))
}

#[test]
fn pods() {
    let spec = |extra: Value| {
        let mut s = json!({"containers": [{"name": "c", "image": "i:1"}]});
        for (k, v) in extra.as_object().into_iter().flatten() {
            s[k] = v.clone();
        }
        pod(s)
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (spec(json!({})), vec![]),
        (pod(json!({})), vec!["spec.containers: Required value"]),
        (
            pod(json!({"containers": [{"name": "c"}]})),
            vec!["spec.containers[0].image: Required value"],
        ),
        (
            container(json!({"name": "A_b"})),
            vec!["spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must"],
        ),
        (
            container(json!({"image": " x"})),
            vec!["spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace"],
        ),
        (
            pod(json!({"containers": [{"name": "c", "image": "i:1"}, {"name": "c", "image": "i:1"}]})),
            vec!["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            spec(json!({"restartPolicy": "Sometimes"})),
            vec![
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            vec![
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            vec!["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
        ),
        (
            container(json!({"livenessProbe": {}})),
            vec!["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "abc"}}})),
            vec!["spec.containers[0].resources.requests[cpu]: Invalid value: \"abc\": quantities must match"],
        ),
        (
            container(json!({"env": [{"name": "A=B"}]})),
            vec!["spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name"],
        ),
        (
            container(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]})),
            vec![
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: field label not supported: spec.nope",
            ],
        ),
        (
            container(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}]}),
            ),
            vec![],
        ),
        (
            spec(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]})),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            spec(json!({"volumes": [{"name": "v", "configMap": {}}]})),
            vec!["spec.volumes[0].configMap.name: Required value"],
        ),
        (
            spec(json!({"tolerations": [{"operator": "Equal"}]})),
            vec!["spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty"],
        ),
        (spec(json!({"terminationGracePeriodSeconds": -1})), vec![]),
        (
            spec(json!({"nodeName": "n", "schedulingGates": [{"name": "g"}]})),
            vec!["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            spec(
                json!({"initContainers": [{"name": "i", "image": "i:1", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
            ),
            vec![
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            spec(json!({"dnsPolicy": "None"})),
            vec!["spec.dnsConfig: Required value"],
        ),
        (
            spec(
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}),
            ),
            vec!["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
        ),
    ];
    for (object, want) in cases {
        check("pods", object, &want);
    }
}

#[test]
fn metadata() {
    let map = |metadata: Value| json!({"metadata": metadata});
    check(
        "configmaps",
        map(json!({"name": "Up"})),
        &["metadata.name: Invalid value: \"Up\": a lowercase RFC 1123 subdomain must"],
    );
    check("configmaps", map(json!({"name": "a.b"})), &[]);
    check(
        "namespaces",
        map(json!({"name": "a.b"})),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        "clusterroles.rbac.authorization.k8s.io",
        map(json!({"name": "system:node"})),
        &[],
    );
    check(
        "clusterroles.rbac.authorization.k8s.io",
        map(json!({"name": "a/b"})),
        &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
    );
    check(
        "configmaps",
        map(json!({"name": "x", "labels": {"a": "b c"}})),
        &["metadata.labels: Invalid value: \"b c\": a valid label must be"],
    );
    check(
        "configmaps",
        map(json!({"name": "x", "labels": {"/a": "b"}})),
        &["metadata.labels: Invalid value: \"/a\": prefix part must be non-empty"],
    );
}

#[test]
fn other_kinds() {
    let selected = |extra: Value| {
        let mut o = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
        for (k, v) in extra.as_object().into_iter().flatten() {
            o["spec"][k] = v.clone();
        }
        o
    };
    let rbac = |o: &str| format!("{o}.rbac.authorization.k8s.io");
    let cases: Vec<(String, Value, Vec<&str>)> = vec![
        ("deployments.apps".into(), selected(json!({})), vec![]),
        (
            "deployments.apps".into(),
            selected(json!({"selector": {"matchLabels": {"a": "c"}}})),
            vec![
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            "deployments.apps".into(),
            json!({"spec": {"template": template()}}),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            "deployments.apps".into(),
            selected(json!({"selector": {}})),
            vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            "deployments.apps".into(),
            selected(json!({"replicas": -1})),
            vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            "deployments.apps".into(),
            selected(json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}})),
            vec!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        ),
        ("statefulsets.apps".into(), selected(json!({})), vec![]),
        ("daemonsets.apps".into(), selected(json!({})), vec![]),
        ("replicasets.apps".into(), selected(json!({})), vec![]),
        (
            "jobs.batch".into(),
            json!({"spec": {"template": template()}}),
            vec!["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        ),
        (
            "cronjobs.batch".into(),
            json!({"spec": {"schedule": "* * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}}}}),
            vec!["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3"],
        ),
        (
            "cronjobs.batch".into(),
            json!({"spec": {"schedule": "*/5 0-6 1,15 jan MON-FRI", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}}}}),
            vec![],
        ),
        ("services".into(), json!({"spec": {"ports": [{"port": 80}]}}), vec![]),
        (
            "services".into(),
            json!({"spec": {}}),
            vec!["spec.ports: Required value"],
        ),
        ("services".into(), json!({"spec": {"clusterIP": "None"}}), vec![]),
        (
            "services".into(),
            json!({"metadata": {"name": "1x"}, "spec": {"ports": [{"port": 80}]}}),
            vec![],
        ),
        (
            "services".into(),
            json!({"metadata": {"name": "A_b"}, "spec": {"ports": [{"port": 80}]}}),
            vec!["metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 label must"],
        ),
        (
            "services".into(),
            json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
            vec![
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
            ],
        ),
        (
            "services".into(),
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            "configmaps".into(),
            json!({"data": {"a/b": "x"}}),
            vec!["data[a/b]: Invalid value: \"a/b\": a valid config key must"],
        ),
        (
            "secrets".into(),
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            vec!["data[tls.key]: Required value"],
        ),
        (
            "persistentvolumeclaims".into(),
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            vec![],
        ),
        (
            "persistentvolumes".into(),
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
            vec![],
        ),
        (
            "persistentvolumes".into(),
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            vec!["spec: Required value: must specify a volume type"],
        ),
        (
            rbac("roles"),
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
            vec![],
        ),
        (
            rbac("roles"),
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            vec![
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        ),
        (
            rbac("clusterrolebindings"),
            json!({"roleRef": {"kind": "Role", "name": "x"}}),
            vec!["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
        ),
        (
            "priorityclasses.scheduling.k8s.io".into(),
            json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
            vec![],
        ),
        (
            "priorityclasses.scheduling.k8s.io".into(),
            json!({"metadata": {"name": "system-x"}, "value": 1}),
            vec!["metadata.name: Forbidden: priority class names with 'system-' prefix"],
        ),
        (
            "ingresses.networking.k8s.io".into(),
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
            vec!["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            "poddisruptionbudgets.policy".into(),
            json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
            vec!["minAvailable and maxUnavailable cannot be both set"],
        ),
        (
            "endpointslices.discovery.k8s.io".into(),
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["2001:db8::1"]}]}),
            vec!["endpoints[0].addresses[0]: Invalid value: \"2001:db8::1\": must be an IPv4 address"],
        ),
        (
            "customresourcedefinitions.apiextensions.k8s.io".into(),
            json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
            vec![],
        ),
        (
            "leases.coordination.k8s.io".into(),
            json!({"spec": {"leaseDurationSeconds": 0}}),
            vec!["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
    ];
    for (name, object, want) in cases {
        check(&name, object, &want);
    }
}

#[test]
fn a_thousand_errors_are_not_reported() {
    let containers: Vec<Value> = (0..5000).map(|_| json!({"name": "", "image": ""})).collect();
    assert!(errors("pods", pod(json!({"containers": containers}))).len() <= 200);
}

#[test]
fn reviews_need_no_name() {
    for kind in kinds().iter().filter(|k| k.plural.ends_with("reviews")) {
        assert!(
            kind.strategy.validate(&json!({"spec": {}})).is_empty(),
            "{}",
            kind.plural
        );
    }
}
