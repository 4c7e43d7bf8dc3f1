//! Claims of devices, their templates and classes, and slices.

use crate::groups::{Row, check, created, set, table, updated};
use serde_json::{Value, json};

const CLAIMS: &str = "resourceclaims.resource.k8s.io";

fn claim() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": {
        "requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu"}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}]},
        ],
        "constraints": [{"requests": ["a", "b/x"], "matchAttribute": "d.io/model"}],
        "config": [{"requests": ["b"], "opaque": {"driver": "d.io", "parameters": {"k": 1}}}],
    }}})
}

#[test]
fn claims() {
    let devices = "/spec/devices";
    let at = |rest: &str| format!("{devices}{rest}");
    let many: Vec<Value> = (0..33)
        .map(|i| json!({"name": format!("r{i}"), "exactly": {"deviceClassName": "g"}}))
        .collect();
    let long = "x".repeat(10 * 1024 + 1);
    let rows: &[Row] = &[
        (
            &at("/requests/0"),
            json!({"name": "a"}),
            &["spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
        ),
        (
            &at("/requests/0/name"),
            json!("A"),
            &[
                "requests[0].name: Invalid value: \"A\"",
                "constraints[0].requests[0]: Invalid value: \"a\": must be the name of a request in the claim",
            ],
        ),
        (
            &at("/requests/0/exactly/deviceClassName"),
            json!(""),
            &["requests[0].exactly.deviceClassName: Required value"],
        ),
        (
            &at("/requests/0/exactly/allocationMode"),
            json!("Some"),
            &["allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""],
        ),
        (
            &at("/requests/0/exactly"),
            json!({"deviceClassName": "g", "allocationMode": "All", "count": 2}),
            &["exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"],
        ),
        (
            &at("/requests/0/exactly"),
            json!({"deviceClassName": "g", "count": -1}),
            &["exactly.count: Invalid value: -1: must be greater than zero"],
        ),
        (
            &at("/requests/0/exactly/selectors"),
            json!([{}]),
            &["selectors[0].cel: Required value"],
        ),
        (
            &at("/requests/0/exactly/selectors"),
            json!([{"cel": {"expression": long}}]),
            &["selectors[0].cel.expression: Too long: may not be more than 10240 bytes"],
        ),
        (
            &at("/requests/0/exactly/tolerations"),
            json!([{"key": "k", "operator": "Exists", "value": "v", "effect": "Never"}]),
            &[
                "tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
                "tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ],
        ),
        (
            &at("/requests/1/firstAvailable/0/name"),
            json!("y"),
            &["constraints[0].requests[1]: Invalid value: \"b/x\""],
        ),
        (
            &at("/constraints/0"),
            json!({"requests": ["a", "a"]}),
            &[
                "constraints[0].requests[1]: Duplicate value: \"a\"",
                "constraints[0]: Required value",
            ],
        ),
        (
            &at("/constraints/0/matchAttribute"),
            json!("model"),
            &["a fully qualified name must be a domain and a name separated by a slash"],
        ),
        (
            &at("/constraints/0/matchAttribute"),
            json!("a/b/c"),
            &["must not contain more than one slash"],
        ),
        (
            &at("/config/0/opaque"),
            json!(null),
            &["config[0].opaque: Required value"],
        ),
        (
            &at("/config/0/opaque/parameters"),
            json!([1]),
            &["config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"],
        ),
        (
            "/spec/devices",
            json!({"requests": many}),
            &["spec.devices.requests: Too many: 33: must have at most 32 items"],
        ),
    ];
    table(CLAIMS, &claim(), rows);
    let mut other = claim();
    other["spec"]["devices"]["config"] = json!([]);
    check(
        &updated(CLAIMS, "", &claim(), &other).0,
        &["spec: Invalid value: {"],
        &other,
    );
    let template = json!({"metadata": {"name": "t"}, "spec": {"metadata": {"labels": {"a": "b c"}}, "spec": {"devices": {"requests": [{"name": ""}]}}}});
    let want = [
        "spec.metadata.labels: Invalid value: \"b c\"",
        "spec.spec.devices.requests[0].name: Invalid value: \"\"",
        "requests[0]: Required value",
    ];
    check(
        &created("resourceclaimtemplates.resource.k8s.io", template.clone()),
        &want,
        &template,
    );
}

#[test]
fn statuses_of_claims() {
    let result = json!({"request": "a", "driver": "d.io", "pool": "p", "device": "g0"});
    let allocated = set(
        &claim(),
        "/status",
        json!({"allocation": {"devices": {"results": [result]}}}),
    );
    let reserved = set(
        &allocated,
        "/status/reservedFor",
        json!([{"resource": "pods", "name": "p", "uid": "1"}]),
    );
    let rows: Vec<(Value, Value, &[&str])> = vec![
        (claim(), allocated.clone(), &[]),
        (allocated.clone(), reserved.clone(), &[]),
        (
            claim(),
            set(&allocated, "/status/allocation/devices/results/0/request", json!("z")),
            &["status.allocation.devices.results[0].request: Invalid value: \"z\": must be the name of a request"],
        ),
        (
            claim(),
            set(&allocated, "/status/allocation/devices/results/0/device", json!("A")),
            &["results[0].device: Invalid value"],
        ),
        (
            claim(),
            set(&allocated, "/status/allocation/devices/results/0/shareID", json!("q")),
            &["shareID: Invalid value: \"q\": error validating uid: invalid UUID length: 1"],
        ),
        (
            allocated.clone(),
            set(&allocated, "/status/allocation/devices/results", json!([])),
            &["status.allocation: Invalid value: {"],
        ),
        (
            claim(),
            set(
                &claim(),
                "/status",
                json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}, {"uid": "1"}]}),
            ),
            &[
                "reservedFor[1].resource: Required value",
                "reservedFor[1].name: Required value",
                "reservedFor[1]: Duplicate value: \"1\"",
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ],
        ),
        (
            allocated.clone(),
            set(
                &allocated,
                "/status/devices",
                json!([{"driver": "d.io", "pool": "p", "device": "g1"}]),
            ),
            &["status.devices[0]: Invalid value: \"d.io/p/g1\": must be an allocated device in the claim"],
        ),
        (
            allocated.clone(),
            set(
                &allocated,
                "/status/devices",
                json!([{"driver": "d.io", "pool": "p", "device": "g0", "conditions": [{"type": "Ready", "status": "Yes", "reason": "a b"}], "networkData": {"ips": ["10.0.0.1"]}}]),
            ),
            &[
                "conditions[0].status: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\"",
                "conditions[0].lastTransitionTime: Required value: must be set",
                "conditions[0].reason: Invalid value: \"a b\": a condition reason must start with",
                "networkData.ips[0]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form",
            ],
        ),
    ];
    for (old, new, want) in rows {
        check(&updated(CLAIMS, "status", &old, &new).0, want, &new);
    }
    let mut deleted = set(&allocated, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let old = deleted.clone();
    deleted["status"]["reservedFor"] = reserved["status"]["reservedFor"].clone();
    check(
        &updated(CLAIMS, "status", &old, &deleted).0,
        &["status.reservedFor: Forbidden: new entries may not be added"],
        &deleted,
    );
}

#[test]
fn given_back_devices_lose_their_status() {
    let status = json!({
        "allocation": {"devices": {"results": [{"request": "a", "driver": "d.io", "pool": "p", "device": "g0"}]}},
        "devices": [{"driver": "d.io", "pool": "p", "device": "g0"}],
    });
    let old = set(&claim(), "/status", status.clone());
    let new = set(&claim(), "/status", json!({"devices": status["devices"]}));
    let (errors, made) = updated(CLAIMS, "status", &old, &new);
    check(&errors, &[], &new);
    assert_eq!(made["status"], json!({}));
}

fn slice() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {
        "driver": "d.io", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "g0", "attributes": {"model": {"string": "m"}}, "capacity": {"memory": {"value": "8Gi"}}}],
    }})
}

#[test]
fn slices() {
    let device = "/spec/devices/0";
    let at = |rest: &str| format!("{device}{rest}");
    let policy = |policy: Value| json!({"name": "g", "allowMultipleAllocations": true, "capacity": {"m": {"value": "8", "requestPolicy": policy}}});
    let named = |n: usize| -> Vec<Value> { (0..n).map(|i| json!({"name": format!("g{i}")})).collect() };
    let mut tainted = named(65);
    tainted[0]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let attributes: serde_json::Map<String, Value> = (0..33).map(|i| (format!("a{i}"), json!({"int": 1}))).collect();
    let rows: &[Row] = &[
        (
            "/spec/driver",
            json!(""),
            &["spec.driver: Required value", "spec.driver: Invalid value: \"\""],
        ),
        (
            "/spec/pool/name",
            json!("a//b"),
            &["spec.pool.name: Invalid value: \"\""],
        ),
        (
            "/spec/pool/resourceSliceCount",
            json!(0),
            &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
        ),
        (
            "/spec/nodeName",
            json!(null),
            &[
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        ),
        (
            "/spec/allNodes",
            json!(true),
            &["spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of"],
        ),
        (
            "/spec/allNodes",
            json!(false),
            &["spec.allNodes: Invalid value: false: must be either unset or set to true"],
        ),
        (
            "/spec/devices",
            json!(named(129)),
            &["spec.devices: Too many: 129: must have at most 128 items"],
        ),
        (
            "/spec/devices",
            json!(tainted),
            &["spec.devices: Too many: 65: must have at most 64 items"],
        ),
        (
            "/spec/devices",
            json!([{"name": "g"}, {"name": "g"}]),
            &["spec.devices[1]: Duplicate value: \"g\""],
        ),
        (
            "/spec/sharedCounters",
            json!([{"name": "c", "counters": {"m": {"value": "1"}}}]),
            &["only one of `sharedCounters` or `devices` is allowed"],
        ),
        (
            &at("/attributes"),
            json!({"a/b/c": {"int": 1}}),
            &["devices[0].attributes: Invalid value: \"a/b/c\": must not contain more than one slash"],
        ),
        (
            &at("/attributes"),
            json!({"a-b": {"int": 1}}),
            &["attributes: Invalid value: \"a-b\": a valid C identifier must"],
        ),
        (
            &at("/attributes"),
            json!({"a": {}}),
            &["attributes[a]: Invalid value: \"\": exactly one value must be specified"],
        ),
        (
            &at("/attributes"),
            json!({"a": {"version": "v1"}}),
            &["attributes[a].version: Invalid value: \"v1\": must be a string compatible with semver.org spec 2.0.0"],
        ),
        (
            &at("/attributes"),
            json!({"a": {"string": "x".repeat(65)}}),
            &["attributes[a].string: Too long: may not be more than 64 bytes"],
        ),
        (
            &at("/attributes"),
            Value::Object(attributes),
            &["devices[0]: Invalid value: 34: the total number of attributes and capacities must not exceed 32"],
        ),
        (
            &at("/capacity/memory/requestPolicy"),
            json!({}),
            &["capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true"],
        ),
        (
            device,
            policy(json!({"default": "1", "validValues": ["1", "9"]})),
            &["validValues[1]: Invalid value: \"9\": option is larger than capacity value: 8"],
        ),
        (
            device,
            policy(json!({"default": "3", "validValues": ["2", "1"]})),
            &[
                "validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "default value is not valid according to the requestPolicy",
            ],
        ),
        (
            device,
            policy(json!({"validRange": {"min": "1"}})),
            &["requestPolicy.default: Required value: required when validRange is defined"],
        ),
        (
            device,
            policy(json!({"default": "2", "validRange": {"min": "1", "step": "2"}})),
            &["validRange.step: Invalid value: \"2\": value is not a multiple of a given step (2) from (1)"],
        ),
        (
            &at("/taints"),
            json!([{"key": "", "effect": "x"}]),
            &[
                "taints[0].key: Invalid value",
                "taints[0].key: Invalid value",
                "taints[0].effect: Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ],
        ),
        (
            &at("/consumesCounters"),
            json!([{"counterSet": "c"}]),
            &["consumesCounters[0].counters: Required value"],
        ),
        (
            &at("/nodeName"),
            json!("n"),
            &["devices[0]: Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if"],
        ),
        (
            &at("/bindingConditions"),
            json!(["a"]),
            &[
                "devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
            ],
        ),
    ];
    table("resourceslices.resource.k8s.io", &slice(), rows);
    for (pointer, value, want) in [
        (
            "/spec/nodeName",
            json!("m"),
            "spec.nodeName: Invalid value: \"m\": field is immutable",
        ),
        (
            "/spec/pool/name",
            json!("q"),
            "spec.pool.name: Invalid value: \"q\": field is immutable",
        ),
    ] {
        let new = set(&slice(), pointer, value);
        check(
            &updated("resourceslices.resource.k8s.io", "", &slice(), &new).0,
            &[want],
            &new,
        );
    }
}

#[test]
fn classes() {
    let class = json!({"metadata": {"name": "c"}, "spec": {}});
    let rows: &[Row] = &[
        (
            "/spec/extendedResourceName",
            json!("cpu"),
            &["spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"],
        ),
        ("/spec/extendedResourceName", json!("d.io/gpu"), &[]),
        ("/spec/config", json!([{}]), &["spec.config[0].opaque: Required value"]),
    ];
    table("deviceclasses.resource.k8s.io", &class, rows);
}

#[test]
fn expressions_that_choose_devices() {
    let memory = "device.capacity['d.io'].memory.compareTo(quantity('8Gi')) >= 0";
    for (expression, want) in [
        ("device.driver == 'd.io'", ""),
        ("device.attributes['d.io'].model == 'a' && 'x' in device.attributes", ""),
        (memory, ""),
        ("device.attributes['d.io'].shared", ""),
        (
            "device.color == 'red'",
            "compilation failed: ERROR: <input>:1:7: undefined field 'color'",
        ),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("device.driver ==", "compilation failed: ERROR: <input>:1:"),
    ] {
        let class = json!({"metadata": {"name": "c"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}});
        let got = created("deviceclasses.resource.k8s.io", class.clone());
        let want: Vec<&str> = [want].into_iter().filter(|w| !w.is_empty()).collect();
        check(&got, &want, &class);
        for fault in got {
            assert!(
                fault.starts_with("spec.selectors[0].cel.expression: Invalid value: "),
                "{fault}"
            );
        }
    }
}
