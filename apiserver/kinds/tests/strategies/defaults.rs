use crate::{defaulted, kind, pod, template};
use serde_json::{Value, json};
use skiff_kinds::kinds;

#[test]
fn defaulting_twice_changes_nothing() {
    let bodies = [
        json!({}),
        json!({"spec": {}}),
        json!({"spec": {"template": template(), "selector": {"matchLabels": {"a": "b"}}, "ports": [{"port": 80}]}}),
        json!({"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v"}], "type": "LoadBalancer"}}),
        json!({"spec": {"jobTemplate": {"spec": {"template": template()}}, "limited": {"limitResponse": {"queuing": {}}}}}),
        json!({"webhooks": [{"name": "a.b.c", "rules": [{}]}], "subsets": [{"ports": [{"port": 1}]}], "ports": [{}]}),
        json!({"stringData": {"a": "b"}, "roleRef": {}, "subjects": [{"kind": "User"}]}),
    ];
    for kind in kinds() {
        for body in &bodies {
            let mut once = body.clone();
            once["metadata"] = json!({"name": "x"});
            kind.strategy.default(&mut once);
            let mut twice = once.clone();
            kind.strategy.default(&mut twice);
            assert_eq!(once, twice, "{} from {body}", kind.plural);
        }
    }
}

#[test]
fn odd_shapes_do_not_panic() {
    let odd = [
        json!(null),
        json!([]),
        json!("text"),
        json!({"metadata": [], "spec": "x", "status": 7}),
        json!({"metadata": null, "spec": {"template": [], "containers": {}, "ports": "x", "volumes": [null, 1]}}),
        json!({"spec": {"containers": [null, "x"], "template": {"spec": []}, "names": 1}, "webhooks": [null], "data": []}),
    ];
    let now = jiff::Timestamp::UNIX_EPOCH;
    for kind in kinds() {
        for object in &odd {
            let mut new = object.clone();
            kind.strategy.default(&mut new);
            kind.strategy.prepare_create(&mut new);
            kind.strategy.prepare_update("", &mut new, object);
            kind.strategy.prepare_update("status", &mut new, object);
            kind.strategy.validate(&new);
            kind.strategy.validate_update("", &new, object);
            kind.strategy.warnings(&new);
            kind.strategy.fields(&new);
            assert_eq!(
                kind.strategy.row(&new, now).len(),
                kind.columns.len(),
                "{}",
                kind.plural
            );
        }
    }
}

#[test]
fn fields_are_those_that_are_named() {
    for kind in kinds() {
        let fields = kind.strategy.fields(&json!({}));
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, kind.strategy.field_names(), "{}", kind.plural);
    }
}

#[test]
fn a_bare_pod() {
    let got = defaulted("pods", pod(json!({"containers": [{"name": "c", "image": "nginx"}]})));
    let want = json!({
        "containers": [{
            "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
        "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
    });
    assert_eq!(got["spec"], want);
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

#[test]
fn parts_of_a_pod() {
    let container = |c: Value| json!({"containers": [c]});
    let cases = [
        (
            container(json!({"name": "c", "image": "r.io:5000/a"})),
            "/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        (
            container(json!({"name": "c", "image": "a:latest"})),
            "/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        (
            container(json!({"name": "c", "image": "a:1"})),
            "/spec/containers/0/imagePullPolicy",
            json!("IfNotPresent"),
        ),
        (
            container(json!({"name": "c", "image": "a@sha256:0"})),
            "/spec/containers/0/imagePullPolicy",
            json!("IfNotPresent"),
        ),
        (
            container(json!({"name": "c", "ports": [{"containerPort": 80}]})),
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "protocol": "TCP"}]),
        ),
        (
            json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}),
            "/spec/containers/0/ports/0/hostPort",
            json!(80),
        ),
        (
            container(json!({"name": "c", "livenessProbe": {"httpGet": {"port": 1}}})),
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                   "successThreshold": 1, "failureThreshold": 3}),
        ),
        (
            container(
                json!({"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}),
            ),
            "/spec/containers/0/resources/requests",
            json!({"cpu": "500m", "memory": "1Gi"}),
        ),
        (
            container(
                json!({"name": "c", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            "/spec/containers/0/env/0/valueFrom/fieldRef/apiVersion",
            json!("v1"),
        ),
        (
            json!({"volumes": [{"name": "v"}]}),
            "/spec/volumes/0/emptyDir",
            json!({}),
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
            "/spec/volumes/0/hostPath/type",
            json!(""),
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}]}),
            "/spec/volumes/0/configMap/defaultMode",
            json!(420),
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "m"}}]}),
            "/spec/volumes/0/secret/defaultMode",
            json!(420),
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            "/spec/volumes/0/projected",
            json!({"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}),
        ),
        (
            json!({"serviceAccount": "old"}),
            "/spec/serviceAccountName",
            json!("old"),
        ),
        (
            json!({"serviceAccountName": "new"}),
            "/spec/serviceAccount",
            json!("new"),
        ),
    ];
    for (spec, pointer, want) in cases {
        let got = defaulted("pods", pod(spec.clone()));
        assert_eq!(at(&got, pointer), &want, "{pointer} of {spec}");
    }
}

#[test]
fn parts_of_other_kinds() {
    let workload = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    let cases = [
        ("deployments.apps", workload.clone(), "/spec/replicas", json!(1)),
        (
            "deployments.apps",
            workload.clone(),
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        (
            "deployments.apps",
            workload.clone(),
            "/spec/progressDeadlineSeconds",
            json!(600),
        ),
        (
            "deployments.apps",
            workload.clone(),
            "/spec/template/spec/dnsPolicy",
            json!("ClusterFirst"),
        ),
        // A template is not a pod: service links are the pod's.
        (
            "deployments.apps",
            workload.clone(),
            "/spec/template/spec/enableServiceLinks",
            json!(null),
        ),
        (
            "statefulsets.apps",
            workload.clone(),
            "/spec/podManagementPolicy",
            json!("OrderedReady"),
        ),
        (
            "daemonsets.apps",
            workload.clone(),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        ),
        (
            "jobs.batch",
            json!({"spec": {"template": template()}}),
            "/spec/completions",
            json!(1),
        ),
        (
            "jobs.batch",
            json!({"spec": {"parallelism": 3, "template": template()}}),
            "/spec/completions",
            json!(null),
        ),
        (
            "jobs.batch",
            json!({"spec": {"template": template()}}),
            "/spec/backoffLimit",
            json!(6),
        ),
        (
            "replicationcontrollers",
            json!({"spec": {"template": template()}}),
            "/spec/selector",
            json!({"a": "b"}),
        ),
        (
            "services",
            json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
            "/spec",
            json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP",
                   "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        ),
        (
            "services",
            json!({"spec": {"clusterIP": "10.0.0.1"}}),
            "/spec/clusterIPs",
            json!(["10.0.0.1"]),
        ),
        (
            "services",
            json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
            "/spec/ipFamilies",
            json!(null),
        ),
        (
            "services",
            json!({"spec": {"type": "LoadBalancer"}}),
            "/spec/allocateLoadBalancerNodePorts",
            json!(true),
        ),
        (
            "secrets",
            json!({"stringData": {"a": "hello"}, "data": {"b": "eA=="}}),
            "/data",
            json!({"a": "aGVsbG8=", "b": "eA=="}),
        ),
        (
            "secrets",
            json!({"stringData": {"a": "hello"}}),
            "/stringData",
            json!(null),
        ),
        ("secrets", json!({}), "/type", json!("Opaque")),
        (
            "persistentvolumeclaims",
            json!({"spec": {}}),
            "/spec/volumeMode",
            json!("Filesystem"),
        ),
        (
            "storageclasses.storage.k8s.io",
            json!({}),
            "/volumeBindingMode",
            json!("Immediate"),
        ),
        (
            "networkpolicies.networking.k8s.io",
            json!({"spec": {"egress": [{}]}}),
            "/spec/policyTypes",
            json!(["Ingress", "Egress"]),
        ),
        (
            "rolebindings.rbac.authorization.k8s.io",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "Group", "name": "g"}]}),
            "/subjects/0/apiGroup",
            json!("rbac.authorization.k8s.io"),
        ),
        (
            "namespaces",
            json!({"metadata": {"name": "n"}}),
            "/metadata/labels",
            json!({"kubernetes.io/metadata.name": "n"}),
        ),
        (
            "horizontalpodautoscalers.autoscaling",
            json!({"spec": {"maxReplicas": 3}}),
            "/spec/metrics/0/resource/target/averageUtilization",
            json!(80),
        ),
    ];
    for (name, object, pointer, want) in cases {
        let got = defaulted(name, object.clone());
        assert_eq!(at(&got, pointer), &want, "{name} {pointer} of {object}");
    }
}

#[test]
fn a_create_starts_with_the_server_s_status() {
    let gated = json!({"schedulingGates": [{"name": "g"}], "containers": [{"name": "c", "image": "i:1"}]});
    let mut object = pod(gated);
    object["status"] = json!({"phase": "Running"});
    kind("pods").strategy.default(&mut object);
    kind("pods").strategy.prepare_create(&mut object);
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(object["status"]["qosClass"], "BestEffort");
    assert_eq!(object["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(object["metadata"]["generation"], 1);

    let mut namespace = json!({"metadata": {"name": "n"}});
    kind("namespaces").strategy.prepare_create(&mut namespace);
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));

    let mut node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}});
    kind("nodes").strategy.prepare_create(&mut node);
    assert_eq!(node["status"]["capacity"]["cpu"], "2");
}

#[test]
fn qos_classes() {
    let cases = [
        (json!({}), "BestEffort"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (json!({"limits": {"cpu": "1"}}), "Burstable"),
        (json!({"requests": {"memory": "1"}}), "Burstable"),
        (
            json!({"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}),
            "BestEffort",
        ),
    ];
    for (resources, want) in cases {
        let mut object = pod(json!({"containers": [{"name": "c", "image": "i:1", "resources": resources}]}));
        kind("pods").strategy.default(&mut object);
        kind("pods").strategy.prepare_create(&mut object);
        assert_eq!(
            object["status"]["qosClass"], want,
            "{}",
            object["spec"]["containers"][0]["resources"]
        );
    }
}
