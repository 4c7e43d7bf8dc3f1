//! Watches through the real handler.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{config_map, fixture};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

#[tokio::test]
async fn objects_enter_change_and_leave_a_selector() {
    let admin = fixture().await.admin();
    admin.post(MAPS, config_map("before", json!({"see": "me"}))).await;
    admin.post(MAPS, config_map("unseen", json!({}))).await;
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&labelSelector=see%3Dme"), JSON)
        .await;
    assert_eq!(events.line().await, "ADDED before");
    admin
        .patch(
            "merge-patch+json",
            &format!("{MAPS}/unseen"),
            json!({"metadata": {"labels": {"see": "me"}}}),
        )
        .await;
    assert_eq!(events.line().await, "ADDED unseen");
    admin
        .patch(
            "merge-patch+json",
            &format!("{MAPS}/unseen"),
            json!({"data": {"x": "y"}}),
        )
        .await;
    assert_eq!(events.line().await, "MODIFIED unseen");
    let (_, after) = admin
        .patch(
            "merge-patch+json",
            &format!("{MAPS}/unseen"),
            json!({"metadata": {"labels": {"see": null}}}),
        )
        .await;
    // It leaves with its old labels and the new revision.
    let left = events.next().await.unwrap();
    assert_eq!(
        (
            left["type"].as_str(),
            left["object"]["metadata"]["labels"]["see"].as_str()
        ),
        (Some("DELETED"), Some("me"))
    );
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    admin.delete(&format!("{MAPS}/before"), json!({})).await;
    let deleted = events.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert!(
        deleted["object"]["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 1
    );
}

#[tokio::test]
async fn a_watch_resumes_where_a_list_ended() {
    let admin = fixture().await.admin();
    admin.post(MAPS, config_map("a", json!({}))).await;
    let (_, list) = admin.get(MAPS).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    admin.post(MAPS, config_map("b", json!({}))).await;
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"), JSON)
        .await;
    assert_eq!(events.line().await, "ADDED b");
    let mut one = admin
        .watch(
            &format!("{MAPS}?watch=1&resourceVersion={revision}&fieldSelector=metadata.name%3Da"),
            JSON,
        )
        .await;
    admin.delete(&format!("{MAPS}/b"), json!({})).await;
    admin.delete(&format!("{MAPS}/a"), json!({})).await;
    assert_eq!(one.line().await, "DELETED a");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_and_the_timeout_ends_the_watch() {
    let admin = fixture().await.admin();
    admin.post(MAPS, config_map("a", json!({}))).await;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    );
    let mut events = admin.watch(&path, JSON).await;
    assert_eq!(events.line().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(events.next().await.unwrap()["type"], "BOOKMARK");
    assert!(events.next().await.is_none());
    let (code, _) = admin.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn tables_come_with_columns_once() {
    let admin = fixture().await.admin();
    admin.post(MAPS, config_map("a", json!({}))).await;
    admin.post(MAPS, config_map("b", json!({}))).await;
    let mut events = admin
        .watch(
            &format!("{MAPS}?watch=1"),
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        )
        .await;
    let first = events.next().await.unwrap();
    assert!(first["object"]["columnDefinitions"].is_array());
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(events.next().await.unwrap()["object"]["columnDefinitions"].is_null());
}
