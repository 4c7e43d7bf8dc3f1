//! Priority and fairness as clients see it: the objects, the headers, 429.

#![allow(clippy::unwrap_used)]

mod support;

use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use support::{Caller, fixture};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// Code and the two headers of a request.
async fn marks(caller: &Caller, path: &str) -> (u16, String, String) {
    let request = Request::builder().uri(path).body(Full::default()).unwrap();
    let response = caller.raw(request).await;
    let text = |name: &str| {
        let value = response.headers().get(name);
        value.map_or(String::new(), |v| v.to_str().unwrap().to_string())
    };
    (
        response.status().as_u16(),
        text("x-kubernetes-pf-flowschema-uid"),
        text("x-kubernetes-pf-prioritylevel-uid"),
    )
}

async fn uid(admin: &Caller, plural: &str, name: &str) -> String {
    let (code, object) = admin.get(&format!("{GROUP}/{plural}/{name}")).await;
    assert_eq!(code, 200, "{object}");
    object["metadata"]["uid"].as_str().unwrap().to_string()
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "matchingPrecedence": 50, "priorityLevelConfiguration": {"name": level}, "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}],
    }})
}

/// Until requests of this user carry this schema: a change is in force as soon as it is seen.
async fn until_schema(caller: &Caller, uid: &str) {
    let seen = async {
        while marks(caller, "/api/v1/namespaces/default").await.1 != uid {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_suggested_configuration_is_there() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let (_, schemas) = admin.get(&format!("{GROUP}/flowschemas")).await;
    assert_eq!(schemas["items"].as_array().unwrap().len(), 13);
    let (_, levels) = admin.get(&format!("{GROUP}/prioritylevelconfigurations")).await;
    let names: Vec<&str> = levels["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    let probes = schemas["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|o| o["metadata"]["name"] == "probes")
        .unwrap();
    assert_eq!(
        probes["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"],
        "true"
    );
    assert_eq!(probes["metadata"]["generation"], 1);
    let condition = &probes["status"]["conditions"][0];
    assert_eq!(
        (
            condition["type"].as_str(),
            condition["status"].as_str(),
            condition["reason"].as_str()
        ),
        (Some("Dangling"), Some("False"), Some("Found"))
    );

    // The mandatory ones come back, and may not be changed.
    admin.delete(&format!("{GROUP}/flowschemas/catch-all"), json!({})).await;
    let back = async {
        while admin.get(&format!("{GROUP}/flowschemas/catch-all")).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), back)
        .await
        .unwrap();
}

#[tokio::test]
async fn answers_say_how_they_came() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let exempt = (
        uid(&admin, "flowschemas", "exempt").await,
        uid(&admin, "prioritylevelconfigurations", "exempt").await,
    );
    let global = (
        uid(&admin, "flowschemas", "global-default").await,
        uid(&admin, "prioritylevelconfigurations", "global-default").await,
    );
    let marked = |code: u16, uids: &(String, String)| (code, uids.0.clone(), uids.1.clone());
    assert_eq!(marks(&admin, "/api/v1/pods").await, marked(200, &exempt));
    let jane = fixture.caller("jane", &[]);
    // Also where they are refused or missing.
    assert_eq!(marks(&jane, "/api/v1/pods").await, marked(403, &global));
    assert_eq!(marks(&jane, "/version").await, marked(200, &global));
    assert_eq!(marks(&admin, "/api/v1/namespaces/none").await, marked(404, &exempt));
    let probe = uid(&admin, "flowschemas", "probes").await;
    assert_eq!(marks(&jane, "/readyz").await.1, probe);
    assert_eq!(
        marks(&admin, "/api/v1/namespaces/default/pods/x/log").await.1,
        "",
        "logs take no seat"
    );
    assert_eq!(
        marks(&admin, "/api/v1/pods?watch=true&timeoutSeconds=1").await,
        marked(200, &exempt)
    );
}

#[tokio::test]
async fn changes_are_in_force_at_once() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let jane = fixture.caller("jane", &[]);
    let (code, made) = admin
        .post(&format!("{GROUP}/flowschemas"), schema("mine", "mine", "jane"))
        .await;
    assert_eq!(code, 201, "{made}");
    let mut events = admin
        .watch(
            &format!("{GROUP}/flowschemas?watch=true&fieldSelector=metadata.name=mine"),
            "application/json",
        )
        .await;
    let dangling = |event: &Value| event["object"]["status"]["conditions"][0].clone();
    let condition = loop {
        let condition = dangling(&events.next().await.unwrap());
        if condition["status"] == "True" {
            break condition;
        }
    };
    assert_eq!(
        condition["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"mine\" but there is no such object"
    );
    let level = json!({"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0,
        "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}});
    let (code, answer) = admin.post(&format!("{GROUP}/prioritylevelconfigurations"), level).await;
    assert_eq!(code, 201, "{answer}");
    until_schema(&jane, made["metadata"]["uid"].as_str().unwrap()).await;
    while dangling(&events.next().await.unwrap())["status"] != "False" {}
    // It is gone as soon as it is deleted.
    admin.delete(&format!("{GROUP}/flowschemas/mine"), json!({})).await;
    until_schema(&jane, &uid(&admin, "flowschemas", "global-default").await).await;
}

#[tokio::test]
async fn the_state_is_shown() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let request = Request::builder()
        .uri("/debug/api_priority_and_fairness/dump_priority_levels")
        .body(Full::default())
        .unwrap();
    let bytes = admin.raw(request).await.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.starts_with("PriorityLevelName, ActiveQueues, IsIdle,"), "{text}");
    assert_eq!(text.lines().count(), 9, "{text}");
    assert_eq!(admin.get("/debug/api_priority_and_fairness/none").await.0, 404);
    assert_eq!(
        fixture
            .caller("jane", &[])
            .get("/debug/api_priority_and_fairness/dump_queues")
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn a_request_may_ask_for_less_time() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    assert_eq!(admin.get("/api/v1/namespaces?timeout=5s").await.0, 200);
    let (code, error) = admin.get("/api/v1/namespaces?timeout=soon").await;
    assert_eq!((code, error["reason"].as_str()), (400, Some("BadRequest")), "{error}");
}
