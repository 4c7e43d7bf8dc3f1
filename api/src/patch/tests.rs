//! Patch tests, the strategic ones as tables of (type, live, patch, result).

use super::*;
use crate::schema::lookup;

fn strategic(ty: &str, live: Value, patch: Value) -> Result<Value, ApiError> {
    let mut result = live;
    strategic_merge(lookup(ty).expect(ty), &mut result, patch)?;
    Ok(result)
}

const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const SERVICE: &str = "io.k8s.api.core.v1.ServiceSpec";

#[test]
fn strategic_merges() {
    let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    let cases = [
        (
            "merge by key",
            POD_SPEC,
            two.clone(),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
        ),
        (
            "new element goes in front of the server's",
            POD_SPEC,
            two.clone(),
            json!({"containers": [{"name": "c", "image": "3", "env": null}]}),
            json!({"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        ),
        (
            "delete by key",
            POD_SPEC,
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "1"}]}),
        ),
        (
            "replace the list",
            POD_SPEC,
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
            json!({"containers": [{"name": "z"}]}),
        ),
        (
            "empty the list",
            POD_SPEC,
            two.clone(),
            json!({"containers": [{"$patch": "replace"}]}),
            json!({"containers": []}),
        ),
        (
            "an empty patch list changes nothing",
            POD_SPEC,
            two.clone(),
            json!({"containers": []}),
            two.clone(),
        ),
        (
            "null deletes",
            POD_SPEC,
            json!({"nodeName": "n", "hostname": "h"}),
            json!({"nodeName": null, "subdomain": null}),
            json!({"hostname": "h"}),
        ),
        (
            "null deletes a list",
            POD_SPEC,
            two.clone(),
            json!({"containers": null}),
            json!({}),
        ),
        (
            "the order that is asked for",
            POD_SPEC,
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c", "image": "3"}]}),
            json!({"containers": [{"name": "c", "image": "3"}, {"name": "b", "image": "1"}, {"name": "a", "image": "1"}]}),
        ),
        (
            "order only",
            POD_SPEC,
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]}),
        ),
        (
            "an injected sidecar keeps its place",
            POD_SPEC,
            json!({"containers": [{"name": "side"}, {"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "side"}, {"name": "a"}, {"name": "b", "image": "2"}]}),
        ),
        (
            "delete with order",
            POD_SPEC,
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "1"}]}),
        ),
        (
            "lists without strategy replace",
            POD_SPEC,
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        (
            "nested merge keys",
            POD_SPEC,
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}], "args": ["1"]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["2", "3"]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["2", "3"]}]}),
        ),
        (
            "retainKeys replaces a union",
            POD_SPEC,
            json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]}),
        ),
        (
            "retainKeys of a strategy",
            DEPLOYMENT,
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            "primitives merge",
            META,
            json!({"finalizers": ["a", "b"]}),
            json!({"finalizers": ["c", "a"]}),
            json!({"finalizers": ["c", "a", "b"]}),
        ),
        (
            "primitives deleted",
            META,
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
            json!({"finalizers": ["b"]}),
        ),
        (
            "primitives deleted and set",
            META,
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
            json!({"finalizers": ["c", "b"]}),
        ),
        (
            "maps merge",
            META,
            json!({"labels": {"a": "1", "b": "1"}}),
            json!({"labels": {"b": null, "c": "2"}}),
            json!({"labels": {"a": "1", "c": "2"}}),
        ),
        (
            "map replaced",
            META,
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "replace", "c": "2"}}),
            json!({"labels": {"c": "2"}}),
        ),
        (
            "map emptied",
            META,
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "delete"}}),
            json!({"labels": {}}),
        ),
        (
            "owner references by uid",
            META,
            json!({"ownerReferences": [{"uid": "1", "name": "a"}]}),
            json!({"ownerReferences": [{"uid": "1", "$patch": "delete"}, {"uid": "2", "name": "b"}]}),
            json!({"ownerReferences": [{"uid": "2", "name": "b"}]}),
        ),
        (
            "integer merge keys",
            SERVICE,
            json!({"ports": [{"port": 80, "nodePort": 30000}, {"port": 443}]}),
            json!({"ports": [{"port": 80, "targetPort": "x"}]}),
            json!({"ports": [{"port": 80, "nodePort": 30000, "targetPort": "x"}, {"port": 443}]}),
        ),
        (
            "directives do not leak",
            POD_SPEC,
            json!({}),
            json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b", "$retainKeys": ["name"], "image": null}], "volumes": [{"$patch": "replace"}]}),
            json!({"containers": [{"name": "b"}], "volumes": []}),
        ),
        (
            "a selector replaces",
            "io.k8s.api.policy.v1.PodDisruptionBudgetSpec",
            json!({"selector": {"matchLabels": {"a": "1"}}}),
            json!({"selector": {"matchLabels": {"b": "1"}}}),
            json!({"selector": {"matchLabels": {"b": "1"}}}),
        ),
    ];
    for (what, ty, live, patch, want) in cases {
        assert_eq!(
            strategic(ty, live, patch).map_err(|e| e.to_string()),
            Ok(want),
            "{what}"
        );
    }
}

#[test]
fn strategic_refuses() {
    for (patch, code, why) in [
        (
            json!({"containers": [{"image": "x", "args": ["a", 1]}]}),
            500,
            "map: map[args:[a 1] image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "burn"}]}),
            500,
            "unknown patch type: burn in map: map[$patch:burn name:a]",
        ),
        (
            json!({"containers": [{"$patch": "delete"}]}),
            500,
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            json!({"$setElementOrder/containers": "a"}),
            400,
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"$deleteFromPrimitiveList/finalizers": "a"}),
            400,
            "invalid patch format of primitive list",
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}),
            500,
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        (json!({"$retainKeys": "x"}), 400, "invalid patch format of retainKeys"),
        (
            json!({"$retainKeys": ["hostname"], "nodeName": "x"}),
            500,
            "patch content doesn't match retainKeys list",
        ),
        (
            json!([]),
            400,
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        let error = strategic(POD_SPEC, json!({"containers": [{"name": "a"}]}), patch.clone()).expect_err("refused");
        assert_eq!((error.code, error.message.as_str()), (code, why), "{patch}");
    }
}

#[test]
fn bombs_of_json_patches_are_refused() {
    let doubling = r#"{"op":"copy","from":"/a","path":"/a/x"}"#;
    let doubling = format!("[{}]", vec![doubling; 9_000].join(","));
    let deeper: Vec<String> = (1..200)
        .map(|i| {
            let value = format!("{}1{}", r#"{"x":"#.repeat(100), "}".repeat(100));
            format!(r#"{{"op":"add","path":"{}","value":{value}}}"#, "/x".repeat(100 * i))
        })
        .collect();
    let deeper = format!(r#"[{{"op":"add","path":"/x","value":{{}}}},{}]"#, deeper.join(","));
    for patch in [doubling, deeper] {
        let mut live = json!({"a": {"b": "c"}});
        let error = json_patch(&mut live, patch.as_bytes()).expect_err("refused");
        assert_eq!(error.code, 422);
        assert_eq!(live, json!({"a": {"b": "c"}}), "nothing happened");
    }
}

#[test]
fn json_patches() {
    let mut live = json!({"a": {"b": [1, 2]}});
    json_patch(&mut live, br#"[{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "add", "path": "/a/b/-", "value": 3}, {"op": "remove", "path": "/a/b/0"}]"#)
        .expect("applies");
    assert_eq!(live, json!({"a": {"b": [2, 3]}}));
    let error = json_patch(
        &mut live,
        br#"[{"op": "remove", "path": "/a/b/0"}, {"op": "test", "path": "/a/b/0", "value": 9}]"#,
    )
    .expect_err("test fails");
    assert_eq!((error.code, error.reason.as_ref()), (422, "Invalid"));
    assert_eq!(error.details, Some(json!({})));
    json_patch(&mut live, br#"[{"op": "test", "path": "/a/nope", "value": null}]"#).expect("there is nothing");
    for (patch, code, why) in [
        (
            "{}",
            400,
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
        (
            "[1]",
            400,
            "json: cannot unmarshal number into Go value of type jsonpatch.Operation",
        ),
        ("[", 400, "unexpected end of JSON input"),
        (
            r#"[{"op": "burn", "path": "/a"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            r#"[{"op": "replace", "path": "/x/y", "value": 1}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            r#"[{"op": "remove", "path": "/x"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
    ] {
        let error = json_patch(&mut live, patch.as_bytes()).expect_err(patch);
        assert_eq!((error.code, error.message.as_str()), (code, why), "{patch}");
    }
    assert_eq!(live, json!({"a": {"b": [2, 3]}}), "nothing happened");
    assert_eq!(json_patch(&mut live, b"{}").expect_err("no list").code, 400);
    let many = format!("[{}]", vec![r#"{"op":"test","path":"","value":1}"#; 10_001].join(","));
    assert_eq!(json_patch(&mut live, many.as_bytes()).expect_err("too many").code, 413);
}

#[test]
fn merge_patches() {
    let mut live = json!({"a": {"b": [1], "c": 1}});
    merge_patch(
        &mut live,
        &json!({"a": {"b": [2], "c": null}, "d": {"e": null, "f": 1}}),
    )
    .expect("applies");
    assert_eq!(live, json!({"a": {"b": [2]}, "d": {"f": 1}}));
    assert_eq!(merge_patch(&mut live, &json!([])).expect_err("list").code, 400);
}
