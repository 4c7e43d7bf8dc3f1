//! Custom resources through the real handler: definitions, schemas, versions, the end.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/webhook.rs"]
mod webhook;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Caller, Fixture, fixture, fixture_over};
use webhook::WebhookServer;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com";
const V1: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";
const V2: &str = "/apis/stable.example.com/v2/namespaces/default/crontabs";

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.image"}],
        "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object",
            "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}}})
}

fn spec() -> Value {
    json!({"type": "object", "description": "What to run", "properties": {
        "image": {"type": "string", "default": "busybox"},
        "replicas": {"type": "integer", "maximum": 20},
        "hostPort": {"type": "string"},
    }, "x-kubernetes-validations": [{"rule": "!has(oldSelf.image) || self.image == oldSelf.image", "message": "image is immutable"}]})
}

fn definition(versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList", "shortNames": ["ct"]}}})
}

fn tab(name: &str, version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

/// Watches the definition until it is as is asked for, and gives it.
async fn until(admin: &Caller, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{CRDS}?watch=true&fieldSelector=metadata.name={name}");
    let mut events = admin.watch(&path, "application/json").await;
    loop {
        let event = events.next().await.expect("the watch goes on");
        if holds(&event) {
            return event["object"].clone();
        }
    }
}

fn condition<'a>(event: &'a Value, kind: &str) -> &'a Value {
    let conditions = event["object"]["status"]["conditions"].as_array();
    let found = conditions.and_then(|c| c.iter().find(|c| c["type"] == kind));
    found.unwrap_or(&Value::Null)
}

async fn install(admin: &Caller, definition: Value) -> Value {
    let name = definition["metadata"]["name"].as_str().unwrap().to_string();
    let (code, body) = admin.post(CRDS, definition).await;
    assert_eq!(code, 201, "{body}");
    until(admin, &name, |e| condition(e, "Established")["status"] == "True").await
}

async fn served() -> (Fixture, Caller) {
    let f = fixture().await;
    let admin = f.admin();
    install(&admin, definition(json!([version("v1", true, spec())]))).await;
    (f, admin)
}

#[tokio::test]
async fn a_definition_is_served_and_told_of() {
    let f = fixture().await;
    let admin = f.admin();
    let (_, before) = admin.get("/openapi/v3").await;
    assert_eq!(admin.get(V1).await.0, 404);
    let made = install(&admin, definition(json!([version("v1", true, spec())]))).await;
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["acceptedNames"]["shortNames"], json!(["ct"]));
    let (_, list) = admin.get("/apis/stable.example.com/v1").await;
    let names: Vec<&str> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    let (_, groups) = admin.get("/apis").await;
    assert!(groups.to_string().contains("stable.example.com/v1"));
    let (_, after) = admin.get("/openapi/v3").await;
    assert_ne!(before, after);
    let url = after["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let (_, document) = admin.get(url).await;
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["description"], "What to run", "{schema}");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    let (_, v2) = admin.get("/openapi/v2").await;
    assert!(v2["definitions"]["com.example.stable.v1.CronTab"].is_object());
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let (_f, admin) = served().await;
    let (code, made) = admin.post(V1, tab("a", "v1", json!({"replicas": 1, "nope": 2}))).await;
    assert_eq!(
        (code, &made["spec"]),
        (201, &json!({"image": "busybox", "replicas": 1})),
        "{made}"
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let (code, refused) = admin
        .post(
            &format!("{V1}?fieldValidation=Strict"),
            tab("b", "v1", json!({"nope": 2})),
        )
        .await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            400,
            "CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: unknown field \"spec.nope\""
        )
    );
    let (code, refused) = admin.post(V1, tab("b", "v1", json!({"replicas": 21}))).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            422,
            "CronTab.stable.example.com \"b\" is invalid: spec.replicas: Invalid value: 21: spec.replicas in body should be less than or equal to 20"
        )
    );
    let (code, refused) = admin
        .patch(
            "merge-patch+json",
            &format!("{V1}/a"),
            json!({"spec": {"image": "other"}}),
        )
        .await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            422,
            "CronTab.stable.example.com \"a\" is invalid: spec: Invalid value: \"object\": image is immutable"
        )
    );
    let (code, refused) = admin
        .patch("strategic-merge-patch+json", &format!("{V1}/a"), json!({}))
        .await;
    assert_eq!((code, &refused["reason"]), (415, &json!("UnsupportedMediaType")));
    let (code, refused) = admin
        .send(
            &format!("POST {V1}"),
            &[("content-type", "application/vnd.kubernetes.protobuf")],
            "k8s\0",
        )
        .await;
    assert_eq!(code, 415, "{refused}");
    let (code, refused) = admin
        .post(
            V1,
            json!({"apiVersion": "stable.example.com/v1", "metadata": {"name": "x"}}),
        )
        .await;
    assert_eq!(code, 400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("Object 'Kind' is missing in"),
        "{refused}"
    );
}

#[tokio::test]
async fn status_and_scale_are_apart() {
    let (_f, admin) = served().await;
    let mut object = tab("a", "v1", json!({"replicas": 1}));
    object["status"] = json!({"replicas": 9});
    let (_, made) = admin.post(V1, object).await;
    assert!(made.get("status").is_none(), "{made}");
    let (code, status) = admin
        .patch(
            "merge-patch+json",
            &format!("{V1}/a/status"),
            json!({"spec": {"replicas": 5}, "metadata": {"labels": {"x": "y"}}, "status": {"replicas": 2, "selector": "a=b"}}),
        )
        .await;
    assert_eq!(code, 200, "{status}");
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&status["metadata"]["generation"], status["metadata"].get("labels")),
        (&json!(1), None)
    );
    let (_, scale) = admin.get(&format!("{V1}/a/scale")).await;
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    let (code, scale) = admin
        .patch(
            "merge-patch+json",
            &format!("{V1}/a/scale"),
            json!({"spec": {"replicas": 4}}),
        )
        .await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(4)), "{scale}");
    let (_, object) = admin.get(&format!("{V1}/a")).await;
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    // Without a label or a name for what it manages, nobody owns metadata.
    let owned = &object["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(*owned, json!({"f:spec": {".": {}, "f:image": {}}}), "{object}");
}

#[tokio::test]
async fn server_side_apply_knows_the_schema() {
    let f = fixture().await;
    let admin = f.admin();
    let mut schema = spec();
    schema["properties"]["ports"] = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
        "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}}});
    schema["properties"]["open"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"known": {"type": "string"}}});
    install(&admin, definition(json!([version("v1", true, schema)]))).await;
    let apply = async |manager: &str, spec: Value| {
        let path = format!("PATCH {V1}/a?fieldManager={manager}");
        let body = tab("a", "v1", spec).to_string();
        admin
            .send(&path, &[("content-type", "application/apply-patch+yaml")], body)
            .await
    };
    let (code, made) = apply(
        "one",
        json!({"ports": [{"port": 1, "name": "x"}], "open": {"any": {"thing": 1}}}),
    )
    .await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = apply("two", json!({"ports": [{"port": 2, "name": "y"}], "replicas": 1})).await;
    assert_eq!(code, 200, "{made}");
    assert_eq!(
        made["spec"]["ports"],
        json!([{"port": 1, "name": "x"}, {"port": 2, "name": "y"}])
    );
    let (code, refused) = apply("three", json!({"ports": [{"port": 1, "name": "z"}]})).await;
    assert_eq!(code, 409);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains(".spec.ports[port=1].name"),
        "{refused}"
    );
    let (_, made) = apply("one", json!({"open": {"any": {"thing": 1}}})).await;
    assert_eq!(made["spec"]["ports"], json!([{"port": 2, "name": "y"}]));
    let (code, refused) = apply("one", json!({"nope": 1})).await;
    assert_eq!(code, 500);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("field not declared in schema"),
        "{refused}"
    );
}

#[tokio::test]
async fn lists_watches_and_tables_know_the_kind() {
    let (_f, admin) = served().await;
    let mut events = admin.watch(&format!("{V1}?watch=true"), "application/json").await;
    for (name, image) in [("a", "one"), ("b", "two")] {
        assert_eq!(
            admin
                .post(V1, tab(name, "v1", json!({"image": image, "replicas": 3})))
                .await
                .0,
            201
        );
    }
    assert_eq!(events.line().await, "ADDED a");
    assert_eq!(events.line().await, "ADDED b");
    let (_, list) = admin.get(&format!("{V1}?fieldSelector=spec.image%3Dtwo")).await;
    assert_eq!(
        (list["kind"].as_str(), list["items"].as_array().unwrap().len()),
        (Some("CronTabList"), 1)
    );
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    assert_eq!(admin.get(&format!("{V1}?fieldSelector=spec.other%3Dtwo")).await.0, 400);
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (_, table) = admin.send(&format!("GET {V1}"), &[("accept", table)], "").await;
    assert_eq!(table["columnDefinitions"][1]["name"], "Replicas");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
    let (code, _) = admin
        .send(
            &format!("GET {V1}"),
            &[("accept", "application/vnd.kubernetes.protobuf")],
            "",
        )
        .await;
    assert_eq!(code, 406);
    // Changing the definition ends watches of the kind: their clients come again.
    let mut changed = definition(json!([version("v1", true, spec())]));
    changed["metadata"]["resourceVersion"] = admin.get(CRD).await.1["metadata"]["resourceVersion"].clone();
    changed["spec"]["names"]["categories"] = json!(["all"]);
    assert_eq!(admin.put(CRD, &changed).await.0, 200);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_new_schema_holds_at_once_also_for_what_is_stored() {
    let (_f, admin) = served().await;
    admin
        .post(V1, tab("old", "v1", json!({"replicas": 3, "hostPort": "h:1"})))
        .await;
    let mut schema = spec();
    assert_eq!(admin.get(&format!("{V1}?fieldSelector=spec.replicas%3D3")).await.0, 400);
    schema["properties"].as_object_mut().unwrap().remove("hostPort");
    schema["properties"]["added"] = json!({"type": "string", "default": "yes"});
    let mut changed = definition(json!([version("v1", true, schema)]));
    changed["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.replicas"}]);
    let (_, before) = admin.get(CRD).await;
    changed["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let mut events = admin.watch(&format!("{V1}?watch=true"), "application/json").await;
    events.line().await;
    let (code, body) = admin.put(CRD, &changed).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["metadata"]["generation"], 2);
    assert_eq!(events.next().await, None);
    let expected = json!({"image": "busybox", "replicas": 3, "added": "yes"});
    let (_, old) = admin.get(&format!("{V1}/old")).await;
    assert_eq!(old["spec"], expected);
    let (_, list) = admin.get(&format!("{V1}?fieldSelector=spec.replicas%3D3")).await;
    assert_eq!(list["items"][0]["spec"], expected);
    let (_, patched) = admin
        .patch(
            "merge-patch+json",
            &format!("{V1}/old"),
            json!({"spec": {"replicas": 4}}),
        )
        .await;
    assert_eq!(
        patched["spec"],
        json!({"image": "busybox", "replicas": 4, "added": "yes"})
    );
}

#[tokio::test]
async fn versions_without_conversion_differ_in_name_only() {
    let f = fixture().await;
    let admin = f.admin();
    let mut v1 = version("v1", false, spec());
    v1["deprecated"] = true.into();
    install(&admin, definition(json!([v1, version("v2", true, spec())]))).await;
    let (_, made) = admin.post(V1, tab("a", "v1", json!({"replicas": 1}))).await;
    assert_eq!(made["apiVersion"], "stable.example.com/v1");
    let (_, seen) = admin.get(&format!("{V2}/a")).await;
    assert_eq!(seen["apiVersion"], "stable.example.com/v2");
    let (_, list) = admin.get(V1).await;
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["spec"]["replicas"]),
        (&json!("stable.example.com/v1"), &json!(1))
    );
    let (_, group) = admin.get("/apis/stable.example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    // The storage version moves: both stay listed until somebody migrates.
    let (_, crd) = admin.get(CRD).await;
    assert_eq!(crd["status"]["storedVersions"], json!(["v2"]));
    let mut changed = crd.clone();
    changed["spec"]["versions"][0]["storage"] = true.into();
    changed["spec"]["versions"][1]["storage"] = false.into();
    let (code, body) = admin.put(CRD, &changed).await;
    assert_eq!(
        (code, &body["status"]["storedVersions"]),
        (200, &json!(["v2", "v1"])),
        "{body}"
    );
    until(&admin, "crontabs.stable.example.com", |e| {
        e["object"]["metadata"]["generation"] == 2
    })
    .await;
    let (_, seen) = admin.get(&format!("{V1}/a")).await;
    assert_eq!(
        (&seen["apiVersion"], &seen["spec"]["replicas"]),
        (&json!("stable.example.com/v1"), &json!(1))
    );
    // Migrated: written again, then struck from the list.
    let (code, _) = admin.put(&format!("{V1}/a"), &seen).await;
    assert_eq!(code, 200);
    let (code, body) = admin
        .patch(
            "merge-patch+json",
            &format!("{CRD}/status"),
            json!({"status": {"storedVersions": ["v1"]}}),
        )
        .await;
    assert_eq!(
        (code, &body["status"]["storedVersions"]),
        (200, &json!(["v1"])),
        "{body}"
    );
}

/// `hostPort: "h:1"` in v1 is `host: "h", port: "1"` in v2.
fn converted(request: &Value) -> Value {
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let objects: Vec<Value> = request["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let mut object = object.clone();
            let spec = object["spec"].as_object_mut().unwrap();
            if to.ends_with("/v2") {
                if let Some(joined) = spec.remove("hostPort") {
                    let (host, port) = joined.as_str().unwrap().split_once(':').unwrap();
                    spec.insert("host".into(), host.into());
                    spec.insert("port".into(), port.into());
                }
            } else if let (Some(host), Some(port)) = (spec.remove("host"), spec.remove("port")) {
                spec.insert(
                    "hostPort".into(),
                    format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap()).into(),
                );
            }
            object["apiVersion"] = to.into();
            object
        })
        .collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_converts_what_is_read_written_listed_and_watched() {
    let f = fixture().await;
    let admin = f.admin();
    let hook = WebhookServer::start(&["http/1.1"], |path, request| match path {
        "/convert" => converted(request),
        _ => json!({"result": {"status": "Failed", "message": "not today"}}),
    })
    .await;
    let second = json!({"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}, "image": {"type": "string"}}});
    let mut crd = definition(json!([version("v1", true, spec()), version("v2", false, second)]));
    crd["spec"]["versions"][1]["subresources"] = json!({"status": {}});
    crd["spec"]["versions"][1]["additionalPrinterColumns"] =
        json!([{"name": "Host", "type": "string", "jsonPath": ".spec.host"}]);
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.client("/convert")}});
    install(&admin, crd).await;
    let (code, made) = admin.post(V1, tab("a", "v1", json!({"hostPort": "h:1"}))).await;
    assert_eq!(code, 201, "{made}");
    assert!(hook.take().is_empty());
    let (_, seen) = admin.get(&format!("{V2}/a")).await;
    assert_eq!(
        seen["spec"],
        json!({"host": "h", "port": "1", "image": "busybox"}),
        "{seen}"
    );
    assert_eq!(seen["metadata"]["uid"], made["metadata"]["uid"]);
    let (code, made) = admin.post(V2, tab("b", "v2", json!({"host": "i", "port": "2"}))).await;
    assert_eq!((code, &made["spec"]["host"]), (201, &json!("i")), "{made}");
    let (_, list) = admin.get(V1).await;
    let ports: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["spec"]["hostPort"])
        .collect();
    assert_eq!(ports, ["h:1", "i:2"]);
    let (code, patched) = admin
        .patch("merge-patch+json", &format!("{V2}/a"), json!({"spec": {"port": "9"}}))
        .await;
    assert_eq!((code, &patched["spec"]["port"]), (200, &json!("9")), "{patched}");
    assert_eq!(admin.get(&format!("{V1}/a")).await.1["spec"]["hostPort"], "h:9");
    let mut events = admin.watch(&format!("{V2}?watch=true"), "application/json").await;
    assert_eq!(events.next().await.unwrap()["object"]["spec"]["host"], "h");
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (_, table) = admin.send(&format!("GET {V2}"), &[("accept", table)], "").await;
    assert_eq!(table["rows"][0]["cells"], json!(["a", "h"]));
    // A webhook that fails is told of.
    let (_, crd) = admin.get(CRD).await;
    let mut broken = crd.clone();
    broken["spec"]["conversion"]["webhook"]["clientConfig"] = hook.client("/fail");
    assert_eq!(admin.put(CRD, &broken).await.0, 200);
    until(&admin, "crontabs.stable.example.com", |e| {
        e["object"]["metadata"]["generation"] == 2
    })
    .await;
    events.line().await;
    assert_eq!(events.next().await, None);
    let (code, refused) = admin.get(&format!("{V2}/a")).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            500,
            "conversion webhook for stable.example.com/v1, Kind=CronTab failed: not today"
        )
    );
    assert_eq!(admin.get(&format!("{V1}/a")).await.0, 200);
}

#[tokio::test]
async fn the_second_of_a_name_waits_for_the_first() {
    let (_f, admin) = served().await;
    let mut second = definition(json!([version("v1", true, spec())]));
    second["metadata"]["name"] = "others.stable.example.com".into();
    second["spec"]["names"] =
        json!({"plural": "others", "singular": "other", "kind": "CronTab", "listKind": "OtherList"});
    assert_eq!(admin.post(CRDS, second).await.0, 201);
    let refused = until(&admin, "others.stable.example.com", |e| {
        condition(e, "NamesAccepted")["status"] == "False"
    })
    .await;
    let told: Vec<(&str, &str)> = refused["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["reason"].as_str().unwrap(), c["message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("KindConflict", "\"CronTab\" is already in use"),
            ("NotAccepted", "not all names are accepted")
        ]
    );
    assert_eq!(admin.get("/apis/stable.example.com/v1/others").await.0, 404);
    assert_eq!(admin.delete(CRD, json!({})).await.0, 200);
    until(&admin, "others.stable.example.com", |e| {
        condition(e, "Established")["status"] == "True"
    })
    .await;
    assert_eq!(admin.get("/apis/stable.example.com/v1/others").await.0, 200);
}

#[tokio::test]
async fn objects_go_before_their_definition() {
    let (_f, admin) = served().await;
    let mut held = tab("held", "v1", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    admin.post(V1, held).await;
    admin.post(V1, tab("free", "v1", json!({}))).await;
    let mut watch = admin
        .watch(
            &format!("{CRDS}?watch=true&fieldSelector=metadata.name=crontabs.stable.example.com"),
            "application/json",
        )
        .await;
    watch.line().await;
    let (code, answer) = admin.delete(CRD, json!({})).await;
    assert_eq!(code, 200);
    assert_eq!(
        answer["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"]),
        "{answer}"
    );
    let told = loop {
        let event = watch.next().await.unwrap();
        if condition(&event, "Terminating")["reason"] == "InstanceDeletionInProgress" {
            break event;
        }
    };
    assert!(told["object"]["metadata"]["deletionTimestamp"].is_string());
    let (code, refused) = admin.post(V1, tab("late", "v1", json!({}))).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            405,
            "create not allowed while custom resource definition is terminating"
        )
    );
    let (code, _) = admin
        .patch(
            "merge-patch+json",
            &format!("{V1}/held"),
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(code, 200);
    loop {
        let event = watch.next().await.unwrap();
        if event["type"] == "DELETED" {
            break;
        }
    }
    // The same name may come again, with nothing of what was.
    install(&admin, definition(json!([version("v1", true, spec())]))).await;
    let (_, list) = admin.get(V1).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_restarted_server_serves_what_was_defined() {
    let store: Arc<dyn skiff_store::Store> = Arc::new(skiff_store::MemoryStore::new());
    let f = fixture_over(store.clone()).await;
    let admin = f.admin();
    install(&admin, definition(json!([version("v1", true, spec())]))).await;
    admin.post(V1, tab("a", "v1", json!({}))).await;
    drop(f);
    let f = fixture_over(store).await;
    let (code, seen) = f.admin().get(&format!("{V1}/a")).await;
    assert_eq!((code, &seen["spec"]["image"]), (200, &json!("busybox")));
}

#[tokio::test]
async fn bad_definitions_are_refused() {
    let f = fixture().await;
    let admin = f.admin();
    let mut crd = definition(json!([version(
        "v1",
        true,
        json!({"properties": {"image": {"type": "string"}}})
    )]));
    crd["spec"]["versions"][0]["subresources"] = json!({});
    let (code, refused) = admin.post(CRDS, crd).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            422,
            "CustomResourceDefinition.apiextensions.k8s.io \"crontabs.stable.example.com\" is invalid: spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
        )
    );
}

/// How long many definitions take is printed for comparison over time.
#[tokio::test]
async fn many_definitions_are_installed_quickly() {
    let f = fixture().await;
    let admin = f.admin();
    let begin = std::time::Instant::now();
    for n in 0..200 {
        let mut crd = definition(json!([version("v1", true, spec())]));
        crd["metadata"]["name"] = format!("tabs{n}.stable.example.com").into();
        crd["spec"]["names"] = json!({"plural": format!("tabs{n}"), "singular": format!("tab{n}"), "kind": format!("Tab{n}"), "listKind": format!("Tab{n}List")});
        assert_eq!(admin.post(CRDS, crd).await.0, 201);
    }
    until(&admin, "tabs199.stable.example.com", |e| {
        condition(e, "Established")["status"] == "True"
    })
    .await;
    let took = begin.elapsed();
    println!("200 definitions in {took:?}");
    assert_eq!(admin.get("/apis/stable.example.com/v1/tabs199").await.0, 200);
}

#[tokio::test]
async fn kube_clients_find_and_follow_the_kind() {
    use futures::{StreamExt, TryStreamExt};
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
    use kube::core::GroupVersionKind;
    use kube::runtime::wait::{await_condition, conditions};
    use kube::runtime::{WatchStreamExt, watcher};
    let f = fixture().await;
    let client = f.kube();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = serde_json::from_value(definition(json!([version("v1", true, spec())]))).unwrap();
    definitions.create(&PostParams::default(), &crd).await.unwrap();
    let name = "crontabs.stable.example.com";
    await_condition(definitions, name, conditions::is_crd_established())
        .await
        .unwrap();
    let gvk = GroupVersionKind::gvk("stable.example.com", "v1", "CronTab");
    let (resource, capabilities) = kube::discovery::pinned_kind(&client, &gvk).await.unwrap();
    assert!(capabilities.supports_operation("patch"));
    let tabs: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    let mut seen = watcher(tabs.clone(), watcher::Config::default().streaming_lists())
        .applied_objects()
        .boxed();
    let made: DynamicObject = serde_json::from_value(tab("a", "v1", json!({"replicas": 1}))).unwrap();
    tabs.create(&PostParams::default(), &made).await.unwrap();
    let object = seen.try_next().await.unwrap().unwrap();
    assert_eq!(
        (object.metadata.name.as_deref(), &object.data["spec"]["image"]),
        (Some("a"), &json!("busybox"))
    );
    let status = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "status": {"replicas": 1}});
    let params = PatchParams::apply("controller");
    tabs.patch_status("a", &params, &Patch::Apply(&status)).await.unwrap();
    let object = seen.try_next().await.unwrap().unwrap();
    assert_eq!(object.data["status"]["replicas"], 1);
}
