//! `metrics.k8s.io` as this server answers it, and how another one takes its place.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Caller, fixture};

const GROUP: &str = "/apis/metrics.k8s.io/v1beta1";
const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";

/// Follows the APIService until its condition has this reason.
async fn until(caller: &Caller, reason: &str) -> Value {
    let path =
        "/apis/apiregistration.k8s.io/v1/apiservices?watch=true&fieldSelector=metadata.name=v1beta1.metrics.k8s.io";
    let mut events = caller.watch(path, "application/json").await;
    loop {
        let event = events.next().await.expect("the watch goes on");
        if event["object"]["status"]["conditions"][0]["reason"] == reason {
            return event["object"].clone();
        }
    }
}

#[tokio::test]
async fn nodes_that_cannot_be_asked_are_left_out() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let (code, node) = admin
        .post("/api/v1/nodes", json!({"metadata": {"name": "node1"}}))
        .await;
    assert_eq!(code, 201, "{node}");
    for (resource, kind) in [("nodes", "NodeMetricsList"), ("pods", "PodMetricsList")] {
        let (code, list) = admin.get(&format!("{GROUP}/{resource}")).await;
        assert_eq!(
            (code, &list),
            (
                200,
                &json!({"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": []})
            )
        );
    }
    let (code, missing) = admin.get(&format!("{GROUP}/namespaces/default/pods/p")).await;
    assert_eq!(
        (code, &missing["message"]),
        (404, &json!("podmetrics.metrics.k8s.io \"default/p\" not found"))
    );
    for (path, expected) in [
        (format!("{GROUP}/nodes?labelSelector=a=b"), 200),
        (format!("{GROUP}/nodes?labelSelector=a%20b"), 400),
        (format!("{GROUP}/nodes?fieldSelector=spec.x=y"), 400),
        (format!("{GROUP}/nodes?watch=true"), 405),
        (format!("{GROUP}/namespaces/default/nodes"), 404),
        (format!("{GROUP}/other"), 404),
        ("/apis/metrics.k8s.io/v1".to_string(), 404),
    ] {
        assert_eq!(admin.get(&path).await.0, expected, "{path}");
    }
    let (code, refused) = admin.post(&format!("{GROUP}/nodes"), json!({})).await;
    assert_eq!(code, 405, "{refused}");
    let stranger = fixture.caller("jane", &["system:authenticated"]);
    let (code, refused) = stranger.get(&format!("{GROUP}/nodes")).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            403,
            &json!(
                "nodes.metrics.k8s.io is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"metrics.k8s.io\" at the cluster scope"
            )
        )
    );
}

#[tokio::test]
async fn discovery_knows_it_last() {
    let admin = fixture().await.admin();
    let (_, list) = admin.get(GROUP).await;
    assert_eq!(
        list["resources"][1],
        json!({"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]})
    );
    let (_, groups) = admin.get("/apis").await;
    let last = groups["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(last["preferredVersion"]["groupVersion"], "metrics.k8s.io/v1beta1");
    assert_eq!(admin.get("/apis/metrics.k8s.io").await.1["kind"], "APIGroup");
}

#[tokio::test]
async fn another_server_takes_its_place_and_gives_it_back() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let own = until(&admin, "Local").await;
    assert_eq!(
        (&own["spec"]["groupPriorityMinimum"], &own["spec"]["versionPriority"]),
        (&json!(100), &json!(100))
    );
    let theirs = json!({"spec": {"service": {"namespace": "kube-system", "name": "metrics-server"}, "insecureSkipTLSVerify": true}});
    let (code, answer) = admin.patch("merge-patch+json", SERVICE, theirs).await;
    assert_eq!(code, 200, "{answer}");
    let taken = until(&admin, "ServiceNotFound").await;
    assert_eq!(taken["spec"]["service"]["name"], "metrics-server");
    assert_eq!(admin.get(&format!("{GROUP}/nodes")).await.0, 503);
    assert_eq!(admin.delete(SERVICE, json!({})).await.0, 200);
    let back = until(&admin, "Local").await;
    assert_ne!(back["metadata"]["uid"], own["metadata"]["uid"]);
    assert_eq!(admin.get(&format!("{GROUP}/nodes")).await.0, 200);
}
