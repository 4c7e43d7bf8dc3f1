//! What updates and patches may not do, word for word.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Caller, config_map, fixture};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn made(admin: &Caller, name: &str) -> Value {
    let (code, object) = admin.post(MAPS, config_map(name, json!({}))).await;
    assert_eq!(code, 201, "{object}");
    object
}

#[tokio::test]
async fn updates_are_refused_in_upstream_s_words() {
    let admin = fixture().await.admin();
    let object = made(&admin, "a").await;
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let key = "Key: /registry/configmaps/default";
    let with = |name: &str, metadata: Value| {
        let mut object = config_map(name, json!({}));
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        object
    };
    let cases = [
        (
            "a",
            with("b", json!({})),
            400,
            "the name of the object (b) does not match the name on the URL (a)".to_string(),
        ),
        (
            "a",
            with("", json!({})),
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided".into(),
        ),
        (
            "a",
            with("a", json!({"namespace": "other"})),
            400,
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ),
        (
            "a",
            with("a", json!({"uid": "x", "resourceVersion": "1"})),
            409,
            format!(
                "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, {key}/a, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: {uid}"
            ),
        ),
        (
            "gone",
            with("gone", json!({"uid": "x"})),
            409,
            format!(
                "Operation cannot be fulfilled on configmaps \"gone\": StorageError: invalid object, Code: 4, {key}/gone, \
                 ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: "
            ),
        ),
        ("gone", with("gone", json!({})), 404, "configmaps \"gone\" not found".into()),
        (
            "a",
            with("a", json!({"resourceVersion": "1"})),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest \
             version and try again"
                .into(),
        ),
        (
            "a",
            with("a", json!({"deletionGracePeriodSeconds": 5})),
            422,
            "ConfigMap \"a\" is invalid: metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable".into(),
        ),
    ];
    for (path, object, code, message) in cases {
        let (got, status) = admin.put(&format!("{MAPS}/{path}"), &object).await;
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message.as_str())),
            "{object}"
        );
    }
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    // The first update makes it, the second must say what it updates.
    assert_eq!(admin.put(&format!("{leases}/l"), &lease).await.0, 201);
    let (code, status) = admin.put(&format!("{leases}/l"), &lease).await;
    let text = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
    assert_eq!((code, status["message"].as_str()), (422, Some(text)));
}

#[tokio::test]
async fn patches_are_refused_in_upstream_s_words() {
    let admin = fixture().await.admin();
    made(&admin, "a").await;
    let cases = [
        (
            json!({"metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            json!({"metadata": {"namespace": "b"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"metadata": {"uid": "b"}}),
            422,
            "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"b\": field is immutable",
        ),
    ];
    for (patch, code, message) in cases {
        let (got, status) = admin
            .patch("merge-patch+json", &format!("{MAPS}/a"), patch.clone())
            .await;
        assert_eq!((got, status["message"].as_str()), (code, Some(message)), "{patch}");
    }
    let (code, status) = admin
        .patch("merge-patch+json", &format!("{MAPS}/a"), json!({"data": 3}))
        .await;
    let text = status["message"].as_str().unwrap();
    assert_eq!(
        (code, status["details"]["causes"][0]["field"].as_str()),
        (422, Some("patch")),
        "{status}"
    );
    assert!(
        text.starts_with(" \"\" is invalid: patch: Invalid value: \"{"),
        "{text}"
    );
    let (code, status) = admin
        .patch(
            "strategic-merge-patch+json",
            &format!("{MAPS}/a?fieldValidation=Strict"),
            json!({"nonsense": 3}),
        )
        .await;
    let text = status["message"].as_str().unwrap();
    assert_eq!(code, 422, "{status}");
    assert!(
        text.ends_with("strict decoding error: unknown field \"nonsense\""),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_going_gets_no_new_finalizers_and_keeps_its_name() {
    let admin = fixture().await.admin();
    let mut object = config_map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/one"]);
    admin.post(MAPS, object).await;
    assert_eq!(admin.delete(&format!("{MAPS}/a"), json!({})).await.0, 200);
    let patch = json!({"metadata": {"finalizers": ["example.com/one", "example.com/two"]}});
    let (code, status) = admin.patch("merge-patch+json", &format!("{MAPS}/a"), patch).await;
    let text = "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
                found new finalizers []string{\"example.com/two\"}";
    assert_eq!((code, status["message"].as_str()), (422, Some(text)));
    let (code, status) = admin.post(MAPS, config_map("a", json!({}))).await;
    let text = "object is being deleted: configmaps \"a\" already exists";
    assert_eq!((code, status["message"].as_str()), (409, Some(text)));
    // The deletion itself cannot be taken back, and trying is no error.
    let patch = json!({"metadata": {"deletionTimestamp": null, "labels": {"x": "y"}}});
    let (code, object) = admin.patch("merge-patch+json", &format!("{MAPS}/a"), patch).await;
    assert_eq!(code, 200, "{object}");
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    let patch = json!({"metadata": {"finalizers": null}});
    assert_eq!(
        admin.patch("merge-patch+json", &format!("{MAPS}/a"), patch).await.0,
        200
    );
    assert_eq!(admin.get(&format!("{MAPS}/a")).await.0, 404);
}

#[tokio::test]
async fn deletions_are_refused_and_answered_as_upstream() {
    let admin = fixture().await.admin();
    let object = made(&admin, "a").await;
    let (uid, version) = (
        object["metadata"]["uid"].as_str().unwrap(),
        object["metadata"]["resourceVersion"].as_str().unwrap(),
    );
    let invalid = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: ";
    let both =
        format!("{invalid}Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set");
    let cases = [
        (
            "?propagationPolicy=Orphan&orphanDependents=true",
            json!(null),
            422,
            both.clone(),
        ),
        (
            "",
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            422,
            both,
        ),
        (
            "?gracePeriodSeconds=x",
            json!(null),
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax".into(),
        ),
        (
            "",
            json!({"preconditions": {"uid": "x"}}),
            409,
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match the UID in record ({uid}). \
                 The object might have been deleted and then recreated"
            ),
        ),
        (
            "",
            json!({"preconditions": {"resourceVersion": "1"}}),
            409,
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match the \
                 ResourceVersion in record ({version}). The object might have been modified"
            ),
        ),
    ];
    for (query, body, code, message) in cases {
        let line = format!("DELETE {MAPS}/a{query}");
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (got, status) = admin.send(&line, &[("content-type", "application/json")], text).await;
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message.as_str())),
            "{line} {body}"
        );
    }
    // The query counts only where there is no body; clients send the options in their group's version.
    let options = json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "propagationPolicy": "Background"});
    let (code, status) = admin
        .delete(&format!("{MAPS}/a?propagationPolicy=Orphan&dryRun=All"), options)
        .await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")), "{status}");
    assert_eq!(
        status["details"],
        json!({"name": "a", "kind": "configmaps", "uid": uid})
    );
    assert_eq!(admin.get(&format!("{MAPS}/a")).await.0, 404);
}

#[tokio::test]
async fn collections_go_at_once_and_are_answered_as_they_were() {
    let admin = fixture().await.admin();
    for i in 0..100 {
        let mut object = config_map(&format!("m{i}"), json!({"odd": (i % 2).to_string()}));
        if i == 1 {
            object["metadata"]["finalizers"] = json!(["example.com/one"]);
        }
        assert_eq!(admin.post(MAPS, object).await.0, 201);
    }
    let line = format!("DELETE {MAPS}?labelSelector=odd%3D1");
    let (code, list) = admin.send(&format!("{line}&dryRun=All"), &[], "").await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 50));
    let (code, list) = admin.send(&line, &[], "").await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 50));
    assert_eq!(list["kind"], "ConfigMapList");
    for item in list["items"].as_array().unwrap() {
        assert!(item["metadata"]["deletionTimestamp"].is_null(), "{item}");
    }
    let (_, left) = admin.get(&format!("{MAPS}?labelSelector=odd%3D1")).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert!(left["items"][0]["metadata"]["deletionTimestamp"].is_string());
    let (_, left) = admin.get(MAPS).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 51);
}
