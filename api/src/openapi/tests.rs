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
    let document = v3_document("apis/apps/v1", &resources, &undocumented).expect("document");
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
        containers["items"],
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}], "default": {}})
    );
    let volumes = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(v3_document("apis/apps/v2", &resources, &undocumented).is_none());
}

#[test]
fn every_reference_resolves() {
    let resources = resources();
    let v2 = v2_document(&resources, &undocumented);
    let v3: Vec<Value> = resources
        .iter()
        .filter_map(|r| v3_document(&group_version_path(&r.group, &r.version), &resources, &undocumented))
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

#[test]
fn v3_protobuf_begins_as_the_document_does() {
    let document = json!({"openapi": "3.0.0", "info": {"title": "K", "version": "v1"}, "paths": {},
        "components": {"schemas": {"a.B": {"type": "object", "required": ["c"], "properties": {"c": {"allOf":
            [{"$ref": "#/components/schemas/a.B"}], "default": {}, "description": "d"}}}}, "securitySchemes": {}}});
    let bytes = v3_protobuf(&document);
    let want: &[u8] = b"\x0a\x053.0.0\x12\x07\x0a\x01K\x32\x02v1\x22\x00\x2a\x4b\x0a\x47\x0a\x45\x0a\x03a.B\x12\x3e\x0a\x3c\
        \xba\x01\x01c\xca\x01\x06object\xfa\x01\x2c\x0a\x2a\x0a\x01c\x12\x25\x0a\x23\xd2\x01\x1c\x12\x1a\x0a\x18#/components/schemas/a.B";
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(shown(&bytes[..want.len().min(bytes.len())]), shown(want));
}

#[test]
fn operations_are_named_as_clients_generate_them() {
    let verbs = |list: &str| list.split(' ').map(str::to_string).collect::<Vec<_>>();
    let mut resources = resources();
    let sub = |name: &str, kind: &str, list: &str| Subresource {
        name: name.into(),
        version: "v1".into(),
        kind: kind.into(),
        verbs: verbs(list),
        ..Subresource::default()
    };
    resources[0].subresources.extend([
        sub("log", "Pod", "get"),
        sub("exec", "PodExecOptions", "create get"),
        sub("proxy", "PodProxyOptions", "create get"),
        sub("binding", "Binding", "create"),
    ]);
    let mut role = resources[1].clone();
    (role.group, role.kind, role.plural) = (
        "rbac.authorization.k8s.io".into(),
        "ClusterRole".into(),
        "clusterroles".into(),
    );
    resources.push(role);
    let document = v2_document(&resources, &undocumented);
    let pod = "/api/v1/namespaces/{namespace}/pods";
    for (path, method, id, action) in [
        (pod, "get", "listCoreV1NamespacedPod", "list"),
        (pod, "delete", "deleteCoreV1CollectionNamespacedPod", "deletecollection"),
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list"),
        (
            "/api/v1/watch/pods",
            "get",
            "watchCoreV1PodListForAllNamespaces",
            "watchlist",
        ),
        (
            "/api/v1/watch/namespaces/{name}",
            "get",
            "watchCoreV1Namespace",
            "watch",
        ),
        (
            &format!("{pod}/{{name}}/log"),
            "get",
            "readCoreV1NamespacedPodLog",
            "get",
        ),
        (
            &format!("{pod}/{{name}}/binding"),
            "post",
            "createCoreV1NamespacedPodBinding",
            "post",
        ),
        (
            &format!("{pod}/{{name}}/exec"),
            "post",
            "connectCoreV1PostNamespacedPodExec",
            "connect",
        ),
        (
            &format!("{pod}/{{name}}/proxy/{{path}}"),
            "head",
            "connectCoreV1HeadNamespacedPodProxyWithPath",
            "connect",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}",
            "put",
            "replaceRbacAuthorizationV1ClusterRole",
            "put",
        ),
        (
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "patch",
            "patchAppsV1NamespacedDeploymentScale",
            "patch",
        ),
        (
            "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs",
            "post",
            "createStableExampleComV1NamespacedCronTab",
            "post",
        ),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], id, "{path}");
        assert_eq!(operation["x-kubernetes-action"], action, "{path}");
    }
    assert_eq!(
        document["paths"]["/apis/apps/"]["get"]["operationId"],
        "getAppsAPIGroup"
    );
    assert_eq!(
        document["paths"]["/api/v1/"]["get"]["operationId"],
        "getCoreV1APIResources"
    );
}

#[test]
fn custom_kinds_have_what_all_kinds_have_and_v2_what_it_can_say() {
    let mut resources = resources();
    let custom = resources.last_mut().expect("the custom one");
    custom.schema = Some(json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string", "nullable": true}, "b": {"oneOf": [{}], "type": "integer"},
            "c": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}}));
    let v2 = v2_document(&resources, &undocumented);
    let v3 = v3_document("apis/stable.example.com/v1", &resources, &undocumented).expect("document");
    let of = |document: &Value, pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
    let v2_kind = of(&v2, "/definitions/com.example.stable.v1.CronTab");
    let v3_kind = of(&v3, "/components/schemas/com.example.stable.v1.CronTab");
    for (kind, reference) in [(&v2_kind, "/$ref"), (&v3_kind, "/allOf/0/$ref")] {
        assert_eq!(kind["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
        assert_eq!(kind["properties"]["apiVersion"]["type"], "string");
        let meta = of(&kind["properties"]["metadata"], reference);
        assert!(meta.as_str().is_some_and(|to| to.ends_with(".ObjectMeta")), "{kind}");
        let embedded = of(kind, "/properties/spec/properties/c/properties/metadata");
        assert!(embedded.is_object(), "{kind}");
    }
    assert_eq!(v2_kind["properties"]["spec"]["properties"]["a"], json!({}));
    assert_eq!(
        v2_kind["properties"]["spec"]["properties"]["b"],
        json!({"type": "integer"})
    );
    assert_eq!(v3_kind["properties"]["spec"]["properties"]["a"]["nullable"], true);
    let list = of(&v3, "/components/schemas/com.example.stable.v1.CronTabList");
    assert_eq!(list["description"], "CronTabList is a list of CronTab");
    let patch = &v3["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_none()
    );
}
