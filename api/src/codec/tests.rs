//! Codec tests: byte vectors, Go's wording, and round trips over every kind.

use super::*;
use crate::schema::{lookup, lookup_gvk};
use serde_json::json;

fn ty(group: &str, version: &str, kind: &str) -> &'static Type {
    lookup_gvk(group, version, kind).expect(kind)
}

fn decode(body: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
    decode_object(ty("", "v1", "Pod"), body.as_bytes(), Encoding::Json, validation).map_err(|e| e.message)
}

#[test]
fn a_config_map_has_the_bytes_go_writes() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let bytes = encode_proto(ty("", "v1", "ConfigMap"), &object).expect("encodes");
    let want: &[u8] =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v\x1a\x00\x22\x00";
    assert_eq!(bytes, want);
    assert_eq!(decode_proto(ty("", "v1", "ConfigMap"), want).expect("decodes"), object);
}

#[test]
fn inlined_members_sit_in_nested_messages() {
    let volume = lookup("io.k8s.api.core.v1.Volume").expect("Volume");
    let value = json!({"name": "v", "emptyDir": {"medium": "Memory"}});
    let bytes = encode_proto_bare(volume, &value).expect("encodes");
    assert_eq!(bytes, b"\x0a\x01v\x12\x0a\x12\x08\x0a\x06Memory");
    assert_eq!(decode_proto_bare(volume, &bytes).expect("decodes"), value);
    let rule = lookup("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations").expect("rule");
    let value = json!({"resourceNames": ["x"], "operations": ["CREATE"], "apiGroups": [""], "scope": "*"});
    let bytes = encode_proto_bare(rule, &value).expect("encodes");
    assert_eq!(bytes, b"\x0a\x01x\x12\x0f\x0a\x06CREATE\x12\x05\x0a\x00\x22\x01*");
    assert_eq!(decode_proto_bare(rule, &bytes).expect("decodes"), value);
}

#[test]
fn gos_zero_values_are_dropped_and_pointers_kept() {
    // hostNetwork=false (11), automountServiceAccountToken=false (21), terminationGracePeriodSeconds=0 (4), restartPolicy="" (3)
    let bytes = b"\x1a\x00\x20\x00\x58\x00\xa8\x01\x00";
    let spec = lookup("io.k8s.api.core.v1.PodSpec").expect("PodSpec");
    let value = decode_proto_bare(spec, bytes).expect("decodes");
    assert_eq!(
        value,
        json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0})
    );
    // An empty Timestamp is Go's zero time.
    let meta = lookup("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("ObjectMeta");
    assert_eq!(
        decode_proto_bare(meta, b"\x0a\x01n\x1a\x00\x38\x00\x42\x00").expect("decodes"),
        json!({"name": "n"})
    );
}

#[test]
fn special_types_round_trip() {
    let cases = [
        (
            "io.k8s.api.core.v1.ServicePort",
            json!({"port": -1, "targetPort": "http"}),
        ),
        (
            "io.k8s.api.core.v1.ServicePort",
            json!({"port": 80, "targetPort": 8080, "appProtocol": ""}),
        ),
        (
            "io.k8s.api.core.v1.ResourceRequirements",
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}}),
        ),
        (
            "io.k8s.api.core.v1.Secret",
            json!({"data": {"a": "aGk="}, "type": "Opaque"}),
        ),
        (
            "io.k8s.api.coordination.v1.LeaseSpec",
            json!({"renewTime": "2024-05-01T10:00:00.123456Z", "leaseDurationSeconds": 15}),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry",
            json!({"fieldsV1": {"f:spec": {}}, "time": "1960-05-01T10:00:00Z"}),
        ),
        (
            "io.k8s.api.apps.v1.ControllerRevision",
            json!({"data": {"spec": {"x": [1, null]}}, "revision": 0}),
        ),
        (
            "io.k8s.api.authentication.v1.UserInfo",
            json!({"username": "u", "extra": {"scopes": ["a", "b"], "none": []}}),
        ),
        (
            "io.k8s.api.policy.v1.PodDisruptionBudgetStatus",
            json!({
                "disruptedPods": {"p": "2024-05-01T10:00:00Z"}, "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 1,
            }),
        ),
        (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
            json!({
                "type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "maxItems": 3}},
                "additionalProperties": false, "dependencies": {"x": ["y"]}, "enum": [1, "b"], "default": {"a": null},
                "minimum": 0.5, "x-kubernetes-preserve-unknown-fields": true, "$ref": "#/a", "not": {"additionalProperties": {"type": "string"}},
            }),
        ),
    ];
    for (name, value) in cases {
        let ty = lookup(name).expect(name);
        let mut checked = value.clone();
        check(ty, &mut checked, FieldValidation::Strict).expect(name);
        for (key, given) in value.as_object().expect("an object") {
            assert_eq!(checked[key], *given, "{name}.{key} is already what Go would write");
        }
        let bytes = encode_proto_bare(ty, &value).expect(name);
        assert_eq!(decode_proto_bare(ty, &bytes).expect(name), value, "{name}");
    }
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    for (body, want) in [
        (
            r#"{"spec": {"containers": "x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec": {"containers": [{"env": [{"name": "a", "value": true}]}]}}"#,
            "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            r#"{"metadata": {"labels": {"a.b/c": 1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec": {"priority": 1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec": {"priority": 3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec": []}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            r#"{"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"metadata": {"creationTimestamp": "now"}}"#,
            r#"parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006""#,
        ),
    ] {
        let error = decode(body, FieldValidation::Ignore).expect_err(body);
        assert_eq!(
            error,
            format!("Pod in version \"v1\" cannot be handled as a Pod: {want}")
        );
    }
    for (body, want) in [
        ("{", "unexpected end of JSON input ({)"),
        ("", "unexpected end of JSON input (<empty>)"),
        (
            r#"{"kind": "Pod",}"#,
            r#"invalid character '}' looking for beginning of object key string ({"kind": "Pod",})"#,
        ),
        (
            r#"{"metadata": {"name": nope}}     "#,
            r#"invalid character 'o' in literal null (expecting 'u') ({"metadata": {"name": nope}}   ...)"#,
        ),
        ("x", "invalid character 'x' looking for beginning of value (78)"),
        (r#"{"a" 1}"#, r#"invalid character '1' after object key ({"a" 1})"#),
        (
            r#"{"a": 1 "b"}"#,
            r#"invalid character '"' after object key:value pair ({"a": 1 "b"})"#,
        ),
        (
            r#"{"a": [1 2]}"#,
            r#"invalid character '2' after array element ({"a": [1 2]})"#,
        ),
        ("{} x", "invalid character 'x' after top-level value ({} x)"),
    ] {
        let error = decode(body, FieldValidation::Ignore).expect_err(body);
        let begin =
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: ";
        if !body.contains("nope") {
            assert_eq!(error, format!("{begin}{want}"), "{body}");
        } else {
            assert!(error.starts_with(begin), "{error}");
        }
    }
    assert!(
        decode("[]", FieldValidation::Ignore)
            .expect_err("list")
            .contains("cannot unmarshal array into Go value of type v1.Pod")
    );
}

#[test]
fn a_body_of_another_kind_is_refused() {
    for (body, want) in [
        (
            r#"{"apiVersion": "apps/v1", "kind": "Deployment"}"#,
            "Deployment in version \"v1\" cannot be handled as a Pod: converting (v1.Deployment) to (core.Pod): unknown conversion",
        ),
        (
            r#"{"apiVersion": "v1", "kind": "Bod"}"#,
            "Bod in version \"v1\" cannot be handled as a Pod: no kind \"Bod\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ] {
        assert_eq!(decode(body, FieldValidation::Strict).expect_err(body), want);
    }
}

#[test]
fn yaml_says_where_a_key_stands_twice() {
    let body = b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b\nspec:\n  foo: 1\n  containers:\n  - name: c\n    image: x\n    image: z\n";
    let pod = ty("", "v1", "Pod");
    let lines = [
        r#"line 5: key "name" already set in map"#,
        r#"line 11: key "image" already set in map"#,
    ];
    let (value, warnings) = decode_object(pod, body, Encoding::Yaml, FieldValidation::Warn).expect("warns");
    assert_eq!(warnings, [lines[0], lines[1], r#"unknown field "spec.foo""#]);
    assert_eq!(
        (&value["metadata"]["name"], &value["spec"]["containers"][0]["image"]),
        (&json!("b"), &json!("z"))
    );
    let error = decode_object(pod, body, Encoding::Yaml, FieldValidation::Strict).expect_err("strict");
    let want = format!(
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: yaml: unmarshal errors:\n  {}\n  {}, unknown field \"spec.foo\"",
        lines[0], lines[1]
    );
    assert_eq!(error.message, want);
}

#[test]
fn bombs_are_refused_soon() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let last = i - 1;
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{last}"); 10].join(", ")));
    }
    let mut merges = String::from("m0: &m0 {a: 1}\n");
    for i in 1..60 {
        merges.push_str(&format!("m{i}: &m{i}\n  <<: [*m{0}, *m{0}]\n  k{i}: 1\n", i - 1));
    }
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for (yaml, text) in [
        (true, laughs),
        (true, merges),
        (true, deep("[", "]")),
        (true, deep("{a: ", "}")),
        (true, (0..5_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        (true, "- ".repeat(100_000)),
        (false, deep("[", "]")),
        (false, deep("{\"a\":", "}")),
    ] {
        let started = std::time::Instant::now();
        let shown = &text[..40.min(text.len())];
        if yaml {
            // Merge keys may be resolved, as long as it is soon.
            let read = decode_yaml(text.as_bytes());
            assert!(read.is_err() || text.starts_with("m0"), "{shown}");
        } else {
            assert!(decode_json(text.as_bytes()).is_err(), "{shown}");
        }
        assert!(started.elapsed().as_secs() < 10, "{shown}: {:?}", started.elapsed());
    }
}

#[test]
fn what_is_no_utf8_is_replaced() {
    let (value, _) = decode_json(b"{\"a\": \"x\xff\xc3\"}").expect("reads");
    assert_eq!(value, json!({"a": "x\u{fffd}\u{fffd}"}));
}

#[test]
fn unknown_and_duplicate_fields() {
    // In the order of the text; a field that the type does not have is unknown, however often it stands there.
    let body = r#"{"spec": {"foo": 1, "foo": 2, "nodeName": "a", "nodeName": "b", "containers": [{"name": "c", "bar": {}}]}, "zap": null}"#;
    let (value, warnings) = decode(body, FieldValidation::Warn).expect("warns");
    let want = [
        "unknown field \"spec.foo\"",
        "duplicate field \"spec.nodeName\"",
        "unknown field \"spec.containers[0].bar\"",
        "unknown field \"zap\"",
    ];
    assert_eq!(warnings, want);
    assert_eq!(
        value,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "status": {},
            "spec": {"nodeName": "b", "containers": [{"name": "c", "resources": {}}]}})
    );
    let error = decode(body, FieldValidation::Strict).expect_err("strict");
    assert_eq!(
        error,
        format!(
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {}",
            want.join(", ")
        )
    );
    assert_eq!(
        decode(body, FieldValidation::Ignore).expect("ignores").1,
        Vec::<String>::new()
    );
}

#[test]
fn nulls_and_empties_go_as_in_go() {
    let body = r#"{"metadata": {"name": "a", "labels": {}, "annotations": null, "creationTimestamp": null, "finalizers": []},
        "spec": {"hostNetwork": false, "automountServiceAccountToken": false, "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "env": [{"name": "E", "value": ""}], "resources": {"limits": {"cpu": 1, "memory": "1024Ki"}}}]}}"#;
    let (value, _) = decode(body, FieldValidation::Strict).expect("decodes");
    let want = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {}, "spec": {"automountServiceAccountToken": false,
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "env": [{"name": "E"}], "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}]}});
    assert_eq!(value, want);
}

/// Seen in what kubectl shows of objects made by clients that leave out all they can.
#[test]
fn what_go_never_leaves_out_is_there() {
    let cases = [
        (
            ("apps", "v1", "Deployment"),
            json!({}),
            json!({"metadata": {}, "status": {}, "spec":
            {"selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}}}),
        ),
        (
            ("", "v1", "Service"),
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}}),
        ),
        (
            ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
            json!({}),
            json!({"metadata": {}, "rules": null}),
        ),
        (
            ("discovery.k8s.io", "v1", "EndpointSlice"),
            json!({"addressType": "IPv4"}),
            json!({"metadata": {}, "addressType": "IPv4", "endpoints": null, "ports": null}),
        ),
        (
            ("", "v1", "Event"),
            json!({"count": 0}),
            json!({"metadata": {}, "involvedObject": {}, "source": {}, "eventTime": null,
            "firstTimestamp": null, "lastTimestamp": null, "reportingComponent": "", "reportingInstance": ""}),
        ),
        (
            ("", "v1", "ConfigMap"),
            json!({"metadata": {"creationTimestamp": null}}),
            json!({"metadata": {}}),
        ),
        (
            ("", "v1", "Pod"),
            json!({"spec": {"containers": []}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            json!({"metadata": {}, "spec": {"containers": []}, "status": {"conditions":
                [{"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}]}}),
        ),
        (
            ("policy", "v1", "PodDisruptionBudget"),
            json!({"spec": {"minAvailable": 0}}),
            json!({"metadata": {}, "spec": {"minAvailable": 0},
            "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}}),
        ),
    ];
    for ((group, version, kind), mut given, want) in cases {
        let ty = ty(group, version, kind);
        for _ in 0..2 {
            check(ty, &mut given, FieldValidation::Strict).expect(kind);
            assert_eq!(given, want, "{kind}");
        }
    }
}

#[test]
fn yaml_reads_as_json_would() {
    let body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  mode: \"0644\"\n  1: one\n  on: 'yes'\n  text: |\n    a\n    b\n";
    let value = decode_yaml(body).expect("reads");
    assert_eq!(
        value["data"],
        json!({"mode": "0644", "1": "one", "on": "yes", "text": "a\nb\n"})
    );
    let value = decode_yaml(b"a: 0644\nb: yes\nc: 1e3\nd: ~\ne: 0x10\nf: 1.5\ng: 2024-01-01\nh: null\ni: -3\nj: 12e\n")
        .expect("reads");
    assert_eq!(
        value,
        json!({"a": 420, "b": true, "c": 1000, "d": null, "e": 16, "f": 1.5, "g": "2024-01-01", "h": null, "i": -3, "j": "12e"})
    );
    assert!(decode_yaml(b"a: [").is_err());
}

#[test]
fn broken_protobuf_is_an_error_never_a_panic() {
    let pod = ty("", "v1", "Pod");
    assert!(matches!(decode_proto(pod, b"{}"), Err(CodecError::NotProtobuf)));
    for bytes in [
        &b"\x0a\xff"[..],
        b"\x0a\x05ab",
        b"\x07",
        b"\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08\x01",
    ] {
        assert!(decode_proto_bare(pod, bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn watch_events_are_framed() {
    let object = seal_envelope("v1", "Pod", b"");
    let framed = frame_watch_event("ADDED", &object);
    assert_eq!(framed[..4], ((framed.len() - 4) as u32).to_be_bytes());
    assert!(
        framed[4..].starts_with(b"\x0a\x05ADDED\x12"),
        "no envelope around the event"
    );
    let event = lookup("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").expect("WatchEvent");
    let value = decode_proto_bare(event, &framed[4..]).expect("decodes");
    assert_eq!(
        value,
        json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Pod"}})
    );
}
