//! Tables of server-side apply.

use super::*;

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
