//! Services, volumes, claims, quotas, events and the other core kinds, rule by rule.

use crate::updates::update;
use crate::validation::check;
use serde_json::{Value, json};

fn merged(mut base: Value, extra: &Value) -> Value {
    for (key, value) in extra.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}

fn refused(name: &str, sub: &str, old: &Value, change: fn(&mut Value), want: &[&str]) {
    let got = update(name, sub, old, change).1;
    let fine = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| g.contains(w));
    assert!(fine, "{name}/{sub} of {old}\n got {got:#?}\nwant {want:#?}");
}

fn service(extra: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": merged(json!({"ports": [{"port": 80}]}), &extra)})
}

#[test]
fn services() {
    let rows: Vec<(Value, Vec<&str>)> = vec![
        (
            service(json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"], "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]})),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ],
        ),
        (
            service(json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]})),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
        (
            service(json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "Both"})),
            vec![
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\"",
            ],
        ),
        (
            service(json!({"externalIPs": ["127.0.0.1", "x", "010.0.0.1", "::ffff:10.0.0.1"]})),
            vec![
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
                "spec.externalIPs[1]: Invalid value: \"x\": must be a valid IP address",
                "spec.externalIPs[2]: Invalid value: \"010.0.0.1\": must not have leading 0s",
                "spec.externalIPs[3]: Invalid value: \"::ffff:10.0.0.1\": must not be an IPv4-mapped IPv6 address",
            ],
        ),
        (
            service(
                json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/8"]}),
            ),
            vec![
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.0/08\": must not have leading 0s in IP or prefix length",
            ],
        ),
        (
            service(json!({"type": "NodePort", "clusterIP": "None"})),
            vec!["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            service(json!({"type": "ExternalName", "externalName": "a_b", "clusterIP": "10.0.0.1"})),
            vec![
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Invalid value: \"a_b\"",
            ],
        ),
        (
            service(
                json!({"loadBalancerClass": "x", "allocateLoadBalancerNodePorts": true, "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            ),
            vec![
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            service(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000})),
            vec![
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                "spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            service(
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            ),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        ),
        (
            service(json!({"trafficDistribution": "Near"})),
            vec!["spec.trafficDistribution: Unsupported value: \"Near\""],
        ),
        (
            service(json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b", "appProtocol": "a b"}]})),
            vec![
                "spec.ports[1].appProtocol: Invalid value: \"a b\"",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\",\"targetPort\":0}",
            ],
        ),
    ];
    for (object, want) in rows {
        check("services", object, &want);
    }
}

#[test]
fn services_keep_what_they_were_given() {
    let given = json!({"metadata": {"name": "s"}, "spec": {
        "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "loadBalancerClass": "a.b/c",
        "ports": [{"port": 80, "nodePort": 30080}]}});
    // What the update leaves out is as before.
    let (new, errors) = update("services", "", &given, |s| {
        for key in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "healthCheckNodePort",
        ] {
            s["spec"].as_object_mut().expect("an object").remove(key);
        }
        s["spec"]["ports"] = json!([{"port": 80}]);
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["spec"]["clusterIPs"], given["spec"]["clusterIPs"]);
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
    assert_eq!(new["spec"]["healthCheckNodePort"], 31000);
    // Another type gives back what it has no use for.
    let (new, errors) = update("services", "", &given, |s| s["spec"]["type"] = json!("ClusterIP"));
    assert_eq!(errors, Vec::<String>::new());
    for key in [
        "healthCheckNodePort",
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    ] {
        assert_eq!(new["spec"].get(key), None, "{key}");
    }
    assert_eq!(new["spec"]["ports"][0].get("nodePort"), None);
    // One family only: the second address goes.
    let (new, errors) = update("services", "", &given, |s| {
        s["spec"]["ipFamilyPolicy"] = json!("SingleStack")
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
    let rows: [(fn(&mut Value), &[&str]); 4] = [
        (
            |s| s["spec"]["clusterIPs"] = json!(["10.0.0.1", "fd00::2"]),
            &["spec.clusterIPs[1]: Invalid value: [\"10.0.0.1\",\"fd00::2\"]: may not change once set"],
        ),
        (
            |s| s["spec"]["clusterIPs"] = json!(["10.0.0.1"]),
            &[
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            ],
        ),
        (
            |s| s["spec"]["loadBalancerClass"] = json!("x"),
            &["spec.loadBalancerClass: Invalid value: \"x\": may not change once set"],
        ),
        (
            |s| s["spec"]["healthCheckNodePort"] = json!(31001),
            &["spec.healthCheckNodePort: Forbidden: field is immutable"],
        ),
    ];
    for (change, want) in rows {
        refused("services", "", &given, change, want);
    }
    refused(
        "services",
        "status",
        &given,
        |s| {
            s["status"] = json!({"loadBalancer": {"ingress": [{"ip": "x", "ipMode": "Some"}, {"hostname": "1.2.3.4"}]}})
        },
        &[
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\"",
            "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"Some\": supported values: \"Proxy\", \"VIP\"",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        ],
    );
    let (inner, errors) = update("services", "", &given, |s| s["spec"]["type"] = json!("ClusterIP"));
    assert_eq!(errors, Vec::<String>::new());
    refused(
        "services",
        "status",
        &inner,
        |s| s["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        &["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is LoadBalancer"],
    );
}

fn volume(extra: Value) -> Value {
    let base = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    json!({"metadata": {"name": "v"}, "spec": merged(base, &extra)})
}

#[test]
fn persistent_volumes() {
    let rows: Vec<(Value, Vec<&str>)> = vec![
        (
            volume(json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"})),
            vec!["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        ),
        (
            volume(json!({"local": {"path": "/x"}})),
            vec!["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            volume(json!({"nfs": {"server": "s", "path": "x"}, "rbd": {}})),
            vec![
                "spec.nfs.path: Invalid value: \"x\": must be an absolute path",
                "spec.rbd: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            volume(json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}})),
            vec!["spec.csi.nodePublishSecretRef.namespace: Required value"],
        ),
        (
            volume(
                json!({"capacity": {"cpu": "1"}, "hostPath": {"path": "/x"}, "accessModes": ["ReadWriteOncePod", "ReadWriteMany", "x"]}),
            ),
            vec![
                "spec.accessModes: Unsupported value: \"x\"",
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                "spec.capacity: Unsupported value: {\"cpu\":\"1\"}: supported values: \"storage\"",
            ],
        ),
        (
            volume(json!({"hostPath": {"path": "/x"}, "volumeAttributesClassName": ""})),
            vec![
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
        (
            volume(json!({"azureDisk": {"diskName": "d", "diskURI": "x", "kind": "Managed"}})),
            vec!["spec.azureDisk.diskURI: Unsupported value: \"x\": supported values: \"/subscriptions/"],
        ),
        (
            volume(json!({"fc": {"targetWWNs": ["a"]}})),
            vec!["spec.fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
    ];
    for (object, want) in rows {
        check("persistentvolumes", object, &want);
    }
    let affine = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "failure-domain.beta.kubernetes.io/zone", "operator": "In", "values": ["z"]}]}]}});
    let old = volume(json!({"csi": {"driver": "d", "volumeHandle": "h"}, "nodeAffinity": affine}));
    let rows: [(fn(&mut Value), &[&str]); 4] = [
        (
            |v| v["spec"]["csi"]["controllerExpandSecretRef"] = json!({"name": "s", "namespace": "n"}),
            &[],
        ),
        (
            |v| v["spec"]["csi"]["volumeHandle"] = json!("i"),
            &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
        ),
        (
            |v| {
                v["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] =
                    json!("topology.kubernetes.io/zone")
            },
            &[],
        ),
        (
            |v| {
                v["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] =
                    json!(["y"])
            },
            &["nodeAffinity: Invalid value: "],
        ),
    ];
    for (change, want) in rows {
        refused("persistentvolumes", "", &old, change, want);
    }
}

#[test]
fn claims() {
    let claim = |extra: Value| {
        let base = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        json!({"metadata": {"name": "c"}, "spec": merged(base, &extra)})
    };
    check(
        "persistentvolumeclaims",
        claim(
            json!({"dataSource": {"kind": "VolumeSnapshot", "name": "s"}, "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "t"}}),
        ),
        &[
            "spec.dataSource: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
        ],
    );
    check(
        "persistentvolumeclaims",
        claim(json!({"resources": {"requests": {"storage": "0"}}})),
        &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
    );
    let mut bound = claim(json!({"volumeName": "v", "volumeMode": "Filesystem", "storageClassName": "a"}));
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let rows: [(fn(&mut Value), &[&str]); 5] = [
        (|c| c["spec"]["resources"]["requests"]["storage"] = json!("2Gi"), &[]),
        (
            |c| c["spec"]["resources"]["requests"]["storage"] = json!("512Mi"),
            &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
        ),
        (
            |c| c["spec"]["accessModes"] = json!(["ReadWriteMany"]),
            &[
                "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ],
        ),
        (
            |c| c["spec"]["volumeMode"] = json!("Block"),
            &[
                "spec: Forbidden: ",
                "volumeMode: Invalid value: \"Block\": field is immutable",
            ],
        ),
        (|c| c["spec"]["volumeAttributesClassName"] = json!("fast"), &[]),
    ];
    for (change, want) in rows {
        refused("persistentvolumeclaims", "", &bound, change, want);
    }
    let pending = claim(json!({}));
    refused(
        "persistentvolumeclaims",
        "",
        &pending,
        |c| c["spec"]["resources"]["requests"]["storage"] = json!("2Gi"),
        &["spec: Forbidden: spec is immutable"],
    );
    refused(
        "persistentvolumeclaims",
        "",
        &pending,
        |c| c["spec"]["storageClassName"] = json!("a"),
        &[],
    );
}

#[test]
fn quotas_and_limits() {
    let quota = |spec: Value| json!({"metadata": {"name": "q"}, "spec": spec});
    let limits = |item: Value| json!({"metadata": {"name": "l"}, "spec": {"limits": [item]}});
    let rows: Vec<(&str, Value, Vec<&str>)> = vec![
        (
            "resourcequotas",
            quota(
                json!({"hard": {"pods": "10", "requests.cpu": "1", "count/widgets.example.com": "1", "requests.example.com/gpu": "1"}}),
            ),
            vec![],
        ),
        (
            "resourcequotas",
            quota(json!({"hard": {"pods": "1500m", "storage": "1"}})),
            vec![
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ],
        ),
        (
            "resourcequotas",
            quota(json!({"hard": {"secrets": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})),
            vec![
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ],
        ),
        (
            "resourcequotas",
            quota(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In"}, {"scopeName": "Terminating", "operator": "In", "values": ["x"]}]}})),
            vec![
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value",
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of",
            ],
        ),
        (
            "limitranges",
            limits(json!({"type": "Pod", "default": {"cpu": "1"}, "max": {"cpu": "1"}, "min": {"cpu": "2"}})),
            vec![
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ],
        ),
        (
            "limitranges",
            limits(json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}})),
            vec![
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
            ],
        ),
        (
            "limitranges",
            limits(json!({"type": "PersistentVolumeClaim"})),
            vec![
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        ),
        (
            "limitranges",
            limits(
                json!({"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "3", "memory": "500m"}}),
            ),
            vec![
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
                "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"500m\": ratio 500m is less than 1",
            ],
        ),
        (
            "limitranges",
            limits(json!({"type": "Node"})),
            vec!["spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified"],
        ),
    ];
    for (name, object, want) in rows {
        check(name, object, &want);
    }
}

#[test]
fn secrets_and_config_maps() {
    let secret = |kind: &str, data: Value| json!({"type": kind, "data": data});
    check(
        "secrets",
        secret("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="})),
        &[],
    );
    check(
        "secrets",
        secret("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "eA=="})),
        &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": "],
    );
    check(
        "secrets",
        secret("kubernetes.io/dockercfg", json!({".dockercfg": ""})),
        &["data[.dockercfg]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input"],
    );
    check(
        "secrets",
        secret("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""})),
        &["data[ssh-privatekey]: Required value"],
    );
    // The limit is on the bytes, not on their base64.
    let kilobytes = |n: usize| "AAAA".repeat(n * 1024 / 3);
    check("secrets", secret("Opaque", json!({"a": kilobytes(1023)})), &[]);
    check(
        "secrets",
        secret("Opaque", json!({"a": kilobytes(1025)})),
        &["data: Too long: may not be more than 1048576 bytes"],
    );
    check(
        "configmaps",
        json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}}),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
}

#[test]
fn endpoints_nodes_and_namespaces() {
    check(
        "endpoints",
        json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}, {"ip": "169.254.169.254", "hostname": "A"}], "ports": [{"port": 80, "name": "a_b"}]}]}),
        &[
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            "subsets[0].addresses[1].hostname: Invalid value: \"A\"",
            "subsets[0].addresses[1].ip: Invalid value: \"169.254.169.254\": may not be in the link-local range",
            "subsets[0].ports[0].name: Invalid value: \"a_b\"",
        ],
    );
    check(
        "nodes",
        json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"], "taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]},
               "status": {"capacity": {"pods": "1500m"}}}),
        &[
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
            "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
            "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
        ],
    );
    check(
        "namespaces",
        json!({"metadata": {"name": "n", "finalizers": ["mine"]}, "spec": {"finalizers": ["yours"]}}),
        &[
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
            "spec.finalizers: Invalid value: \"yours\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    let space = json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}});
    refused(
        "namespaces",
        "status",
        &space,
        |n| n["status"]["phase"] = json!("Terminating"),
        &["status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"],
    );
}

#[test]
fn events() {
    let timed = json!({
        "metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"kind": "Pod", "namespace": "n"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingComponent": "a", "reportingInstance": "b", "action": "c", "reason": "d", "type": "Normal",
    });
    check("events", timed.clone(), &[]);
    check("events.events.k8s.io", timed.clone(), &[]);
    check(
        "events",
        merged(timed.clone(), &json!({"reportingComponent": "", "action": ""})),
        &[
            "reportingController: Required value",
            "reportingController: Invalid value: \"\"",
            "reportingController: Invalid value: \"\"",
            "action: Required value",
        ],
    );
    check(
        "events",
        json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {}}),
        &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
    );
    check(
        "events.events.k8s.io",
        merged(
            timed.clone(),
            &json!({"count": 2, "type": "Odd", "series": {"count": 1}}),
        ),
        &[
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "count: Invalid value: \"\": needs to be unset",
        ],
    );
    refused(
        "events.events.k8s.io",
        "",
        &timed,
        |e| e["message"] = json!("other"),
        &["message: Invalid value: \"other\": field is immutable"],
    );
    refused("events", "", &timed, |e| e["message"] = json!("other"), &[]);
    refused(
        "events.events.k8s.io",
        "",
        &timed,
        |e| e["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}),
        &[],
    );
}
