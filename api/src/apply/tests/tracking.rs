//! Tables of updates and of entries.

use super::*;

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
