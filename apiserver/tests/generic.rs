//! The generic verbs through the real handler: what clients branch on.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{config_map, fixture};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn create_get_update_conflict_and_delete() {
    let admin = fixture().await.admin();
    let (code, made) = admin.post(MAPS, config_map("a", json!({"x": "1"}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].as_str().unwrap().len() == 36);
    let (code, again) = admin.post(MAPS, config_map("a", json!({}))).await;
    assert_eq!(
        (code, again["reason"].as_str(), again["message"].as_str()),
        (409, Some("AlreadyExists"), Some("configmaps \"a\" already exists"))
    );

    // An update that changes nothing writes nothing.
    let path = format!("{MAPS}/a");
    let (code, same) = admin.put(&path, &made).await;
    assert_eq!(
        (code, &same["metadata"]["resourceVersion"]),
        (200, &made["metadata"]["resourceVersion"])
    );
    let mut changed = made.clone();
    changed["data"]["k"] = "w".into();
    let (code, updated) = admin.put(&path, &changed).await;
    assert_eq!((code, updated["data"]["k"].as_str()), (200, Some("w")));
    assert_eq!(updated["metadata"]["uid"], made["metadata"]["uid"]);
    let (code, stale) = admin.put(&path, &changed).await;
    assert_eq!((code, stale["reason"].as_str()), (409, Some("Conflict")));
    assert!(
        stale["message"]
            .as_str()
            .unwrap()
            .contains("the object has been modified"),
        "{stale}"
    );
    // Without a resourceVersion the last writer wins.
    let mut unconditional = made.clone();
    unconditional["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    assert_eq!(admin.put(&path, &unconditional).await.0, 200);

    let (code, gone) = admin.delete(&path, json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!((code, gone["reason"].as_str()), (409, Some("Conflict")));
    let (code, gone) = admin.delete(&path, json!({})).await;
    assert_eq!(
        (code, gone["status"].as_str(), gone["details"]["uid"].as_str()),
        (200, Some("Success"), made["metadata"]["uid"].as_str())
    );
    let (code, missing) = admin.get(&path).await;
    assert_eq!(
        (code, missing["message"].as_str()),
        (404, Some("configmaps \"a\" not found"))
    );
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_status() {
    let admin = fixture().await.admin();
    let cases = [
        (
            "POST",
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Bad_Name"}}),
            422,
            "Invalid",
        ),
        (
            "POST",
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
            422,
            "Invalid",
        ),
        (
            "POST",
            MAPS,
            json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}}),
            400,
            "BadRequest",
        ),
        (
            "POST",
            MAPS,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}),
            400,
            "BadRequest",
        ),
        (
            "POST",
            MAPS,
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "BadRequest",
        ),
        (
            "POST",
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"k": 5}}),
            400,
            "BadRequest",
        ),
        (
            "POST",
            "/api/v1/namespaces/nope/configmaps",
            json!({"metadata": {"name": "a"}}),
            404,
            "NotFound",
        ),
        ("GET", "/api/v1/nonsense", json!({}), 404, "NotFound"),
        ("GET", "/apis/apps/v9/deployments", json!({}), 404, "NotFound"),
        (
            "GET",
            "/api/v1/configmaps?fieldSelector=spec.x%3D1",
            json!({}),
            400,
            "BadRequest",
        ),
        (
            "GET",
            "/api/v1/configmaps?labelSelector=a%20b%20c",
            json!({}),
            400,
            "BadRequest",
        ),
        (
            "GET",
            "/api/v1/configmaps?continue=garbage",
            json!({}),
            400,
            "BadRequest",
        ),
        ("PUT", "/api/v1/configmaps", json!({}), 405, "MethodNotAllowed"),
    ];
    for (method, path, body, code, reason) in cases {
        let (got, status) = admin
            .send(
                &format!("{method} {path}"),
                &[("content-type", "application/json")],
                body.to_string(),
            )
            .await;
        assert_eq!(
            (got, status["reason"].as_str(), status["kind"].as_str()),
            (code, Some(reason), Some("Status")),
            "{method} {path} {body}: {status}"
        );
    }
    let (code, status) = admin
        .send(&format!("POST {MAPS}"), &[("content-type", "text/html")], "x")
        .await;
    assert_eq!((code, status["reason"].as_str()), (415, Some("UnsupportedMediaType")));
    let (code, _) = admin
        .send(&format!("POST {MAPS}"), &[("content-type", "application/json")], "{")
        .await;
    assert_eq!(code, 400);
    let (code, status) = admin.send(&format!("GET {MAPS}"), &[("accept", "text/html")], "").await;
    assert_eq!((code, status["reason"].as_str()), (406, Some("NotAcceptable")));
    let (code, _) = admin
        .send(
            &format!("POST {MAPS}"),
            &[("content-type", "application/json")],
            vec![b' '; 4 << 20],
        )
        .await;
    assert_eq!(code, 413);
}

#[tokio::test]
async fn patches_of_every_kind() {
    let admin = fixture().await.admin();
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}}});
    let (code, made) = admin
        .post("/apis/apps/v1/namespaces/default/deployments", deployment)
        .await;
    assert_eq!(
        (code, made["metadata"]["generation"].as_i64()),
        (201, Some(1)),
        "{made}"
    );
    assert_eq!(made["spec"]["replicas"], 1);
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}});
    let (code, patched) = admin.patch("strategic-merge-patch+json", path, strategic).await;
    assert_eq!(code, 200, "{patched}");
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        (&containers[0]["image"], &containers[1]["image"]),
        (&json!("a:1"), &json!("b:2"))
    );
    assert_eq!(patched["metadata"]["generation"], 2);
    let (code, patched) = admin
        .patch(
            "json-patch+json",
            path,
            json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]),
        )
        .await;
    assert_eq!((code, patched["spec"]["replicas"].as_i64()), (200, Some(4)));
    let (code, patched) = admin
        .patch("merge-patch+json", path, json!({"metadata": {"labels": {"l": "m"}}}))
        .await;
    assert_eq!(
        (
            code,
            patched["metadata"]["labels"]["l"].as_str(),
            patched["metadata"]["generation"].as_i64()
        ),
        (200, Some("m"), Some(3))
    );
    let (code, _) = admin
        .patch("merge-patch+json", path, json!({"metadata": {"resourceVersion": "1"}}))
        .await;
    assert_eq!(code, 409);
    // The main resource does not write status, and status does not write spec.
    let status = json!({"spec": {"replicas": 9}, "status": {"replicas": 4, "observedGeneration": 3}});
    let (code, patched) = admin.patch("merge-patch+json", &format!("{path}/status"), status).await;
    assert_eq!(
        (
            code,
            patched["spec"]["replicas"].as_i64(),
            patched["status"]["replicas"].as_i64()
        ),
        (200, Some(4), Some(4))
    );
    let (_, patched) = admin
        .patch("merge-patch+json", path, json!({"status": {"replicas": 7}}))
        .await;
    assert_eq!(patched["status"]["replicas"], 4);
    let (code, scale) = admin.get(&format!("{path}/scale")).await;
    assert_eq!(
        (
            code,
            scale["spec"]["replicas"].as_i64(),
            scale["status"]["selector"].as_str()
        ),
        (200, Some(4), Some("app=web"))
    );
    let (code, scale) = admin
        .patch(
            "merge-patch+json",
            &format!("{path}/scale"),
            json!({"spec": {"replicas": 2}}),
        )
        .await;
    assert_eq!((code, scale["spec"]["replicas"].as_i64()), (200, Some(2)));
    assert_eq!(admin.get(path).await.1["spec"]["replicas"], 2);
}

#[tokio::test]
async fn generated_names_dry_runs_and_strict_fields() {
    let admin = fixture().await.admin();
    let (code, made) = admin.post(MAPS, json!({"metadata": {"generateName": "g-"}})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["name"].as_str().unwrap().len(), 7);
    let (code, _) = admin
        .post(&format!("{MAPS}?dryRun=All"), config_map("dry", json!({})))
        .await;
    assert_eq!(code, 201);
    assert_eq!(admin.get(&format!("{MAPS}/dry")).await.0, 404);
    let odd = json!({"metadata": {"name": "odd"}, "dta": {"k": "v"}});
    let (code, status) = admin.post(&format!("{MAPS}?fieldValidation=Strict"), odd.clone()).await;
    assert_eq!(code, 400);
    assert!(
        status["message"].as_str().unwrap().contains("unknown field \"dta\""),
        "{status}"
    );
    let (code, made) = admin.post(MAPS, odd).await;
    assert_eq!((code, made.get("dta")), (201, None));
}

#[tokio::test]
async fn lists_page_select_and_convert() {
    let admin = fixture().await.admin();
    for i in 0..5 {
        admin
            .post(
                MAPS,
                config_map(&format!("m{i}"), json!({"even": (i % 2 == 0).to_string()})),
            )
            .await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap().to_string())
            .collect()
    };
    let (_, page) = admin.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(
        (names(&page), page["metadata"]["remainingItemCount"].as_i64()),
        (vec!["m0".into(), "m1".into()], Some(3))
    );
    // The second page shows the state of the first, whatever happened meanwhile.
    admin.delete(&format!("{MAPS}/m3"), json!({})).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = admin.get(&format!("{MAPS}?limit=9&continue={token}")).await;
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    assert!(rest["items"][0].get("kind").is_none());
    let (_, selected) = admin.get(&format!("{MAPS}?labelSelector=even%3Dtrue&limit=2")).await;
    assert_eq!(names(&selected), ["m0", "m2"]);
    assert!(selected["metadata"].get("remainingItemCount").is_none() && selected["metadata"]["continue"].is_string());
    let (_, one) = admin.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm4").await;
    assert_eq!(names(&one), ["m4"]);
    let (_, table) = admin
        .send(
            &format!("GET {MAPS}"),
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            "",
        )
        .await;
    assert_eq!(
        (table["kind"].as_str(), table["rows"].as_array().unwrap().len()),
        (Some("Table"), 4)
    );
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (_, partial) = admin.send(&format!("GET {MAPS}"), &[("accept", accept)], "").await;
    assert_eq!(
        (partial["kind"].as_str(), partial["items"][0].get("data")),
        (Some("PartialObjectMetadataList"), None)
    );
    let (code, early) = admin.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!((code, early["reason"].as_str()), (504, Some("Timeout")));
}

#[tokio::test]
async fn finalizers_hold_and_collections_go() {
    let admin = fixture().await.admin();
    let mut held = config_map("held", json!({"a": "b"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(MAPS, held).await;
    admin.post(MAPS, config_map("free", json!({"a": "b"}))).await;
    let (code, _) = admin.delete(&format!("{MAPS}?labelSelector=a%3Db"), json!({})).await;
    assert_eq!(code, 200);
    assert_eq!(admin.get(&format!("{MAPS}/free")).await.0, 404);
    let (_, waiting) = admin.get(&format!("{MAPS}/held")).await;
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    let (code, _) = admin
        .patch(
            "merge-patch+json",
            &format!("{MAPS}/held"),
            json!({"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}}),
        )
        .await;
    assert_eq!(code, 422);
    let (code, _) = admin
        .patch(
            "merge-patch+json",
            &format!("{MAPS}/held"),
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(code, 200);
    assert_eq!(admin.get(&format!("{MAPS}/held")).await.0, 404);
}

#[tokio::test]
async fn namespaces_wait_for_their_finalizer() {
    let admin = fixture().await.admin();
    let (code, made) = admin
        .post("/api/v1/namespaces", json!({"metadata": {"name": "n"}}))
        .await;
    assert_eq!(
        (code, &made["spec"]["finalizers"], made["status"]["phase"].as_str()),
        (201, &json!(["kubernetes"]), Some("Active")),
        "{made}"
    );
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let (code, going) = admin.delete("/api/v1/namespaces/n", json!({})).await;
    assert_eq!(
        (code, going["status"]["phase"].as_str()),
        (200, Some("Terminating")),
        "{going}"
    );
    let (code, refused) = admin
        .post("/api/v1/namespaces/n/configmaps", config_map("late", json!({})))
        .await;
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")));
    let mut finalized = going.clone();
    finalized["spec"]["finalizers"] = json!([]);
    let (code, answer) = admin.put("/api/v1/namespaces/n/finalize", &finalized).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(admin.get("/api/v1/namespaces/n").await.0, 404);
}

/// A body in the answer to HEAD is a protocol error of HTTP/2.
#[tokio::test]
async fn head_has_no_body() {
    let admin = fixture().await.admin();
    let (code, body) = admin.send("HEAD /healthz", &[], "").await;
    assert_eq!((code, body), (200, Value::String(String::new())));
    // Upstream's router has GET of an object, and no HEAD.
    let (code, body) = admin.send("HEAD /api/v1/namespaces/default", &[], "").await;
    assert_eq!((code, body), (405, Value::String(String::new())));
    let (code, status) = admin.send("OPTIONS /api/v1/pods", &[], "").await;
    assert_eq!((code, status["reason"].as_str()), (405, Some("MethodNotAllowed")));
}
