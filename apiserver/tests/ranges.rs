//! Ranges of service addresses at run time: ready, taken from, and held while in use.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Caller, fixture};

const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Waits until the range is as asked; every look is after a change of it.
async fn until(admin: &Caller, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{RANGES}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=20");
    let mut events = admin.watch(&path, "application/json").await;
    let mut last = Value::Null;
    while let Some(event) = events.next().await {
        if fits(&event) {
            return event;
        }
        last = event;
    }
    panic!("{name} did not become what was awaited: {last}");
}

fn ready(event: &Value) -> (&str, &str) {
    let condition = &event["object"]["status"]["conditions"][0];
    let text = |key: &str| condition[key].as_str().unwrap_or("");
    (text("status"), text("reason"))
}

#[tokio::test]
async fn ranges_can_be_added_and_go_when_unused() {
    let admin = fixture().await.admin();
    let default = until(&admin, "kubernetes", |e| ready(e).0 == "True").await;
    assert_eq!(
        default["object"]["status"]["conditions"][0]["message"],
        "Kubernetes default Service CIDR is ready"
    );
    let (code, _) = admin
        .post(
            RANGES,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/28"]}}),
        )
        .await;
    assert_eq!(code, 201);
    until(&admin, "more", |e| ready(e).0 == "True").await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.200.0.3", "ports": [{"port": 80}]}});
    let (code, made) = admin.post(SERVICES, service).await;
    assert_eq!(
        (code, made["spec"]["clusterIP"].as_str()),
        (201, Some("10.200.0.3")),
        "{made}"
    );
    let path = format!("{RANGES}/more");
    admin.delete(&path, json!({})).await;
    let held = until(&admin, "more", |e| ready(e) == ("False", "Terminating")).await;
    assert_eq!(
        held["object"]["metadata"]["finalizers"],
        json!(["networking.k8s.io/service-cidr-finalizer"])
    );
    let other = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": "10.200.0.4", "ports": [{"port": 80}]}});
    let (code, refused) = admin.post(SERVICES, other).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Service \"t\" is invalid: spec.clusterIPs: Invalid value: [\"10.200.0.4\"]: failed to allocate IP 10.200.0.4: the provided network does not match the current range"
    );
    let changes = format!("{RANGES}?watch=true&timeoutSeconds=20");
    let mut gone = admin.watch(&changes, "application/json").await;
    assert_eq!(admin.delete(&format!("{SERVICES}/s"), json!({})).await.0, 200);
    while let Some(event) = gone.next().await {
        if event["type"] == "DELETED" {
            assert_eq!(event["object"]["metadata"]["name"], "more");
            return;
        }
    }
    panic!("the range stayed");
}
