use super::*;
use crate::contract::UserInfo;
use crate::fake::{Fake, request, user};
use crate::policy;
use serde_json::json;

fn cluster(more: Vec<Value>) -> Fake {
    let mut objects = policy::bootstrap_objects(&[]);
    objects.push(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}, "status": {"phase": "Active"}}),
    );
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old"}, "status": {"phase": "Terminating"}}));
    objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "dev", "uid": "sa"}}));
    objects.extend(more);
    Fake::with(objects)
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "dev"}, "spec": {"containers": [{"name": "c"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn create(objects: &Fake, path: &str, namespace: &str, mut object: Value) -> Result<Value, ApiError> {
    let ann = user("ann", &[]);
    let mut r = request(&ann, Operation::Create, path, namespace, "", &mut object, None);
    mutate(&mut r, objects, "abcde")?;
    Ok(object)
}

fn validated(
    who: &UserInfo,
    objects: &Fake,
    operation: Operation,
    path: &str,
    namespace: &str,
    name: &str,
    mut object: Value,
    old: Option<&Value>,
) -> Admitted {
    let authorizers = Authorizers::new(policy::node_rules());
    let mut r = request(who, operation, path, namespace, name, &mut object, old);
    validate(&mut r, objects, &authorizers)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: u16, words: &str) {
    let error = result.expect_err(words);
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(words), "{error}");
}

#[test]
fn namespaces_bound_what_is_in_them() {
    let objects = cluster(vec![]);
    let config_map = || json!({"metadata": {"name": "c"}});
    assert!(create(&objects, "/configmaps", "dev", config_map()).is_ok());
    refused(
        create(&objects, "/configmaps", "nowhere", config_map()),
        404,
        "namespaces \"nowhere\" not found",
    );
    let error = create(&objects, "/configmaps", "old", config_map()).unwrap_err();
    assert_eq!(
        error.message,
        "configmaps \"c\" is forbidden: unable to create new content in namespace old because it is being terminated"
    );
    assert_eq!(error.details.unwrap()["causes"][0]["reason"], "NamespaceTerminating");
    let ann = user("ann", &[]);
    for (name, expected) in [("default", 403), ("kube-system", 403), ("kube-public", 403), ("dev", 0)] {
        let result = validated(
            &ann,
            &objects,
            Operation::Delete,
            "/namespaces",
            "",
            name,
            Value::Null,
            None,
        );
        assert_eq!(result.err().map_or(0, |e| e.code), expected, "{name}");
    }
    let labelled = create(&objects, "/namespaces", "", json!({"metadata": {"name": "new"}})).unwrap();
    assert_eq!(labelled["metadata"]["labels"]["kubernetes.io/metadata.name"], "new");
}

#[test]
fn a_pod_gets_its_service_accounts_token() {
    let objects = cluster(vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "quiet", "namespace": "dev"},
               "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "pull"}]}),
    ]);
    let made = create(
        &objects,
        "/pods",
        "dev",
        pod(json!({
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c"}, {"name": "own", "volumeMounts": [{"name": "x", "mountPath": MOUNT}]}],
        })),
    )
    .unwrap();
    const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(
        (&made["spec"]["serviceAccountName"], &made["spec"]["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    let mount = json!([{"name": "kube-api-access-abcde", "readOnly": true, "mountPath": MOUNT}]);
    assert_eq!(made["spec"]["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"], mount);
    assert_eq!(made["spec"]["containers"][1]["volumeMounts"][0]["name"], "x");
    let sources = &made["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(
        sources[0]["serviceAccountToken"],
        json!({"expirationSeconds": 3607, "path": "token"})
    );
    assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
    assert_eq!(
        sources[2]["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"],
        "metadata.namespace"
    );

    let quiet = create(&objects, "/pods", "dev", pod(json!({"serviceAccountName": "quiet"}))).unwrap();
    assert!(quiet["spec"].get("volumes").is_none());
    assert_eq!(quiet["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    let insists = json!({"serviceAccountName": "quiet", "automountServiceAccountToken": true});
    assert!(
        create(&objects, "/pods", "dev", pod(insists)).unwrap()["spec"]
            .get("volumes")
            .is_some()
    );
    let declines = create(
        &objects,
        "/pods",
        "dev",
        pod(json!({"automountServiceAccountToken": false})),
    )
    .unwrap();
    assert!(declines["spec"].get("volumes").is_none());
    refused(
        create(&objects, "/pods", "dev", pod(json!({"serviceAccountName": "none"}))),
        403,
        "pods \"web\" is forbidden: error looking up service account dev/none: serviceaccount \"none\" not found",
    );
}

#[test]
fn priority_comes_from_the_class() {
    let class = |name: &str, value: i64, default: bool| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
               "globalDefault": default, "preemptionPolicy": "Never"})
    };
    let plain = cluster(vec![class("high", 1000, false)]);
    let defaulted = cluster(vec![class("base", 7, true), class("high", 1000, false)]);
    for (objects, spec, expected) in [
        (&plain, json!({}), Some((0, "PreemptLowerPriority"))),
        (&plain, json!({"priorityClassName": "high"}), Some((1000, "Never"))),
        (
            &plain,
            json!({"priorityClassName": "system-node-critical"}),
            Some((2_000_001_000, "PreemptLowerPriority")),
        ),
        (
            &plain,
            json!({"priorityClassName": "high", "priority": 1000}),
            Some((1000, "Never")),
        ),
        (&plain, json!({"priorityClassName": "high", "priority": 5}), None),
        (&plain, json!({"priorityClassName": "none"}), None),
        (&defaulted, json!({}), Some((7, "Never"))),
    ] {
        match (create(objects, "/pods", "dev", pod(spec.clone())), expected) {
            (Ok(made), Some((priority, policy))) => {
                assert_eq!(made["spec"]["priority"], priority, "{spec}");
                assert_eq!(made["spec"]["preemptionPolicy"], policy, "{spec}");
            }
            (Err(error), None) => assert_eq!(error.code, 403, "{spec}"),
            (other, _) => panic!("{spec}: {other:?}"),
        }
    }
    let made = create(&defaulted, "/pods", "dev", pod(json!({}))).unwrap();
    assert_eq!(made["spec"]["priorityClassName"], "base");
    let ann = user("ann", &[]);
    let second = validated(
        &ann,
        &defaulted,
        Operation::Create,
        "scheduling.k8s.io/priorityclasses",
        "",
        "two",
        class("two", 1, true),
        None,
    );
    refused(second, 403, "already marked as globalDefault");
}

#[test]
fn tolerations_and_taints() {
    let objects = cluster(vec![]);
    for (given, expected) in [
        (json!([]), 2),
        (json!([{"operator": "Exists"}]), 1),
        (
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
            2,
        ),
        (
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]),
            3,
        ),
    ] {
        let made = create(&objects, "/pods", "dev", pod(json!({"tolerations": given}))).unwrap();
        assert_eq!(
            made["spec"]["tolerations"].as_array().unwrap().len(),
            expected,
            "{given}"
        );
    }
    let node = create(&objects, "/nodes", "", json!({"metadata": {"name": "n"}})).unwrap();
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[test]
fn storage_and_ingress_defaults() {
    let class = |name: &str, created: &str, default: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name, "creationTimestamp": created,
               "annotations": {"storageclass.kubernetes.io/is-default-class": default}}, "allowVolumeExpansion": name == "b"})
    };
    let objects = cluster(vec![
        class("a", "2026-01-01T00:00:00Z", "true"),
        class("b", "2026-01-02T00:00:00Z", "true"),
        class("c", "2026-01-03T00:00:00Z", "false"),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "web",
               "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}}),
    ]);
    let claim = |spec: Value| json!({"metadata": {"name": "d", "namespace": "dev"}, "spec": spec});
    let made = create(&objects, "/persistentvolumeclaims", "dev", claim(json!({}))).unwrap();
    assert_eq!(made["spec"]["storageClassName"], "b");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let made = create(
        &objects,
        "/persistentvolumeclaims",
        "dev",
        claim(json!({"storageClassName": ""})),
    )
    .unwrap();
    assert_eq!(made["spec"]["storageClassName"], "");
    let ingress = json!({"metadata": {"name": "i"}, "spec": {}});
    let made = create(&objects, "networking.k8s.io/ingresses", "dev", ingress).unwrap();
    assert_eq!(made["spec"]["ingressClassName"], "web");

    let ann = user("ann", &[]);
    let sized = |class: &str, size: &str| {
        let mut claim = claim(json!({"storageClassName": class, "resources": {"requests": {"storage": size}}}));
        claim["status"] = json!({"phase": "Bound"});
        claim
    };
    for (class, size, allowed) in [("b", "2Gi", true), ("a", "2Gi", false), ("a", "1024Mi", true)] {
        let old = sized(class, "1Gi");
        let result = validated(
            &ann,
            &objects,
            Operation::Update,
            "/persistentvolumeclaims",
            "dev",
            "d",
            sized(class, size),
            Some(&old),
        );
        assert_eq!(result.is_ok(), allowed, "{class} {size}");
    }
}

#[test]
fn limit_ranges() {
    let objects = cluster(vec![
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "dev"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
                             "min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "5"}},
                            {"type": "Pod", "max": {"cpu": "1500m", "memory": "1Gi"}, "min": {"memory": "1Mi"}}]}}),
    ]);
    let made = create(&objects, "/pods", "dev", pod(json!({}))).unwrap();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let ann = user("ann", &[]);
    let container = |request: &str, limit: &str| json!({"name": "c", "resources": {"requests": {"cpu": request, "memory": "300Mi"}, "limits": {"cpu": limit, "memory": "600Mi"}}});
    for (containers, words) in [
        (json!([container("200m", "1")]), ""),
        (
            json!([container("10m", "50m")]),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!([container("1", "2")]),
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            json!([container("100m", "1")]),
            "cpu max limit to request ratio per Container is 5, but provided ratio is 10.0",
        ),
        (
            json!([container("500m", "1"), container("500m", "1")]),
            "maximum cpu usage per Pod is 1500m, but limit is 2",
        ),
        (
            // In the suffixes that the pod was written with.
            json!([container("200m", "400m"), container("200m", "400m")]),
            "maximum memory usage per Pod is 1Gi, but limit is 1200Mi",
        ),
    ] {
        let object = pod(json!({"containers": containers}));
        let result = validated(&ann, &objects, Operation::Create, "/pods", "dev", "web", object, None);
        match words {
            "" => assert_eq!(result, Ok(())),
            words => refused(result, 403, words),
        }
    }
}

#[test]
fn runtime_classes() {
    let objects = cluster(vec![
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"},
        "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {"nodeSelector": {"vm": "yes"}}}),
    ]);
    let made = create(&objects, "/pods", "dev", pod(json!({"runtimeClassName": "kata"}))).unwrap();
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
    refused(
        create(&objects, "/pods", "dev", pod(json!({"runtimeClassName": "x"}))),
        403,
        "RuntimeClass \"x\" not found",
    );
    let conflict = json!({"runtimeClassName": "kata", "nodeSelector": {"vm": "no"}});
    refused(create(&objects, "/pods", "dev", pod(conflict)), 403, "conflict");
}

#[test]
fn a_node_writes_only_what_is_its_own() {
    let on = |node: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "dev", "uid": format!("{name}-uid")},
               "spec": {"nodeName": node, "serviceAccountName": "default"}})
    };
    let node = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": "node-uid", "labels": labels}, "spec": {}});
    let objects = cluster(vec![on("n1", "mine"), on("n2", "theirs"), node("n1", json!({}))]);
    let who = user("system:node:n1", &["system:nodes"]);
    let mirror = |owner: &str, spec: Value| {
        let mut pod = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "h"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": owner, "uid": "node-uid"}]}, "spec": {"nodeName": "n1"}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        pod
    };
    let token = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
    let lease = |name: &str| json!({"metadata": {"name": name}});
    use Operation::{Create, Delete, Update};
    let (mine, theirs, own) = (on("n1", "mine"), on("n2", "theirs"), node("n1", json!({"a": "b"})));
    let mut labelled = mine.clone();
    labelled["metadata"]["labels"] = json!({"app": "x"});
    let mut tainted = own.clone();
    tainted["spec"]["taints"] = json!([{"key": "x", "effect": "NoSchedule"}]);
    let table: Vec<(Operation, &str, &str, &str, Value, Option<&Value>, &str)> = vec![
        (Create, "/pods", "dev", "m", mirror("n1", json!({})), None, ""),
        (
            Create,
            "/pods",
            "dev",
            "m",
            mirror("n2", json!({})),
            None,
            "owner reference set to itself",
        ),
        (
            Create,
            "/pods",
            "dev",
            "m",
            mirror("n1", json!({"nodeName": "n2"})),
            None,
            "spec.nodeName set to itself",
        ),
        (
            Create,
            "/pods",
            "dev",
            "m",
            mirror("n1", json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
            None,
            "",
        ),
        (
            Create,
            "/pods",
            "dev",
            "m",
            mirror("n1", json!({"imagePullSecrets": [{"name": "s"}]})),
            None,
            "reference secrets",
        ),
        (
            Create,
            "/pods",
            "dev",
            "m",
            pod(json!({})),
            None,
            "can only create mirror pods",
        ),
        (Delete, "/pods", "dev", "mine", Value::Null, Some(&mine), ""),
        (
            Delete,
            "/pods",
            "dev",
            "theirs",
            Value::Null,
            Some(&theirs),
            "can only delete pods",
        ),
        (Update, "/pods/status", "dev", "mine", mine.clone(), Some(&mine), ""),
        (
            Update,
            "/pods/status",
            "dev",
            "theirs",
            theirs.clone(),
            Some(&theirs),
            "can only update pod status",
        ),
        (
            Update,
            "/pods/status",
            "dev",
            "mine",
            labelled,
            Some(&mine),
            "cannot update labels",
        ),
        (Create, "/pods/eviction", "dev", "mine", json!({}), None, ""),
        (
            Create,
            "/pods/eviction",
            "dev",
            "theirs",
            json!({}),
            None,
            "can only evict",
        ),
        (
            Create,
            "/nodes",
            "",
            "",
            node("n1", json!({"kubernetes.io/hostname": "n1", "mine": "x"})),
            None,
            "",
        ),
        (
            Create,
            "/nodes",
            "",
            "",
            node("n2", json!({})),
            None,
            "is not allowed to modify node \"n2\"",
        ),
        (
            Create,
            "/nodes",
            "",
            "",
            node("n1", json!({"node-restriction.kubernetes.io/pci": "x"})),
            None,
            "following labels: node-restriction",
        ),
        (
            Update,
            "/nodes",
            "",
            "n1",
            node("n1", json!({"a": "c"})),
            Some(&own),
            "",
        ),
        (
            Update,
            "/nodes",
            "",
            "n1",
            node("n1", json!({"a": "b", "node-role.kubernetes.io/x": ""})),
            Some(&own),
            "not allowed to modify labels",
        ),
        (
            Update,
            "/nodes/status",
            "",
            "n2",
            node("n2", json!({})),
            None,
            "is not allowed to modify node",
        ),
        (
            Update,
            "/nodes",
            "",
            "n1",
            tainted,
            Some(&own),
            "not allowed to modify taints",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "default",
            token("mine", "mine-uid"),
            None,
            "",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "default",
            token("mine", ""),
            None,
            "without a uid",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "default",
            token("mine", "x"),
            None,
            "does not match",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "default",
            token("theirs", "theirs-uid"),
            None,
            "different node",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "other",
            token("mine", "mine-uid"),
            None,
            "does not use",
        ),
        (
            Create,
            "/serviceaccounts/token",
            "dev",
            "default",
            json!({"spec": {}}),
            None,
            "not bound to a pod",
        ),
        (
            Create,
            "coordination.k8s.io/leases",
            "kube-node-lease",
            "",
            lease("n1"),
            None,
            "",
        ),
        (
            Create,
            "coordination.k8s.io/leases",
            "kube-node-lease",
            "",
            lease("n2"),
            None,
            "same name",
        ),
        (
            Create,
            "coordination.k8s.io/leases",
            "dev",
            "",
            lease("n1"),
            None,
            "kube-node-lease",
        ),
        (
            Create,
            "storage.k8s.io/csinodes",
            "",
            "",
            lease("n2"),
            None,
            "same name",
        ),
    ];
    for (operation, path, namespace, name, object, old, words) in table {
        let shown = format!("{operation:?} {path} {name} {object}");
        let result = validated(&who, &objects, operation, path, namespace, name, object, old);
        match words {
            "" => assert_eq!(result, Ok(()), "{shown}"),
            words => refused(result.map(|()| shown), 403, words),
        }
    }
}

#[test]
fn reserved_labels() {
    use super::node_restriction::is_reserved_label;
    for (key, reserved) in [
        ("app", false),
        ("example.com/x", false),
        ("kubernetes.io/hostname", false),
        ("kubernetes.io/x", true),
        ("x.k8s.io/y", true),
        ("node.kubernetes.io/y", false),
        ("a.kubelet.kubernetes.io/y", false),
        ("node-restriction.kubernetes.io/y", true),
        ("a.node-restriction.kubernetes.io/y", true),
        ("notkubernetes.io/y", false),
        ("node-role.kubernetes.io/control-plane", true),
    ] {
        assert_eq!(is_reserved_label(key), reserved, "{key}");
    }
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let bind = |namespace: &str, role: &str, who: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("{who}-{role}"), "namespace": namespace},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "User", "name": who}]})
    };
    let objects = cluster(vec![bind("dev", "admin", "ann")]);
    let (ann, root) = (user("ann", &[]), user("root", &["system:masters"]));
    let role = |rules: Value| json!({"metadata": {"name": "r", "namespace": "dev"}, "rules": rules});
    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let nodes = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}]);
    let rbac = "rbac.authorization.k8s.io";
    let (roles, bindings, cluster_roles) = (
        format!("{rbac}/roles"),
        format!("{rbac}/rolebindings"),
        format!("{rbac}/clusterroles"),
    );
    let aggregated =
        json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let held = role(nodes.clone());
    for (who, path, object, old, words) in [
        (&ann, &roles, role(pods.clone()), None, ""),
        (
            &ann,
            &roles,
            role(nodes.clone()),
            None,
            "attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}",
        ),
        (&ann, &roles, role(nodes.clone()), Some(&held), ""),
        (&root, &roles, role(nodes.clone()), None, ""),
        (&ann, &bindings, bind("dev", "view", "bob"), None, ""),
        (
            &ann,
            &bindings,
            bind("dev", "cluster-admin", "bob"),
            None,
            "attempting to grant",
        ),
        (&root, &bindings, bind("dev", "cluster-admin", "bob"), None, ""),
        (
            &ann,
            &cluster_roles,
            aggregated,
            None,
            "must have cluster-admin privileges",
        ),
    ] {
        let namespace = if path == &cluster_roles { "" } else { "dev" };
        let shown = object.to_string();
        let result = validated(who, &objects, Operation::Create, path, namespace, "", object, old);
        match words {
            "" => assert_eq!(result, Ok(()), "{shown}"),
            words => refused(result, 403, words),
        }
    }
    refused(
        validated(
            &ann,
            &objects,
            Operation::Create,
            &bindings,
            "dev",
            "",
            bind("dev", "missing", "bob"),
            None,
        ),
        404,
        "not found",
    );
}

#[test]
fn certificate_requests() {
    use base64::Engine;
    let encode = |organization: &str| {
        let (_, pem) = crate::pki::new_csr("x", organization, &[]).unwrap();
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    let csr = |organization: &str, signer: &str| json!({"metadata": {"name": "x"}, "spec": {"request": encode(organization), "signerName": signer, "username": "liar"}});
    let objects = cluster(vec![]);
    let path = "certificates.k8s.io/certificatesigningrequests";
    let client = "kubernetes.io/kube-apiserver-client";
    let made = create(&objects, path, "", csr("dev", client)).unwrap();
    assert_eq!(
        (&made["spec"]["username"], &made["spec"]["groups"]),
        (&json!("ann"), &json!(["system:authenticated"]))
    );
    let (ann, root) = (user("ann", &[]), user("root", &["system:masters"]));
    let controller = user("system:serviceaccount:kube-system:certificate-controller", &[]);
    let validate =
        |who, operation, path: &str, object, old| validated(who, &objects, operation, path, "", "x", object, old);
    assert_eq!(
        validate(&ann, Operation::Create, path, csr("dev", client), None),
        Ok(())
    );
    refused(
        validate(&root, Operation::Create, path, csr("system:masters", client), None),
        403,
        "system:masters group is not allowed",
    );
    let kubelet = csr("system:nodes", "kubernetes.io/kube-apiserver-client-kubelet");
    let other = csr("dev", client);
    let (approval, status) = (format!("{path}/approval"), format!("{path}/status"));
    assert_eq!(
        validate(
            &controller,
            Operation::Update,
            &approval,
            kubelet.clone(),
            Some(&kubelet)
        ),
        Ok(())
    );
    refused(
        validate(&controller, Operation::Update, &approval, other.clone(), Some(&other)),
        403,
        "not permitted to approve",
    );
    refused(
        validate(&ann, Operation::Update, &approval, kubelet.clone(), Some(&kubelet)),
        403,
        "not permitted to approve",
    );
    let mut signed = kubelet.clone();
    signed["status"] = json!({"certificate": "x"});
    assert_eq!(
        validate(&controller, Operation::Update, &status, signed.clone(), Some(&kubelet)),
        Ok(())
    );
    refused(
        validate(&ann, Operation::Update, &status, signed, Some(&kubelet)),
        403,
        "not permitted to sign",
    );
}

#[test]
fn a_binding_carries_the_nodes_zone() {
    let objects = cluster(vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}),
    ]);
    let made = create(
        &objects,
        "/pods/binding",
        "dev",
        json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
    )
    .unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
}

#[test]
fn pod_security_levels() {
    let namespace = |name: &str, enforce: &str, warn: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": enforce, "pod-security.kubernetes.io/warn": warn}}})
    };
    let objects = cluster(vec![
        namespace("base", "baseline", "privileged"),
        namespace("strict", "restricted", "restricted"),
        namespace("told", "privileged", "restricted"),
    ]);
    let ann = user("ann", &[]);
    let strict = json!({"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}});
    for (space, spec, words) in [
        ("base", json!({}), ""),
        (
            "base",
            json!({"hostNetwork": true}),
            "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
        ),
        (
            "base",
            json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "base",
            json!({"volumes": [{"name": "v", "hostPath": {}}]}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            "base",
            json!({"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}}]}),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "base",
            json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            "strict",
            json!({}),
            "pods \"web\" is forbidden: violates PodSecurity \"restricted:latest\": \
          allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
          unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
          runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
          seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        ("strict", json!({"containers": [strict]}), ""),
        (
            "strict",
            json!({"containers": [strict], "volumes": [{"name": "v", "hostPath": {}}]}),
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        ("told", json!({"hostPID": true}), ""),
    ] {
        let result = validated(
            &ann,
            &objects,
            Operation::Create,
            "/pods",
            space,
            "web",
            pod(spec.clone()),
            None,
        );
        match words {
            "" => assert_eq!(result, Ok(()), "{spec}"),
            words => refused(result, 403, words),
        }
    }
    let mut deployment =
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"hostPID": true, "containers": []}}}});
    let mut r = request(
        &ann,
        Operation::Create,
        "apps/deployments",
        "told",
        "d",
        &mut deployment,
        None,
    );
    validate(&mut r, &objects, &Authorizers::default()).unwrap();
    assert_eq!(
        r.warnings,
        ["would violate PodSecurity \"restricted:latest\": host namespaces (hostPID=true)"]
    );
}

#[test]
fn a_resize_beyond_the_node_is_refused() {
    let node = |os: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": os, "labels": {"kubernetes.io/os": os}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}}})
    };
    let objects = cluster(vec![node("linux"), node("windows")]);
    let ann = user("ann", &[]);
    let asking = |node: &str, cpu: &str, memory: &str| {
        pod(
            json!({"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}),
        )
    };
    let resize = |subresource: &str, new: Value| {
        let old = asking(new["spec"]["nodeName"].as_str().unwrap_or(""), "1", "1Gi");
        let path = format!("/pods{subresource}");
        validated(&ann, &objects, Operation::Update, &path, "dev", "web", new, Some(&old))
    };
    for (subresource, new, words, cause) in [
        ("/resize", asking("linux", "2", "4Gi"), "", ""),
        ("", asking("linux", "3", "4Gi"), "", ""),
        ("/resize", asking("", "3", "4Gi"), "", ""),
        (
            "/resize",
            asking("linux", "2500m", "5Gi"),
            "pods \"web\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000; memory, requested: 5368709120, allocatable: 4294967296",
            "NodeCapacity",
        ),
        (
            "/resize",
            asking("windows", "2", "4Gi"),
            "pod resize is only supported on linux nodes, node \"windows\" is \"windows\"",
            "UnsupportedPlatform",
        ),
        ("/resize", asking("lost", "2", "4Gi"), "node \"lost\" not found", ""),
    ] {
        let result = resize(subresource, new);
        if words.is_empty() {
            assert_eq!(result, Ok(()));
            continue;
        }
        let error = result.clone().unwrap_err();
        refused(result, 403, words);
        let reason = error.details.unwrap()["causes"][0]["reason"].clone();
        assert_eq!(reason.as_str().unwrap_or(""), cause);
    }
}

#[test]
fn the_systems_priority_classes_stay() {
    let class = |name: &str| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1});
    let names = ["system-node-critical", "system-cluster-critical", "mine"];
    let objects = cluster(names.map(class).to_vec());
    let root = user("root", &["system:masters"]);
    for name in names {
        let path = "scheduling.k8s.io/priorityclasses";
        let old = class(name);
        let result = validated(
            &root,
            &objects,
            Operation::Delete,
            path,
            "",
            name,
            Value::Null,
            Some(&old),
        );
        match name {
            "mine" => assert_eq!(result, Ok(())),
            _ => refused(
                result,
                403,
                "is forbidden: this is a system priority class and cannot be deleted",
            ),
        }
    }
}
