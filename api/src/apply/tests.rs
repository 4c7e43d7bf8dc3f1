//! Tables and properties of server-side apply.

use super::*;
use crate::schema::lookup_gvk;
use proptest::prelude::*;
use serde_json::json;

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn ty(kind: &str) -> &'static Type {
    ["", "apps", "autoscaling"]
        .iter()
        .find_map(|group| lookup_gvk(group, "v1", kind))
        .expect("a kind")
}

fn tracking(kind: &str) -> Tracking<'static> {
    Tracking {
        ty: ty(kind),
        ignored: &[],
        versions: None,
    }
}

fn who(manager: &'static str, version: &'static str, now: &'static str) -> Writer<'static> {
    Writer {
        manager,
        api_version: version,
        subresource: "",
        now,
    }
}

fn by(manager: &'static str) -> Writer<'static> {
    who(manager, "v1", T1)
}

fn entry<'a>(object: &'a Value, manager: &str) -> &'a Value {
    object["metadata"]["managedFields"]
        .as_array()
        .and_then(|list| list.iter().find(|e| e["manager"] == manager))
        .unwrap_or(&Value::Null)
}

fn fields(object: &Value, manager: &str) -> Value {
    entry(object, manager)["fieldsV1"].clone()
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn created(kind: &str, mut object: Value, who: &Writer<'_>) -> Value {
    track_update(&tracking(kind), None, &mut object, who);
    object["metadata"]["uid"] = "u".into();
    object
}

fn updated(kind: &str, old: &Value, who: &Writer<'_>, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = old.clone();
    change(&mut new);
    track_update(&tracking(kind), Some(old), &mut new, who);
    new
}

fn applied(old: Option<&Value>, config: &Value, manager: &'static str, force: bool) -> Result<Value, crate::ApiError> {
    let kind = config["kind"].as_str().unwrap();
    let version = config["apiVersion"].as_str().unwrap();
    let who = Writer {
        manager,
        api_version: version,
        subresource: "",
        now: T1,
    };
    apply(&tracking(kind), old, config, &who, force)
}

fn set(value: Value) -> FieldSet {
    FieldSet::parse(&value).expect("a field set")
}

#[test]
fn set_operations() {
    let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:d": {"f:e": {}}}));
    let b = set(json!({"f:b": {}, "f:d": {".": {}}, "k:{\"y\":1,\"x\":2}": {"f:z": {}}}));
    let mut union = a.clone();
    union.union(&b);
    assert_eq!(
        union,
        set(
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:d": {".": {}, "f:e": {}}, "k:{\"x\":2,\"y\":1}": {"f:z": {}}})
        )
    );
    assert_eq!(a.intersection(&b), set(json!({"f:b": {}})));
    let mut rest = a.clone();
    assert!(rest.subtract(&b));
    assert_eq!(rest, set(json!({"f:a": {}, "f:b": {"f:c": {}}, "f:d": {"f:e": {}}})));
    assert!(!rest.subtract(&b));
    assert!(a.is_subset(&union) && b.is_subset(&union) && !union.is_subset(&a));
    assert!(a.contains(&["f:b"]) && a.contains(&["f:b", "f:c"]) && !a.contains(&["f:d"]));
    assert_eq!(
        a.leaves(),
        set(json!({"f:a": {}, "f:b": {"f:c": {}}, "f:d": {"f:e": {}}}))
    );
    let mut made = FieldSet::default();
    made.insert(&["f:d", "f:e"]);
    assert!(made.is_subset(&a) && made.contains(&["f:d", "f:e"]));
    for bad in [
        json!([]),
        json!({"x:a": {}}),
        json!({"f:a": 1}),
        json!({"k:[]": {}}),
        json!({"a": {}}),
    ] {
        assert_eq!(FieldSet::parse(&bad), None, "{bad}");
    }
    assert_eq!(set(json!({"f:a": {".": {}}})), set(json!({"f:a": {}})));
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i:1", "command": ["a", "b"],
                    "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]}}}})
}

#[test]
fn what_a_configuration_owns() {
    assert_eq!(
        field_set(ty("Deployment"), &deployment()).into_value(),
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:command": {}, "f:image": {}, "f:name": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:resources": {"f:limits": {"f:cpu": {}}}}}}}}
        })
    );
    // Sets, atomic maps, empty objects.
    let pod = json!({"metadata": {"finalizers": ["x/y"]}, "spec": {"nodeSelector": {"a": "b"}, "securityContext": {},
        "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k"}]}});
    assert_eq!(
        field_set(ty("Pod"), &pod).into_value(),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {"f:nodeSelector": {}, "f:securityContext": {}, "f:tolerations": {},
                "f:volumes": {"k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}}}})
    );
}

#[test]
fn what_a_creator_owns() {
    let made = created("Deployment", deployment(), &who("kubectl-create", "apps/v1", T1));
    let entry = entry(&made, "kubectl-create");
    assert_eq!(
        (
            &entry["operation"],
            &entry["time"],
            &entry["apiVersion"],
            &entry["fieldsType"]
        ),
        (&json!("Update"), &json!(T1), &json!("apps/v1"), &json!("FieldsV1"))
    );
    assert_eq!(
        entry["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:command": {}, "f:image": {}, "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}}}}}}}
        })
    );
}

#[test]
fn comparisons() {
    let a = json!({"metadata": {"name": "p", "labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]},
        "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "nodeSelector": {"a": "b"}}});
    let b = json!({"metadata": {"name": "q", "uid": "u", "labels": {"a": "3", "c": "2"}, "finalizers": ["y", "z"]},
        "spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "1"}], "nodeSelector": {"c": "d"}}});
    let found = compare(ty("Pod"), &a, &b);
    let show = |set: &FieldSet| set.clone().into_value();
    assert_eq!(
        show(&found.added),
        json!({"f:metadata": {"f:finalizers": {"v:\"z\"": {}}, "f:labels": {"f:c": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert_eq!(
        show(&found.modified),
        json!({"f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"b\"}": {"f:image": {}}}, "f:nodeSelector": {}}})
    );
    assert_eq!(
        show(&found.removed),
        json!({"f:metadata": {"f:finalizers": {"v:\"x\"": {}}, "f:labels": {"f:b": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert!(compare(ty("Pod"), &a, &a).is_same());
    // Env may hold one name twice; the pair is one item.
    let env = |v: &str| json!({"spec": {"containers": [{"name": "a", "env": [{"name": "E", "value": "1"}, {"name": "E", "value": v}, {"name": "F"}]}]}});
    let mut longer = env("2");
    longer["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "E", "value": "9"}));
    let found = compare(ty("Pod"), &env("2"), &longer);
    assert_eq!(
        show(&found.modified),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:env": {"k:{\"name\":\"E\"}": {}}}}}})
    );
    assert!(found.added.is_empty() && found.removed.is_empty());
}

#[test]
fn an_update_takes_what_it_changes_and_keeps_the_rest() {
    let one = created("ConfigMap", map(json!({"a": "1", "b": "1"})), &by("one"));
    assert_eq!(fields(&one, "one"), json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    let two = updated("ConfigMap", &one, &who("two", "v1", T2), |o| {
        o["data"] = json!({"a": "2", "b": "1", "c": "1"})
    });
    assert_eq!(fields(&two, "one"), json!({"f:data": {".": {}, "f:b": {}}}));
    assert_eq!(entry(&two, "one")["time"], T1);
    assert_eq!(fields(&two, "two"), json!({"f:data": {"f:a": {}, "f:c": {}}}));
    assert_eq!(entry(&two, "two")["time"], T2);
    // Nothing changed: nothing is touched, whoever writes.
    let same = updated("ConfigMap", &two, &who("three", "v1", T2), |o| {
        o["metadata"].as_object_mut().unwrap().remove("managedFields");
    });
    assert_eq!(same, two);
    // Removal: nobody owns it any more, and the remover gets no entry.
    let three = updated("ConfigMap", &two, &by("three"), |o| {
        o["data"].as_object_mut().unwrap().remove("a");
    });
    assert_eq!(fields(&three, "two"), json!({"f:data": {"f:c": {}}}));
    assert_eq!(entry(&three, "three"), &Value::Null);
    // Who owns nothing is gone.
    let four = updated("ConfigMap", &three, &by("one"), |o| o["data"]["c"] = "9".into());
    assert_eq!(entry(&four, "two"), &Value::Null);
    assert_eq!(fields(&four, "one"), json!({"f:data": {".": {}, "f:b": {}, "f:c": {}}}));
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "i"}]}, "status": {"phase": "Pending"}});
    let main = Tracking {
        ignored: &[&["status"]],
        ..tracking("Pod")
    };
    track_update(&main, None, &mut pod, &by("me"));
    pod["metadata"]["uid"] = "u".into();
    assert_eq!(fields(&pod, "me")["f:status"], Value::Null);
    let status = Tracking {
        ignored: &[&["spec"]],
        ..tracking("Pod")
    };
    let mut new = pod.clone();
    new["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    new["spec"]["nodeName"] = "ignored".into();
    new["metadata"]["managedFields"] = json!([]);
    let kubelet = Writer {
        subresource: "status",
        ..by("kubelet")
    };
    track_update(&status, Some(&pod), &mut new, &kubelet);
    assert_eq!(fields(&new, "me"), fields(&pod, "me"));
    assert_eq!(entry(&new, "kubelet")["subresource"], "status");
    assert_eq!(
        fields(&new, "kubelet"),
        json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:phase": {}}})
    );
}

#[test]
fn entries_that_clients_send() {
    let one = created("ConfigMap", map(json!({"a": "1"})), &by("one"));
    let send = |list: Value| {
        updated("ConfigMap", &one, &by("two"), |o| {
            o["data"]["b"] = "1".into();
            o["metadata"]["managedFields"] = list;
        })
    };
    // Forgotten on request, and not tracked again until the first apply.
    for reset in [json!([]), json!([{}])] {
        let gone = send(reset);
        assert_eq!(gone["metadata"].get("managedFields"), None);
        let later = updated("ConfigMap", &gone, &by("two"), |o| o["data"]["c"] = "1".into());
        assert_eq!(later["metadata"].get("managedFields"), None);
        let config = map(json!({"c": "1"}));
        let applied = applied(Some(&later), &config, "me", false).unwrap();
        assert_eq!(
            fields(&applied, "before-first-apply"),
            json!({"f:data": {".": {}, "f:a": {}, "f:b": {}, "f:c": {}}})
        );
        assert_eq!(fields(&applied, "me"), json!({"f:data": {"f:c": {}}}));
    }
    // Malformed ones do not count.
    let good = json!({"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}});
    for (key, bad) in [
        ("operation", json!("Replace")),
        ("apiVersion", json!("")),
        ("fieldsType", json!("FieldsV2")),
        ("fieldsV1", json!({"nonsense": {}})),
    ] {
        let mut wrong = good.clone();
        wrong[key] = bad;
        let kept = send(json!([wrong]));
        assert_eq!(fields(&kept, "one"), fields(&one, "one"), "{key}");
        assert_eq!(fields(&kept, "two"), json!({"f:data": {"f:b": {}}}));
    }
    // Well-formed ones replace what was there.
    let moved = send(json!([good]));
    assert_eq!(entry(&moved, "one"), &Value::Null);
    assert_eq!(fields(&moved, "x"), json!({"f:data": {"f:a": {}}}));
}

#[test]
fn old_updaters_are_merged() {
    let names = [
        "m00", "m01", "m02", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10", "m11",
    ];
    let times = [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:01:00Z",
        "2026-01-01T00:02:00Z",
        "2026-01-01T00:03:00Z",
        "2026-01-01T00:04:00Z",
        "2026-01-01T00:05:00Z",
        "2026-01-01T00:06:00Z",
        "2026-01-01T00:07:00Z",
        "2026-01-01T00:08:00Z",
        "2026-01-01T00:09:00Z",
        "2026-01-01T00:10:00Z",
        "2026-01-01T00:11:00Z",
    ];
    let mut object = created("ConfigMap", map(json!({"m00": "0"})), &who("m00", "v1", times[0]));
    for (name, time) in names.iter().zip(times).skip(1) {
        object = updated("ConfigMap", &object, &who(name, "v1", time), |o| {
            o["data"][*name] = "1".into();
        });
    }
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(list.len(), 10);
    assert_eq!(list[0]["manager"], "ancient-changes");
    assert_eq!(list[0]["time"], times[2]);
    assert_eq!(
        list[0]["fieldsV1"],
        json!({"f:data": {".": {}, "f:m00": {}, "f:m01": {}, "f:m02": {}}})
    );
    assert_eq!(list[9]["manager"], "m11");
}

#[test]
fn conflicts_name_the_owner_in_upstreams_words() {
    let live = created(
        "Deployment",
        deployment(),
        &who("kubectl-client-side-apply", "apps/v1", T1),
    );
    let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 5}});
    let error = applied(Some(&live), &config, "me", false).unwrap_err();
    assert_eq!(
        error.to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas",
            "details": {"causes": [{"reason": "FieldManagerConflict", "field": ".spec.replicas",
                "message": "conflict with \"kubectl-client-side-apply\" using apps/v1"}]}})
    );
    config["spec"]["template"] = json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}});
    let error = applied(Some(&live), &config, "me", false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced = applied(Some(&live), &config, "me", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 5);
    assert_eq!(
        forced["spec"]["template"]["spec"]["containers"][0]["command"],
        json!(["a", "b"])
    );
    assert_eq!(
        fields(&forced, "kubectl-client-side-apply")["f:spec"]["f:replicas"],
        Value::Null
    );
    assert_eq!(entry(&forced, "me")["operation"], "Apply");
    // The same value is no conflict: both own it.
    config["spec"] = json!({"replicas": 3});
    let shared = applied(Some(&live), &config, "me", false).unwrap();
    assert_eq!(fields(&shared, "me"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(
        fields(&shared, "kubectl-client-side-apply")["f:spec"]["f:replicas"],
        json!({})
    );
    // Another applier is named without a version.
    config["spec"] = json!({"replicas": 4});
    let error = applied(
        Some(&applied(Some(&live), &config, "a", true).unwrap()),
        &{
            config["spec"] = json!({"replicas": 6});
            config.clone()
        },
        "b",
        false,
    )
    .unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
}

#[test]
fn what_is_no_longer_applied_goes_if_nobody_else_owns_it() {
    let first = applied(None, &map(json!({"a": "1", "b": "1", "c": "1"})), "me", false).unwrap();
    let shared = applied(Some(&first), &map(json!({"b": "1"})), "you", false).unwrap();
    let touched = updated("ConfigMap", &shared, &by("hand"), |o| o["data"]["c"] = "2".into());
    let second = applied(Some(&touched), &map(json!({"a": "1"})), "me", false).unwrap();
    assert_eq!(second["data"], json!({"a": "1", "b": "1", "c": "2"}));
    let third = applied(Some(&second), &map(json!({})), "me", false).unwrap();
    assert_eq!(third["data"], json!({"b": "1", "c": "2"}));
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let fourth = applied(Some(&third), &none, "you", false).unwrap();
    assert_eq!(fourth["data"], json!({"c": "2"}));
    assert_eq!(entry(&fourth, "you"), &Value::Null);
}

#[test]
fn list_items_go_whole_or_in_part() {
    let config = deployment();
    let live = applied(None, &config, "me", false).unwrap();
    assert_eq!(live["spec"], config["spec"]);
    let mut without = config.clone();
    without["spec"]["template"]["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("ports");
    let next = applied(Some(&live), &without, "me", false).unwrap();
    assert_eq!(next["spec"], without["spec"]);
    // A sidecar that somebody else added stays, also when ours goes away; what the
    // server filled in below our item goes with it.
    let mut sidecar = updated("Deployment", &next, &who("injector", "apps/v1", T2), |o| {
        let spec = &mut o["spec"]["template"]["spec"];
        spec["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "side", "image": "s"}));
    });
    sidecar["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    let mut renamed = without.clone();
    renamed["spec"]["template"]["spec"]["containers"][0]["name"] = "d".into();
    let last = applied(Some(&sidecar), &renamed, "me", false).unwrap();
    let names: Vec<&Value> = last["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["side", "d"]);
}

#[test]
fn lists_merge_in_the_applied_order() {
    let pod = |names: &[&str]| {
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": "i"})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": list}})
    };
    for (live, config, want) in [
        (&["a", "b", "c"][..], &["c", "b"][..], &["a", "c", "b"][..]),
        (&["a", "b"], &["x", "a"], &["x", "a", "b"]),
        (&["a", "b", "c"], &["a", "x", "c"], &["a", "b", "x", "c"]),
        (&["1", "2", "3"], &["3", "2", "1"], &["3", "2", "1"]),
        (&["1", "2"], &["3", "4"], &["1", "2", "3", "4"]),
    ] {
        let live = created("Pod", pod(live), &by("one"));
        let merged = applied(Some(&live), &pod(config), "me", true).unwrap();
        let names: Vec<&str> = merged["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, want);
    }
}

#[test]
fn bad_configurations() {
    let bad = |change: &dyn Fn(&mut Value)| {
        let mut config = deployment();
        change(&mut config);
        let error = apply(&tracking("Deployment"), None, &config, &who("me", "apps/v1", T1), false).unwrap_err();
        (error.code, error.message)
    };
    assert_eq!(
        bad(&|c| c["spec"]["foo"] = 1.into()),
        (
            500,
            "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema".into()
        )
    );
    let (code, text) = bad(&|c| {
        let containers = &mut c["spec"]["template"]["spec"]["containers"];
        let first = containers[0].clone();
        containers.as_array_mut().unwrap().push(first);
    });
    assert_eq!(code, 500);
    assert!(
        text.ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"c\"]"),
        "{text}"
    );
    let (_, text) = bad(&|c| {
        c["spec"]["template"]["spec"]["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove("name");
    });
    assert!(
        text.contains("element 0: associative list with keys has an element that omits key field \"name\""),
        "{text}"
    );
    assert_eq!(
        bad(&|c| c["metadata"]["managedFields"] = json!([])),
        (400, "metadata.managedFields must be nil".into())
    );
    assert_eq!(bad(&|c| c["kind"] = "Pod".into()).0, 400);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut object = deployment();
    let last = serde_json::to_string(&object).unwrap();
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let live = created("Deployment", object, &who("kubectl-client-side-apply", "apps/v1", T1));
    let mut config = deployment();
    config["spec"]["replicas"] = 5.into();
    assert!(applied(Some(&live), &config, "other", false).is_err());
    let moved = applied(Some(&live), &config, "kubectl", false).unwrap();
    assert_eq!(moved["spec"]["replicas"], 5);
    let note = &moved["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    let note: Value = serde_json::from_str(note.as_str().unwrap()).unwrap();
    assert_eq!(note, config);
    // Somebody changed the field since: that is a conflict again.
    let scaled = updated("Deployment", &live, &who("hpa", "apps/v1", T2), |o| {
        o["spec"]["replicas"] = 9.into()
    });
    let error = applied(Some(&scaled), &config, "kubectl", false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas"
    );
}

/// Pretends that version v2 calls the field `data` of a ConfigMap the same.
struct Same;

impl Versions for Same {
    fn in_version(&self, object: &Value, api_version: &str) -> Option<(Value, &Type)> {
        (api_version == "other/v2" || api_version == "v1").then(|| {
            let mut object = object.clone();
            object["apiVersion"] = api_version.into();
            (object, ty("ConfigMap"))
        })
    }
}

#[test]
fn entries_of_other_versions_follow() {
    let one = created(
        "ConfigMap",
        map(json!({"a": "1", "b": "1"})),
        &who("one", "other/v2", T1),
    );
    let versions = Tracking {
        versions: Some(&Same),
        ..tracking("ConfigMap")
    };
    let mut new = one.clone();
    new["data"]["a"] = "2".into();
    track_update(&versions, Some(&one), &mut new, &who("one", "v1", T2));
    let list = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["fieldsV1"], json!({"f:data": {".": {}, "f:b": {}}}));
    assert_eq!(list[1]["fieldsV1"], json!({"f:data": {"f:a": {}}}));
    let error = apply(&versions, Some(&one), &map(json!({"a": "3"})), &by("me"), false).unwrap_err();
    assert!(
        error.message.contains("\"one\" using other/v2: .data.a"),
        "{}",
        error.message
    );
    // An applier moves to another version with what it owned.
    let first = apply(
        &versions,
        None,
        &map(json!({"a": "1", "b": "1"})),
        &who("me", "other/v2", T1),
        false,
    )
    .unwrap();
    let second = apply(&versions, Some(&first), &map(json!({"a": "1"})), &by("me"), false).unwrap();
    assert_eq!(second["data"], json!({"a": "1"}));
    assert_eq!(second["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    assert_eq!(entry(&second, "me")["apiVersion"], "v1");
}

#[test]
fn times_go_back_when_nothing_else_changed() {
    let one = created("ConfigMap", map(json!({"a": "1"})), &by("one"));
    let mut two = one.clone();
    two["metadata"]["managedFields"][0]["time"] = T2.into();
    two["metadata"]["resourceVersion"] = "7".into();
    let mut kept = two.clone();
    keep_times(&mut kept, &one);
    assert_eq!(entry(&kept, "one")["time"], T1);
    two["data"]["a"] = "2".into();
    keep_times(&mut two, &one);
    assert_eq!(entry(&two, "one")["time"], T2);
}

fn data() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["a", "b", "c", "d"]);
    let item = prop::sample::select(vec!["x", "y", "z"]);
    (
        prop::collection::btree_map(key.clone(), "[12]", 0..4),
        prop::collection::btree_map(key, ("[12]", prop::option::of("[12]")), 0..4),
        prop::collection::btree_set(item, 0..3),
    )
        .prop_map(|(labels, containers, finalizers)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, class))| match class {
                    Some(dir) => json!({"name": name, "image": image, "workingDir": dir}),
                    None => json!({"name": name, "image": image}),
                })
                .collect();
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels, "finalizers": finalizers},
                "spec": {"containers": containers}})
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_twice_changes_nothing(live in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let once = applied(Some(&live), &config, "me", true).unwrap();
        let mut later = who("me", "v1", T2);
        later.now = T2;
        let twice = apply(&tracking("Pod"), Some(&once), &config, &later, false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn force_owns_all_that_was_applied(live in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let forced = applied(Some(&live), &config, "me", true).unwrap();
        let own = field_set(ty("Pod"), &config);
        prop_assert_eq!(entry(&forced, "me")["fieldsV1"].as_object().cloned().unwrap_or_default(), own.0.clone());
        // The applied values are all there, and applying another's view of them is no conflict.
        prop_assert!(applied(Some(&forced), &config, "you", false).is_ok());
        let found = compare(ty("Pod"), &forced, &config);
        prop_assert!(found.added.is_empty(), "{:?}", found.added);
        prop_assert!(found.modified.intersection(&own).is_empty(), "{:?}", found.modified);
    }

    #[test]
    fn only_the_sole_owner_removes(first in data(), second in data(), other in data()) {
        let live = applied(None, &first, "me", true).unwrap();
        let live = applied(Some(&live), &other, "you", true).unwrap();
        let mine = set(fields(&live, "me").as_object().map_or(json!({}), |m| Value::Object(m.clone())));
        let next = applied(Some(&live), &second, "me", true).unwrap();
        let removed = compare(ty("Pod"), &live, &next).removed;
        let yours = field_set(ty("Pod"), &other);
        prop_assert!(removed.leaves().intersection(&yours).is_empty(), "{:?}", removed);
        // What was mine alone, and I no longer name, is gone.
        let mut gone = mine.clone();
        gone.subtract(&yours);
        gone.subtract(&field_set(ty("Pod"), &second));
        let left = field_set(ty("Pod"), &next).intersection(&gone);
        prop_assert!(left.leaves().is_empty(), "{:?}", left);
    }

    #[test]
    fn comparison_is_symmetric_and_exact(a in data(), b in data()) {
        let forth = compare(ty("Pod"), &a, &b);
        let back = compare(ty("Pod"), &b, &a);
        prop_assert_eq!(&forth.added, &back.removed);
        prop_assert_eq!(&forth.removed, &back.added);
        prop_assert_eq!(&forth.modified, &back.modified);
        prop_assert!(compare(ty("Pod"), &a, &a).is_same());
    }

    #[test]
    fn set_laws(a in data(), b in data()) {
        let (a, b) = (field_set(ty("Pod"), &a), field_set(ty("Pod"), &b));
        let mut union = a.clone();
        union.union(&b);
        prop_assert!(a.is_subset(&union) && b.is_subset(&union));
        let mut only = union.clone();
        only.subtract(&b);
        prop_assert!(only.is_subset(&a) && only.intersection(&b).is_empty());
        only.union(&b);
        prop_assert_eq!(&only, &union);
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(FieldSet::parse(&union.clone().into_value()), Some(union));
    }

    #[test]
    fn every_owned_leaf_is_there(live in data(), next in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let new = updated("Pod", &live, &by("two"), |o| {
            o["metadata"]["labels"] = next["metadata"]["labels"].clone();
            o["spec"] = next["spec"].clone();
        });
        let new = applied(Some(&new), &config, "me", true).unwrap();
        let whole = compare(ty("Pod"), &Value::Null, &new).added;
        for entry in new["metadata"]["managedFields"].as_array().unwrap() {
            let leaves = set(entry["fieldsV1"].clone()).leaves();
            prop_assert!(leaves.is_subset(&whole) || entry["operation"] == "Apply", "{}", entry);
        }
    }
}

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
