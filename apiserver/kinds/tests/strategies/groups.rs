//! Creates and updates of the kinds outside core and apps, with what is found wrong.

use crate::kind;
use serde_json::{Value, json};

fn texts(errors: Vec<skiff_api::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a new object.
pub fn created(name: &str, mut object: Value) -> Vec<String> {
    let strategy = kind(name).strategy;
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    let mut errors = strategy.validate(&object);
    errors.extend(strategy.validate_create(&object));
    texts(errors)
}

/// What is wrong with an update, and what it made.
pub fn updated(name: &str, sub: &str, old: &Value, new: &Value) -> (Vec<String>, Value) {
    let strategy = kind(name).strategy;
    let (mut old, mut new) = (old.clone(), new.clone());
    strategy.default(&mut old);
    strategy.default(&mut new);
    strategy.prepare_update(sub, &mut new, &old);
    let errors = strategy.validate_update(sub, &new, &old);
    (texts(errors), new)
}

#[track_caller]
pub fn check(got: &[String], want: &[&str], of: &Value) {
    let fits = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| g.contains(w));
    assert!(fits, "of {of}\n got {got:#?}\nwant {want:#?}");
}

/// One row: what is set in the base at a pointer, and what is then wrong.
pub type Row<'a> = (&'a str, Value, &'a [&'a str]);

#[track_caller]
pub fn table(name: &str, base: &Value, rows: &[Row]) {
    check(&created(name, base.clone()), &[], base);
    for (pointer, value, want) in rows {
        let object = set(base, pointer, value.clone());
        check(&created(name, object.clone()), want, &object);
    }
}

pub fn set(base: &Value, pointer: &str, value: Value) -> Value {
    let mut object = base.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer} in {base}"));
    match parent {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key.replace("~1", "/").as_str()] = value,
    }
    object
}

const PATH: &str = "/spec/rules/0/http/paths/0";

#[test]
fn ingresses() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let base = json!({"metadata": {"name": "i"}, "spec": {"rules": [
        {"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ]}});
    let at = |rest: &str| format!("{PATH}{rest}");
    let rows: &[Row] = &[
        (
            "/spec/rules",
            json!([]),
            &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            "/spec/rules/0/host",
            json!("1.2.3.4"),
            &["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
        ),
        ("/spec/rules/0/host", json!("*.b.c"), &[]),
        (
            "/spec/rules/0/host",
            json!("a.*.c"),
            &["spec.rules[0].host: Invalid value: \"a.*.c\": a wildcard DNS-1123 subdomain must"],
        ),
        (
            &at("/path"),
            json!("/a//b"),
            &["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"],
        ),
        (&at("/path"), json!("/a/.."), &["cannot end with '/..'"]),
        (
            &at("/path"),
            json!("a%2fb"),
            &["must be an absolute path", "must not contain '%2f'"],
        ),
        (
            &at("/pathType"),
            json!(null),
            &["paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            &at("/pathType"),
            json!("Regex"),
            &["Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""],
        ),
        (
            &at("/backend"),
            json!({}),
            &["paths[0].backend: Invalid value: \"\": resource or service backend is required"],
        ),
        (
            &at("/backend/service/port"),
            json!({}),
            &["paths[0].backend: Required value: port name or number is required"],
        ),
        (
            &at("/backend/service/port"),
            json!({"number": 1, "name": "a"}),
            &["backend: Invalid value: \"\": cannot set both port name & port number"],
        ),
        (
            &at("/backend"),
            json!({"resource": {"kind": "", "name": "a/b"}}),
            &[
                "backend.resource.kind: Required value",
                "backend.resource.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
        (
            "/spec/tls",
            json!([{"hosts": ["*.b.c", "A"], "secretName": "S"}]),
            &[
                "spec.tls[0].hosts[1]: Invalid value: \"A\"",
                "spec.tls[0].secretName: Invalid value: \"S\"",
            ],
        ),
        (
            "/spec/ingressClassName",
            json!("A_"),
            &["spec.ingressClassName: Invalid value"],
        ),
        (
            "/metadata/annotations",
            json!({"kubernetes.io/ingress.class": "c"}),
            &[],
        ),
    ];
    table("ingresses.networking.k8s.io", &base, rows);
    let mut both = set(
        &base,
        "/metadata/annotations",
        json!({"kubernetes.io/ingress.class": "c"}),
    );
    both["spec"]["ingressClassName"] = json!("d");
    check(
        &created("ingresses.networking.k8s.io", both.clone()),
        &[
            "annotations.kubernetes.io/ingress.class: Invalid value: \"c\": must match `ingressClassName` when both are specified",
        ],
        &both,
    );
    let status = set(
        &base,
        "/status",
        json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.999", "hostname": "1.2.3.4"}]}}),
    );
    let (errors, _) = updated("ingresses.networking.k8s.io", "status", &base, &status);
    check(
        &errors,
        &[
            "status.loadBalancer.ingress[0].ip: Invalid value",
            "hostname: Invalid value: \"1.2.3.4\": must be a DNS name",
        ],
        &status,
    );
}

#[test]
fn ingress_classes() {
    let base =
        json!({"metadata": {"name": "c"}, "spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n"}}});
    let rows: &[Row] = &[
        ("/spec/controller", json!(""), &["spec.controller: Required value"]),
        (
            "/spec/controller",
            json!("a"),
            &["must be a domain-prefixed path (such as \"acme.io/foo\")"],
        ),
        (
            "/spec/controller",
            json!("A/b c"),
            &["spec.controller: Invalid value: \"A\"", "must be a valid HTTP path"],
        ),
        (
            "/spec/parameters/scope",
            json!("Namespace"),
            &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
        ),
        (
            "/spec/parameters/scope",
            json!("World"),
            &["spec.parameters.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespace\""],
        ),
        (
            "/spec/parameters/namespace",
            json!("n"),
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
        (
            "/spec/parameters/kind",
            json!(""),
            &["spec.parameters.kind: Required value"],
        ),
    ];
    table("ingressclasses.networking.k8s.io", &base, rows);
}

#[test]
fn network_policies() {
    let base = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [
        {"ports": [{"port": 80}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}
    ]}});
    let (port, peer) = ("/spec/ingress/0/ports/0", "/spec/ingress/0/from/0");
    let rows: &[Row] = &[
        (
            port,
            json!({"port": 0}),
            &["spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            port,
            json!({"port": 80, "endPort": 79}),
            &["ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`"],
        ),
        (
            port,
            json!({"port": "http", "endPort": 79}),
            &["endPort: Invalid value: 79: may not be specified when `port` is non-numeric"],
        ),
        (
            port,
            json!({"endPort": 79}),
            &["endPort: Invalid value: 79: may not be specified when `port` is not specified"],
        ),
        (
            port,
            json!({"protocol": "ICMP"}),
            &["protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""],
        ),
        (
            peer,
            json!({}),
            &["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            peer,
            json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
            &["from[0]: Forbidden: may not specify both ipBlock and another peer"],
        ),
        (
            peer,
            json!({"ipBlock": {"cidr": "10.0.0.1/8"}}),
            &["ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"],
        ),
        (
            peer,
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/16", "x"]}}),
            &[
                "except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "except[2]: Invalid value: \"x\": must be a valid CIDR value",
            ],
        ),
        (
            "/spec/policyTypes",
            json!(["Ingress", "Egress", "x"]),
            &[
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"x\"]: may not specify more than two policyTypes",
            ],
        ),
    ];
    table("networkpolicies.networking.k8s.io", &base, rows);
    let old = set(&base, "/spec/ingress/0/from/0/ipBlock", json!({"cidr": "10.0.0.1/8"}));
    check(
        &updated("networkpolicies.networking.k8s.io", "", &old, &old).0,
        &[],
        &old,
    );
}

#[test]
fn addresses_and_ranges() {
    let base = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}});
    let rows: &[Row] = &[
        (
            "/metadata/name",
            json!("2001:DB8::1"),
            &["metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")"],
        ),
        ("/spec/parentRef", json!(null), &["spec.parentRef: Required value"]),
        (
            "/spec/parentRef",
            json!({"group": "A"}),
            &[
                "parentRef.group: Invalid value",
                "parentRef.resource: Required value",
                "parentRef.name: Required value",
            ],
        ),
    ];
    table("ipaddresses.networking.k8s.io", &base, rows);
    let base = json!({"metadata": {"name": "c"}, "spec": {"cidrs": ["10.0.0.0/24"]}});
    let name = "servicecidrs.networking.k8s.io";
    let rows: &[Row] = &[
        (
            "/spec/cidrs",
            json!([]),
            &["spec.cidrs: Required value: at least one CIDR required"],
        ),
        (
            "/spec/cidrs",
            json!(["10.0.0.1/24"]),
            &["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must be in canonical form (\"10.0.0.0/24\")"],
        ),
        (
            "/spec/cidrs",
            json!(["10.0.0.0/24", "10.1.0.0/24"]),
            &["may specify no more than one IP for each IP family"],
        ),
        ("/spec/cidrs", json!(["a", "b", "c"]), &["may only hold up to 2 values"]),
    ];
    table(name, &base, rows);
    for (cidrs, want) in [
        (json!(["10.0.0.0/24", "fd00::/64"]), &[][..]),
        (
            json!(["10.1.0.0/24"]),
            &["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
        ),
        (json!([]), &["spec.cidrs: Invalid value: []: field is immutable"]),
    ] {
        let new = set(&base, "/spec/cidrs", cidrs);
        check(&updated(name, "", &base, &new).0, want, &new);
    }
}

#[test]
fn endpoint_slices() {
    let base = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    let at = "/endpoints/0/addresses";
    let zones: Vec<Value> = (0..9).map(|i| json!({"name": format!("z{i}")})).collect();
    let rows: &[Row] = &[
        (
            "/addressType",
            json!("IP"),
            &["addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
        ),
        (
            at,
            json!([]),
            &["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (
            at,
            json!(["127.0.0.1"]),
            &["endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range"],
        ),
        (
            at,
            json!(["::2"]),
            &["endpoints[0].addresses[0]: Invalid value: \"::2\": must be an IPv4 address"],
        ),
        (at, json!(["10.0.0.01"]), &["must not have leading 0s"]),
        (
            "/endpoints/0/hostname",
            json!("A.b"),
            &["endpoints[0].hostname: Invalid value"],
        ),
        (
            "/endpoints/0/nodeName",
            json!("A"),
            &["endpoints[0].nodeName: Invalid value"],
        ),
        (
            "/endpoints/0/hints",
            json!({"forZones": [{"name": "a"}, {"name": "a"}]}),
            &["endpoints[0].hints.forZones[1].name: Duplicate value: \"a\""],
        ),
        (
            "/endpoints/0/hints",
            json!({"forZones": zones}),
            &["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"],
        ),
        (
            "/ports/0",
            json!({"appProtocol": "a b"}),
            &["ports[0].appProtocol: Invalid value"],
        ),
        ("/ports/0", json!({"name": "A"}), &["ports[0].name: Invalid value"]),
    ];
    table("endpointslices.discovery.k8s.io", &base, rows);
    let old = set(&base, "/metadata/generation", json!(3));
    let labelled = set(&old, "/metadata/labels", json!({"kubernetes.io/service-name": "s"}));
    let annotated = set(&old, "/metadata/annotations", json!({"a": "b"}));
    for (new, generation) in [(labelled, 4), (annotated, 3)] {
        let (_, made) = updated("endpointslices.discovery.k8s.io", "", &old, &new);
        assert_eq!(made["metadata"]["generation"], json!(generation), "{new}");
    }
}

#[test]
fn storage() {
    let class = json!({"metadata": {"name": "c"}, "provisioner": "a.b/c"});
    let term = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]});
    let rows: &[Row] = &[
        ("/provisioner", json!(""), &["provisioner: Required value"]),
        ("/provisioner", json!("a b"), &["provisioner: Invalid value: \"a b\""]),
        (
            "/parameters",
            json!({"": "x"}),
            &["parameters: Invalid value: \"\": field can not be empty."],
        ),
        (
            "/reclaimPolicy",
            json!("Recycle"),
            &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
        ),
        (
            "/allowedTopologies",
            json!([term, term]),
            &["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""],
        ),
        (
            "/allowedTopologies",
            json!([{"matchLabelExpressions": [{"key": "a", "values": ["x", "x"]}, {"key": "a", "values": []}]}]),
            &[
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
                "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
            ],
        ),
    ];
    table("storageclasses.storage.k8s.io", &class, rows);
    let attributes = json!({"metadata": {"name": "c"}, "driverName": "a.b", "parameters": {"a": "b"}});
    let rows: &[Row] = &[(
        "/parameters",
        json!({}),
        &["parameters: Required value: must contain at least one key/value pair"],
    )];
    table("volumeattributesclasses.storage.k8s.io", &attributes, rows);
    let other = set(&attributes, "/parameters", json!({"a": "c"}));
    check(
        &updated("volumeattributesclasses.storage.k8s.io", "", &attributes, &other).0,
        &["parameters: Forbidden: updates to parameters are forbidden."],
        &other,
    );
    let driver = json!({"metadata": {"name": "d"}, "spec": {}});
    let rows: &[Row] = &[
        (
            "/spec/tokenRequests",
            json!([{"audience": ""}, {"audience": ""}]),
            &["spec.tokenRequests[1].audience: Duplicate value: \"\""],
        ),
        (
            "/spec/tokenRequests",
            json!([{"audience": "a", "expirationSeconds": 1}]),
            &["expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"],
        ),
        (
            "/spec/nodeAllocatableUpdatePeriodSeconds",
            json!(9),
            &["must be greater than or equal to 10 seconds"],
        ),
        (
            "/spec/volumeLifecycleModes",
            json!(["x"]),
            &["spec.volumeLifecycleModes: Unsupported value: \"x\": supported values: \"Persistent\", \"Ephemeral\""],
        ),
    ];
    table("csidrivers.storage.k8s.io", &driver, rows);
    let attached = json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false}});
    check(
        &updated("csidrivers.storage.k8s.io", "", &driver, &attached).0,
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
        &attached,
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d", "nodeID": "i", "topologyKeys": ["a"], "allocatable": {"count": 1}}]}});
    let rows: &[Row] = &[
        (
            "/spec/drivers/0/nodeID",
            json!(""),
            &["spec.drivers[0].nodeID: Required value"],
        ),
        (
            "/spec/drivers/0/topologyKeys",
            json!(["a", "a"]),
            &["spec.drivers[0]: Duplicate value: \"a\""],
        ),
        (
            "/spec/drivers/0/allocatable/count",
            json!(-1),
            &["spec.drivers[0].allocatable.count: Invalid value: -1"],
        ),
    ];
    table("csinodes.storage.k8s.io", &node, rows);
    let more = set(&node, "/spec/drivers/0/allocatable/count", json!(2));
    check(&updated("csinodes.storage.k8s.io", "", &node, &more).0, &[], &more);
    let other = set(&node, "/spec/drivers/0/nodeID", json!("j"));
    check(
        &updated("csinodes.storage.k8s.io", "", &node, &other).0,
        &["spec.drivers: Invalid value: {"],
        &other,
    );
    let attachment = json!({"metadata": {"name": "a"}, "spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    let rows: &[Row] = &[
        (
            "/spec/source",
            json!({}),
            &["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
        ),
        ("/spec/nodeName", json!("N"), &["spec.nodeName: Invalid value: \"N\""]),
    ];
    table("volumeattachments.storage.k8s.io", &attachment, rows);
}

#[test]
fn leases_runtime_classes_roles() {
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let rows: &[Row] = &[
        (
            "/spec/strategy",
            json!("Youngest"),
            &["spec.strategy.strategy: Unsupported value: \"Youngest\": supported values: \"OldestEmulationVersion\""],
        ),
        ("/spec/strategy", json!("a.b/C"), &[]),
        (
            "/spec/preferredHolder",
            json!("x"),
            &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
        ),
    ];
    table("leases.coordination.k8s.io", &lease, rows);
    let class = json!({"metadata": {"name": "c"}, "handler": "h"});
    let rows: &[Row] = &[
        ("/handler", json!("A"), &["handler: Invalid value: \"A\""]),
        (
            "/overhead",
            json!({"podFixed": {"cpu": "-1"}}),
            &["overhead.limits[cpu]: Invalid value"],
        ),
        (
            "/scheduling",
            json!({"nodeSelector": {"a b": "c"}}),
            &["scheduling.nodeSelector: Invalid value: \"a b\""],
        ),
    ];
    table("runtimeclasses.node.k8s.io", &class, rows);
    let role = json!({"metadata": {"name": "a:b"}, "rules": []});
    let rows: &[Row] = &[(
        "/aggregationRule",
        json!({}),
        &[
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
        ],
    )];
    table("clusterroles.rbac.authorization.k8s.io", &role, rows);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]});
    let rows: &[Row] = &[
        (
            "/roleRef/kind",
            json!("X"),
            &["roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\""],
        ),
        (
            "/subjects/0",
            json!({"kind": "User"}),
            &[
                "subjects[0].name: Required value",
                "subjects[0].name: Invalid value: \"\": user name cannot be empty",
            ],
        ),
    ];
    table("rolebindings.rbac.authorization.k8s.io", &binding, rows);
    let cluster = set(&binding, "/roleRef/kind", json!("ClusterRole"));
    check(
        &created("clusterrolebindings.rbac.authorization.k8s.io", cluster.clone()),
        &["subjects[0].namespace: Required value"],
        &cluster,
    );
}
