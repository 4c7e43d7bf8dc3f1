//! Lists and watches that reach back: pages over a snapshot, what compaction
//! leaves of them, and revisions that are still to come.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Caller, Fixture, config_map, fixture};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn five(fixture: &Fixture) -> Caller {
    let admin = fixture.admin();
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(admin.post(MAPS, config_map(name, json!({}))).await.0, 201);
    }
    admin
}

fn names(list: &serde_json::Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_are_of_one_snapshot_until_it_is_compacted() {
    let fixture = fixture().await;
    let admin = five(&fixture).await;
    let (_, first) = admin.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(3))
    );
    let old = first["metadata"]["resourceVersion"].as_str().unwrap().to_string();
    let token = first["metadata"]["continue"].as_str().unwrap().to_string();
    admin.delete(&format!("{MAPS}/c"), json!({})).await;
    admin.post(MAPS, config_map("f", json!({}))).await;
    let (_, second) = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(
        (names(&second), second["metadata"]["resourceVersion"].as_str()),
        (vec!["c", "d"], Some(old.as_str()))
    );
    let (_, exact) = admin
        .get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact"))
        .await;
    assert_eq!(names(&exact).len(), 5);

    let now = fixture.store.snapshot().revision();
    fixture.store.compact(now).await.unwrap();
    let (code, gone) = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(
        (code, gone["reason"].as_str(), &gone["details"]),
        (410, Some("Expired"), &json!(null)),
        "{gone}"
    );
    let text = gone["message"].as_str().unwrap();
    assert!(
        text.starts_with("The provided continue parameter is too old to display a consistent list result."),
        "{text}"
    );
    // The rest may still be had, as it is now.
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&rest), ["d", "e"]);
    let token = rest["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((names(&rest), &rest["metadata"]["continue"]), (vec!["f"], &json!(null)));
    for query in ["&resourceVersionMatch=Exact", "&limit=1"] {
        let (code, gone) = admin.get(&format!("{MAPS}?resourceVersion={old}{query}")).await;
        let text = "The resourceVersion for the provided list is too old.";
        assert_eq!((code, gone["message"].as_str()), (410, Some(text)), "{query}");
    }
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion={old}"), "application/json")
        .await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), &event["object"]["code"]),
        (Some("ERROR"), &json!(410)),
        "{event}"
    );
    let text = event["object"]["message"].as_str().unwrap();
    assert!(
        text.starts_with(&format!("too old resource version: {old} (")),
        "{text}"
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_watch_waits_for_a_revision_that_is_to_come() {
    let fixture = fixture().await;
    let admin = five(&fixture).await;
    let now = fixture.store.snapshot().revision();
    let mut events = admin
        .watch(
            &format!("{MAPS}?watch=1&resourceVersion={}", now + 1),
            "application/json",
        )
        .await;
    for name in ["f", "g"] {
        admin.post(MAPS, config_map(name, json!({}))).await;
    }
    assert_eq!(events.line().await, "ADDED g");
}

#[tokio::test]
async fn owners_are_named_once() {
    let admin = fixture().await.admin();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"});
    let mut object = config_map("a", json!({}));
    object["metadata"]["ownerReferences"] = json!([owner, owner]);
    let (code, made) = admin.post(MAPS, object).await;
    assert_eq!((code, &made["metadata"]["ownerReferences"]), (201, &json!([owner])));
}
