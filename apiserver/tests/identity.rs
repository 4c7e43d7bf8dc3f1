//! Who may do what, through the real handler with the bootstrap policy.

#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::fixture;

#[tokio::test]
async fn refusals_are_worded_as_upstream() {
    let fixture = fixture().await;
    let bob = fixture.caller("bob", &[]);
    let (code, status) = bob.get("/api/v1/namespaces/default/pods").await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(
        status["message"],
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let (_, status) = bob.get("/api/v1/nodes/n").await;
    assert_eq!(
        status["message"],
        "nodes \"n\" is forbidden: User \"bob\" cannot get resource \"nodes\" in API group \"\" at the cluster scope"
    );
    // What every authenticated user may.
    assert_eq!(bob.get("/apis").await.0, 200);
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let (code, answer) = bob
        .post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        .await;
    assert_eq!(
        (code, answer["status"]["allowed"].as_bool()),
        (201, Some(false)),
        "{answer}"
    );
    let (code, answer) = bob
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({}))
        .await;
    assert_eq!(
        (code, answer["status"]["userInfo"]["username"].as_str()),
        (201, Some("bob"))
    );
}

#[tokio::test]
async fn impersonation_needs_permission() {
    let fixture = fixture().await;
    let headers = [("impersonate-user", "alice"), ("impersonate-group", "dev")];
    let (code, _) = fixture.caller("bob", &[]).send("GET /apis", &headers, "").await;
    assert_eq!(code, 403);
    let admin = fixture.admin();
    let (code, status) = admin.send("GET /api/v1/pods", &headers, "").await;
    assert_eq!(code, 403);
    assert!(
        status["message"].as_str().unwrap().contains("User \"alice\""),
        "{status}"
    );
}

#[tokio::test]
async fn roles_bindings_and_tokens_work_together() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let (code, _) = admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "robot"}}),
        )
        .await;
    assert_eq!(code, 201);
    let binding = json!({"metadata": {"name": "robot-views"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    let (code, answer) = admin
        .post(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            binding,
        )
        .await;
    assert_eq!(code, 201, "{answer}");
    let (code, token) = admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts/robot/token",
            json!({"spec": {"expirationSeconds": 600}}),
        )
        .await;
    assert_eq!(code, 201, "{token}");
    let review = json!({"spec": {"token": token["status"]["token"]}});
    let (_, answer) = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(
        answer["status"]["user"]["username"], "system:serviceaccount:default:robot",
        "{answer}"
    );
    let robot = fixture.caller("system:serviceaccount:default:robot", &["system:serviceaccounts"]);
    assert_eq!(robot.get("/api/v1/namespaces/default/configmaps").await.0, 200);
    assert_eq!(robot.get("/api/v1/namespaces/default/secrets").await.0, 403);
    let (code, short) = admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts/robot/token",
            json!({"spec": {"expirationSeconds": 5}}),
        )
        .await;
    assert_eq!((code, short["reason"].as_str()), (422, Some("Invalid")));
}

#[tokio::test]
async fn reviews_are_checked_as_upstream() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let resource = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let subjects = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (path, body, messages) in [
        (
            subjects,
            json!({"spec": {}}),
            &[
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ][..],
        ),
        (
            subjects,
            json!({"metadata": {"name": "x"}, "spec": {"user": "u", "resourceAttributes": resource}}),
            &["metadata: Invalid value: {\"name\":\"x\"}: must be empty"],
        ),
        (
            subjects,
            json!({"spec": {"user": "u", "resourceAttributes": resource, "nonResourceAttributes": {"path": "/"}}}),
            &["cannot be specified in combination with resourceAttributes"],
        ),
        (
            "/apis/authorization.k8s.io/v1/namespaces/other/localsubjectaccessreviews",
            json!({"spec": {"user": "u", "resourceAttributes": resource}}),
            &["spec.resourceAttributes.namespace: Invalid value: \"default\": must match metadata.namespace"],
        ),
    ] {
        let (code, status) = admin.post(path, body).await;
        assert_eq!(code, 422, "{status}");
        for message in messages {
            assert!(status["message"].as_str().unwrap().contains(message), "{status}");
        }
    }
    let (code, answer) = admin
        .post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            json!({"spec": {"token": "abc"}}),
        )
        .await;
    assert_eq!(
        (code, &answer["status"]),
        (201, &json!({"user": {}, "error": "invalid bearer token"}))
    );
    let bound = json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}});
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "bot"}}),
        )
        .await;
    let tokens = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let (code, status) = admin.post(tokens, bound).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (400, Some("cannot bind token to object of type /v1, Kind=ConfigMap"))
    );
    let (code, status) = admin
        .post(tokens, json!({"metadata": {"name": "else"}, "spec": {}}))
        .await;
    assert_eq!(code, 422);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("metadata.name: Invalid value: \"else\": must match the service account name if specified"),
        "{status}"
    );
}

#[tokio::test]
async fn token_secrets_are_filled_and_authenticate() {
    let admin = fixture().await.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, json!({"metadata": {"name": "bot"}})).await;
    let mut secrets = admin
        .watch(
            "/api/v1/namespaces/default/secrets?watch=true&timeoutSeconds=20",
            "application/json",
        )
        .await;
    let secret = json!({"type": "kubernetes.io/service-account-token",
        "metadata": {"name": "st", "annotations": {"kubernetes.io/service-account.name": "bot"}}});
    let (code, answer) = admin.post("/api/v1/namespaces/default/secrets", secret).await;
    assert_eq!(code, 201, "{answer}");
    let token = loop {
        let event = secrets.next().await.expect("the secret is filled while it is watched");
        if let Some(token) = event["object"]["data"]["token"].as_str() {
            break String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
        }
    };
    let review = json!({"spec": {"token": token}});
    let (_, answer) = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(
        answer["status"]["user"]["username"], "system:serviceaccount:default:bot",
        "{answer}"
    );
    admin.delete(&format!("{accounts}/bot"), json!({})).await;
    loop {
        let event = secrets.next().await.expect("the secret goes while it is watched");
        if event["type"] == "DELETED" {
            break;
        }
    }
}
