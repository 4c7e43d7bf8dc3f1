//! What clients look for in the documents.

use super::*;

fn resources() -> Vec<Resource> {
    let verbs = |list: &str| list.split(' ').map(str::to_string).collect::<Vec<_>>();
    let all = verbs("get list watch create update patch delete deletecollection");
    let scale = Subresource {
        name: "scale".into(),
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        verbs: verbs("get update patch"),
    };
    let status = Subresource {
        name: "status".into(),
        verbs: verbs("get update patch"),
        ..Subresource::default()
    };
    let row = |group: &str, version: &str, kind: &str, plural: &str, namespaced, subresources| Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
        verbs: all.clone(),
        subresources,
        schema: None,
    };
    let mut custom = row("stable.example.com", "v1", "CronTab", "crontabs", true, vec![]);
    custom.schema = Some(json!({"type": "object", "properties": {"spec": {"type": "object"}}}));
    vec![
        row("", "v1", "Pod", "pods", true, vec![status.clone()]),
        row("", "v1", "Namespace", "namespaces", false, vec![status.clone()]),
        row("apps", "v1", "Deployment", "deployments", true, vec![status, scale]),
        custom,
    ]
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| match v {
            Value::String(to) if k == "$ref" => found.push(to.clone()),
            other => references(other, found),
        }),
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn v3_has_what_kubectl_looks_for() {
    let resources = resources();
    let index = v3_index(&resources);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("url");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
    let document = v3_document("apps", "v1", &resources, &undocumented).expect("document");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun") && names.contains(&"fieldManager"));
    let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        containers["items"]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
    let volumes = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(v3_document("apps", "v2", &resources, &undocumented).is_none());
}

#[test]
fn every_reference_resolves() {
    let resources = resources();
    let v2 = v2_document(&resources, &undocumented);
    let v3: Vec<Value> = resources
        .iter()
        .filter_map(|r| v3_document(&r.group, &r.version, &resources, &undocumented))
        .collect();
    for document in v3.iter().chain([&v2]) {
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 10);
        for to in found {
            let pointer = to.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{to}");
        }
    }
}

#[test]
fn v2_protobuf_begins_as_the_document_does() {
    let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "v1"}, "paths": {},
        "definitions": {"a.B": {"type": "object", "x-y": [1], "properties": {"c": {"$ref": "#/definitions/a.B"}}}}});
    let bytes = v2_protobuf(&document);
    let want: &[u8] = b"\x0a\x032.0\x12\x07\x0a\x01K\x12\x02v1\x42\x00\x4a\x40\x0a\x3e\x0a\x03a.B\x12\x37\
        \xb2\x01\x08\x0a\x06object\xca\x01\x1a\x0a\x18\x0a\x01c\x12\x13\x0a\x11#/definitions/a.B\xfa\x01\x0c\x0a\x03x-y\x12\x05\x12\x03[1]";
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(want));
}
