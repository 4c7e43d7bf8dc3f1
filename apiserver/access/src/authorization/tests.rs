use super::*;
use crate::fake::{Fake, user};
use crate::policy;

fn attributes<'a>(
    user: &'a UserInfo,
    verb: &'a str,
    path: &'a str,
    namespace: &'a str,
    name: &'a str,
    field_selector: &'a str,
) -> Attributes<'a> {
    let (mut group, mut resource, mut subresource, mut url) = ("", "", "", "");
    if path.starts_with('/') {
        url = path;
    } else {
        let mut parts = path.split(':');
        group = parts.next().unwrap();
        let of = parts.next().unwrap();
        (resource, subresource) = of.split_once('/').unwrap_or((of, ""));
    }
    let path = url;
    Attributes {
        user,
        verb,
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        path,
        field_selector,
        label_selector: "",
    }
}

fn authorizers() -> Authorizers {
    Authorizers::new(policy::node_rules())
}

fn check(objects: &Fake, who: &UserInfo, table: &[(&str, &str, &str, &str, &str, bool)]) {
    let authorizers = authorizers();
    for &(verb, path, namespace, name, fields, expected) in table {
        let decision = authorizers.authorize(&attributes(who, verb, path, namespace, name, fields), objects);
        let allowed = matches!(decision, Decision::Allow { .. });
        assert_eq!(
            allowed, expected,
            "{} {verb} {path} {namespace}/{name} {fields}: {decision:?}",
            who.name
        );
    }
}

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn binding(kind: &str, namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": rbac::GROUP, "kind": role.0, "name": role.1}, "subjects": [subject],
    })
}

#[test]
fn masters_may_everything() {
    let admin = user("root", &["system:masters"]);
    check(
        &Fake::default(),
        &admin,
        &[
            ("delete", ":nodes", "", "a", "", true),
            ("get", "/metrics", "", "", "", true),
        ],
    );
}

#[test]
fn rbac_rules() {
    let objects = Fake::with(vec![
        role(
            "ClusterRole",
            "",
            "reader",
            json!([
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
                {"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]},
                {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]},
            ]),
        ),
        binding(
            "ClusterRoleBinding",
            "",
            "all",
            ("ClusterRole", "reader"),
            json!({"kind": "User", "name": "ann"}),
        ),
        binding(
            "RoleBinding",
            "dev",
            "some",
            ("ClusterRole", "reader"),
            json!({"kind": "Group", "name": "team"}),
        ),
        role(
            "Role",
            "dev",
            "writer",
            json!([{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]}]),
        ),
        binding(
            "RoleBinding",
            "dev",
            "sa",
            ("Role", "writer"),
            json!({"kind": "ServiceAccount", "name": "bot"}),
        ),
        binding(
            "RoleBinding",
            "dev",
            "gone",
            ("Role", "missing"),
            json!({"kind": "User", "name": "ann"}),
        ),
    ]);
    check(
        &objects,
        &user("ann", &[]),
        &[
            ("get", ":pods", "x", "p", "", true),
            ("get", ":pods/log", "x", "p", "", true),
            ("get", ":pods/exec", "x", "p", "", false),
            ("delete", ":pods", "x", "p", "", false),
            ("get", "apps:pods", "x", "p", "", false),
            ("update", "apps:deployments/scale", "x", "d", "", true),
            ("update", "apps:deployments", "x", "d", "", false),
            ("get", ":configmaps", "x", "one", "", true),
            ("get", ":configmaps", "x", "two", "", false),
            ("list", ":configmaps", "x", "", "", false),
            ("get", "/healthz", "", "", "", true),
            ("get", "/healthz/etcd", "", "", "", false),
            ("get", "/logs/a/b", "", "", "", true),
            ("get", "/metrics", "", "", "", false),
        ],
    );
    check(
        &objects,
        &user("bob", &["team"]),
        &[
            ("get", ":pods", "dev", "p", "", true),
            ("get", ":pods", "prod", "p", "", false),
            ("list", ":pods", "", "", "", false),
            ("get", "/healthz", "", "", "", false),
        ],
    );
    check(
        &objects,
        &user("system:serviceaccount:dev:bot", &[]),
        &[
            ("delete", "apps:deployments/scale", "dev", "d", "", true),
            ("get", ":pods", "dev", "p", "", false),
        ],
    );
}

#[test]
fn reasons_name_the_binding() {
    let objects = Fake::with(vec![
        role(
            "Role",
            "dev",
            "r",
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
        ),
        binding(
            "RoleBinding",
            "dev",
            "b",
            ("Role", "r"),
            json!({"kind": "User", "name": "ann"}),
        ),
    ]);
    let who = user("ann", &[]);
    let decision = authorizers().authorize(&attributes(&who, "get", ":pods", "dev", "p", ""), &objects);
    let reason = "RBAC: allowed by RoleBinding \"b/dev\" of Role \"r\" to User \"ann\"".to_string();
    assert_eq!(decision, Decision::Allow { reason });
}

#[test]
fn bindings_of_no_role_say_so() {
    let subject = || json!({"kind": "User", "name": "ann"});
    let objects = Fake::with(vec![
        binding("RoleBinding", "dev", "b", ("Role", "gone"), subject()),
        binding("ClusterRoleBinding", "", "c", ("ClusterRole", "lost"), subject()),
    ]);
    let who = user("ann", &[]);
    let (lost, gone) = (
        "clusterrole.rbac.authorization.k8s.io \"lost\" not found",
        "role.rbac.authorization.k8s.io \"gone\" not found",
    );
    for (path, namespace, reason) in [
        (":nodes", "", format!("RBAC: {lost}")),
        ("/healthz", "", format!("RBAC: {lost}")),
        (":pods", "dev", format!("RBAC: [{lost}, {gone}]")),
    ] {
        let decision = authorizers().authorize(&attributes(&who, "get", path, namespace, "p", ""), &objects);
        assert_eq!(decision, Decision::Deny { reason });
    }
    let other = user("bob", &[]);
    let decision = authorizers().authorize(&attributes(&other, "get", ":pods", "dev", "p", ""), &objects);
    assert_eq!(decision, Decision::Deny { reason: String::new() });
    let status = authorizers().rules_for(&who, "dev", &objects);
    assert_eq!(status["evaluationError"], json!(format!("[{lost}, {gone}]")));
}

#[test]
fn a_new_role_counts_at_once() {
    let mut objects = Fake::with(policy::bootstrap_objects(&[]));
    let authorizers = authorizers();
    let who = user("eve", &[]);
    let asked = attributes(&who, "get", ":secrets", "dev", "s", "");
    assert!(matches!(authorizers.authorize(&asked, &objects), Decision::Deny { .. }));
    objects.put(binding(
        "RoleBinding",
        "dev",
        "b",
        ("ClusterRole", "edit"),
        json!({"kind": "User", "name": "eve"}),
    ));
    assert!(matches!(
        authorizers.authorize(&asked, &objects),
        Decision::Allow { .. }
    ));
    objects.delete(rbac::GROUP, "rolebindings", "dev", "b");
    assert!(matches!(authorizers.authorize(&asked, &objects), Decision::Deny { .. }));
}

#[test]
fn components_have_what_they_need_and_no_more() {
    let objects = Fake::with(policy::bootstrap_objects(&[]));
    check(
        &objects,
        &user("system:kube-scheduler", &[]),
        &[
            ("create", ":pods/binding", "default", "p", "", true),
            ("list", ":nodes", "", "", "", true),
            ("create", "events.k8s.io:events", "default", "", "", true),
            ("patch", ":pods/status", "default", "p", "", true),
            ("get", ":secrets", "default", "s", "", false),
            ("update", ":nodes", "", "n", "", false),
        ],
    );
    check(
        &objects,
        &user("system:serviceaccount:kube-system:replicaset-controller", &[]),
        &[
            ("create", ":pods", "default", "", "", true),
            ("update", "apps:replicasets/status", "default", "r", "", true),
            ("create", "apps:replicasets", "default", "", "", false),
            ("get", ":secrets", "default", "s", "", false),
        ],
    );
    check(
        &objects,
        &user("system:serviceaccount:kube-system:namespace-controller", &[]),
        &[
            ("deletecollection", "example.com:widgets", "default", "", "", true),
            ("update", ":namespaces/finalize", "", "default", "", true),
        ],
    );
    check(
        &objects,
        &user("somebody", &[]),
        &[
            ("get", "/version", "", "", "", true),
            ("get", "/openapi/v3", "", "", "", true),
            (
                "create",
                "authorization.k8s.io:selfsubjectaccessreviews",
                "",
                "",
                "",
                true,
            ),
            ("list", ":pods", "default", "", "", false),
        ],
    );
    let anonymous = crate::authentication::anonymous();
    check(
        &objects,
        &anonymous,
        &[
            ("get", "/healthz", "", "", "", true),
            ("get", "/api", "", "", "", false),
            (
                "create",
                "authorization.k8s.io:selfsubjectaccessreviews",
                "",
                "",
                "",
                false,
            ),
        ],
    );
    check(
        &objects,
        &user("system:bootstrap:abcdef", &["system:bootstrappers"]),
        &[
            (
                "create",
                "certificates.k8s.io:certificatesigningrequests",
                "",
                "",
                "",
                true,
            ),
            (
                "create",
                "certificates.k8s.io:certificatesigningrequests/nodeclient",
                "",
                "",
                "",
                true,
            ),
            ("get", ":nodes", "", "n", "", false),
        ],
    );
}

fn node_objects() -> Fake {
    let mut objects = policy::bootstrap_objects(&[]);
    let pod = |name: &str, node: &str, spec: Value| {
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "dev"}, "spec": spec});
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    objects.push(pod("mine", "n1", json!({
        "serviceAccountName": "bot",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
            "envFrom": [{"configMapRef": {"name": "envfrom"}}],
        }],
        "volumes": [
            {"name": "v1", "secret": {"secretName": "volume"}},
            {"name": "v2", "configMap": {"name": "files"}},
            {"name": "v3", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "part"}}]}},
            {"name": "v4", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "v5", "ephemeral": {"volumeClaimTemplate": {}}},
        ],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "claim"}],
    })));
    objects.push(pod(
        "other",
        "n2",
        json!({
            "serviceAccountName": "robot", "volumes": [{"name": "v", "secret": {"secretName": "theirs"}}],
        }),
    ));
    for (name, claim, secret) in [("pv1", "data", "csi"), ("pv2", "elsewhere", "csi2")] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"claimRef": {"namespace": "dev", "name": claim},
                     "csi": {"nodeStageSecretRef": {"name": secret, "namespace": "store"}}},
        }));
    }
    objects.push(json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "a1"}, "spec": {"nodeName": "n1"}}));
    Fake::with(objects)
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let objects = node_objects();
    check(
        &objects,
        &user("system:node:n1", &["system:nodes"]),
        &[
            ("get", ":secrets", "dev", "env", "", true),
            ("get", ":secrets", "dev", "pull", "", true),
            ("get", ":secrets", "dev", "volume", "", true),
            ("watch", ":secrets", "dev", "", "metadata.name=part", true),
            ("get", ":secrets", "store", "csi", "", true),
            ("get", ":secrets", "store", "csi2", "", false),
            ("get", ":secrets", "dev", "theirs", "", false),
            ("get", ":secrets", "prod", "env", "", false),
            ("list", ":secrets", "dev", "", "", false),
            ("list", ":secrets", "", "", "", false),
            ("update", ":secrets", "dev", "env", "", false),
            ("get", ":configmaps", "dev", "files", "", true),
            ("get", ":configmaps", "dev", "envfrom", "", true),
            ("get", ":configmaps", "dev", "kube-root-ca.crt", "", true),
            ("get", ":configmaps", "dev", "env", "", false),
            ("get", ":persistentvolumeclaims", "dev", "data", "", true),
            ("get", ":persistentvolumeclaims", "dev", "mine-v5", "", true),
            ("get", ":persistentvolumeclaims", "dev", "mine-v4", "", false),
            ("patch", ":persistentvolumeclaims/status", "dev", "data", "", true),
            ("patch", ":persistentvolumeclaims", "dev", "data", "", false),
            ("get", ":persistentvolumes", "", "pv1", "", true),
            ("get", ":persistentvolumes", "", "pv2", "", false),
            ("get", "storage.k8s.io:volumeattachments", "", "a1", "", true),
            ("get", "resource.k8s.io:resourceclaims", "dev", "claim", "", true),
            ("get", "resource.k8s.io:resourceclaims", "dev", "gpu", "", false),
            ("create", ":serviceaccounts/token", "dev", "bot", "", true),
            ("create", ":serviceaccounts/token", "dev", "robot", "", false),
            ("create", ":serviceaccounts/token", "dev", "default", "", false),
        ],
    );
}

#[test]
fn a_node_has_its_own_node_pods_and_lease() {
    let objects = node_objects();
    check(
        &objects,
        &user("system:node:n1", &["system:nodes"]),
        &[
            ("get", ":nodes", "", "n1", "", true),
            ("watch", ":nodes", "", "", "metadata.name=n1", true),
            // Every agent is a service proxy too: routes lead to the other nodes.
            ("list", ":nodes", "", "", "", true),
            ("list", "discovery.k8s.io:endpointslices", "", "", "", true),
            ("create", ":nodes", "", "", "", true),
            ("patch", ":nodes/status", "", "n1", "", true),
            ("delete", ":nodes", "", "n1", "", false),
            ("get", ":pods", "dev", "mine", "", true),
            ("get", ":pods", "dev", "other", "", false),
            ("list", ":pods", "", "", "spec.nodeName=n1", true),
            ("watch", ":pods", "", "", "spec.nodeName=n2", false),
            ("list", ":pods", "", "", "", false),
            ("list", ":pods", "", "", "spec.nodeName!=n1", false),
            ("patch", ":pods/status", "dev", "mine", "", true),
            ("create", ":pods/eviction", "dev", "mine", "", true),
            ("update", ":pods", "dev", "mine", "", false),
            (
                "update",
                "coordination.k8s.io:leases",
                "kube-node-lease",
                "n1",
                "",
                true,
            ),
            (
                "update",
                "coordination.k8s.io:leases",
                "kube-node-lease",
                "n2",
                "",
                false,
            ),
            ("create", "coordination.k8s.io:leases", "kube-node-lease", "", "", true),
            ("get", "coordination.k8s.io:leases", "kube-system", "n1", "", false),
            ("get", "storage.k8s.io:csinodes", "", "n1", "", true),
            ("get", "storage.k8s.io:csinodes", "", "n2", "", false),
            ("watch", ":services", "", "", "", true),
            ("create", ":events", "dev", "", "", true),
            ("list", "node.k8s.io:runtimeclasses", "", "", "", true),
            ("list", "apps:deployments", "dev", "", "", false),
            (
                "create",
                "certificates.k8s.io:certificatesigningrequests/selfnodeclient",
                "",
                "",
                "",
                true,
            ),
        ],
    );
}

#[test]
fn a_node_without_the_group_is_nobody() {
    let objects = node_objects();
    check(
        &objects,
        &user("system:node:n1", &[]),
        &[("get", ":nodes", "", "n1", "", false)],
    );
    check(
        &objects,
        &user("system:node:", &["system:nodes"]),
        &[
            ("get", ":secrets", "dev", "env", "", false),
            ("create", ":nodes", "", "", "", false),
        ],
    );
}

#[test]
fn rules_review_lists_rules() {
    let objects = Fake::with(policy::bootstrap_objects(&[]));
    let status = authorizers().rules_for(&user("somebody", &[]), "default", &objects);
    assert_eq!(status["incomplete"], false);
    assert!(status["resourceRules"].to_string().contains("selfsubjectaccessreviews"));
    assert!(status["nonResourceRules"].to_string().contains("/healthz"));
}

#[test]
fn covering() {
    let rule = |verbs: &str, groups: &str, resources: &str, names: &[&str]| rules::Rule {
        verbs: verbs.split(',').map(String::from).collect(),
        groups: groups.split(',').map(String::from).collect(),
        resources: resources.split(',').map(String::from).collect(),
        names: names.iter().map(ToString::to_string).collect(),
        urls: Vec::new(),
    };
    let held = [
        rule("get,list", "", "pods,secrets", &[]),
        rule("get", "", "configmaps", &["a"]),
        rule("*", "apps", "*", &[]),
    ];
    for (wanted, missing) in [
        (rule("get", "", "pods", &[]), 0),
        (rule("get,list", "", "pods,secrets", &["x"]), 0),
        (rule("get,delete", "", "pods", &[]), 1),
        (rule("get", "", "configmaps", &["a"]), 0),
        (rule("get", "", "configmaps", &["a", "b"]), 1),
        (rule("get", "", "configmaps", &[]), 1),
        (rule("delete", "apps", "deployments/scale", &[]), 0),
        (rule("*", "", "pods", &[]), 1),
        (rule("get", "*", "pods", &[]), 1),
    ] {
        assert_eq!(
            rules::uncovered(&held, std::slice::from_ref(&wanted)).len(),
            missing,
            "{wanted:?}"
        );
    }
}

#[test]
fn missing_rules_are_shown_together() {
    let rule = |verb: &str, resource: &str, name: &str| rules::Rule {
        verbs: vec![verb.into()],
        groups: vec![String::new()],
        resources: vec![resource.into()],
        names: Some(name.to_string()).filter(|n| !n.is_empty()).into_iter().collect(),
        urls: Vec::new(),
    };
    let shown: Vec<String> = rules::compact(vec![
        rule("list", "pods", ""),
        rule("get", "pods", ""),
        rule("get", "nodes", "n"),
        rule("get", "pods", ""),
    ])
    .iter()
    .map(rules::Rule::shown)
    .collect();
    assert_eq!(
        shown,
        [
            "{APIGroups:[\"\"], Resources:[\"nodes\"], ResourceNames:[\"n\"], Verbs:[\"get\"]}",
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"get\"]}",
        ]
    );
}
