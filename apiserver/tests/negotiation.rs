//! How answers look and which methods and selectors are understood, where
//! clients and the conformance suite depend on it.
#![allow(clippy::unwrap_used)]

mod support;

use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use support::{config_map, fixture};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn answers_for_people_are_indented() {
    let admin = fixture().await.admin();
    admin.post(MAPS, config_map("a", json!({}))).await;
    let cases = [
        (format!("{MAPS}/a?pretty=true"), "", true),
        (format!("{MAPS}?pretty=1"), "", true),
        (format!("{MAPS}/a"), "curl/8.0", true),
        (format!("{MAPS}/a?pretty=false"), "curl/8.0", false),
        (format!("{MAPS}/a"), "kubectl/v1.32", false),
        (format!("{MAPS}/none?pretty=true"), "", true),
    ];
    for (path, agent, want) in cases {
        let request = Request::get(&path).header("user-agent", agent).body(Full::default());
        let body = admin.raw(request.unwrap()).await.into_body();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert_eq!(text.starts_with("{\n  \""), want, "{path} {agent}: {text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[tokio::test]
async fn a_review_is_no_table() {
    let admin = fixture().await.admin();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [("content-type", "application/json"), ("accept", TABLE)];
    let (code, status) = admin.send(path, &headers, review.to_string()).await;
    assert_eq!((code, &status["reason"]), (406, &json!("NotAcceptable")));
}

#[tokio::test]
async fn events_are_selected_by_the_names_of_both_groups() {
    let admin = fixture().await.admin();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "R", "type": "Normal",
        "message": "m", "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reportingComponent": "c"});
    let (code, made) = admin.post("/api/v1/namespaces/default/events", event).await;
    assert_eq!(code, 201, "{made}");
    let old = "/api/v1/namespaces/default/events?fieldSelector=";
    let new = "/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=";
    for (prefix, selector, want) in [
        (old, "involvedObject.name%3Dp", 1),
        (new, "regarding.name%3Dp,reason%3DR", 1),
        (new, "regarding.name%3Dq", 0),
        (new, "reportingController%3Dc", 1),
    ] {
        let (code, list) = admin.get(&format!("{prefix}{selector}")).await;
        assert_eq!(code, 200, "{list}");
        assert_eq!(list["items"].as_array().unwrap().len(), want, "{selector}");
    }
    assert_eq!(admin.get(&format!("{old}regarding.name%3Dp")).await.0, 400);
}

#[tokio::test]
async fn page_tokens_take_no_revision() {
    let admin = fixture().await.admin();
    for name in ["a", "b", "c"] {
        admin.post(MAPS, config_map(name, json!({}))).await;
    }
    let (_, page) = admin.get(&format!("{MAPS}?limit=1")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let next = format!("{MAPS}?limit=1&continue={token}");
    assert_eq!(admin.get(&next).await.1["items"][0]["metadata"]["name"], "b");
    assert_eq!(admin.get(&format!("{next}&resourceVersion=5")).await.0, 400);
    let (code, status) = admin.get(&format!("{next}&resourceVersionMatch=Exact")).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, \
         resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided]"
    );
}

/// A pod `p` that listens on this machine; gives the collection's path.
async fn running_pod(admin: &support::Caller, port: u16) -> &'static str {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i", "ports": [{"containerPort": port}]}]}});
    assert_eq!(admin.post(pods, pod).await.0, 201);
    let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let (code, patched) = admin
        .patch("merge-patch+json", &format!("{pods}/p/status"), status)
        .await;
    assert_eq!(code, 200, "{patched}");
    pods
}

/// Browsers find their way through the proxy, and backends hear where they are.
#[tokio::test]
async fn links_of_proxied_pages_lead_through_the_proxy() {
    let admin = fixture().await.admin();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&buffer[..read]).to_ascii_lowercase();
            let uri = head.lines().find_map(|line| line.strip_prefix("x-forwarded-uri: "));
            let kind = if head.contains("/plain") {
                "text/plain"
            } else {
                "text/html; charset=utf-8"
            };
            let page = format!("<a href=\"/there\">{}</a>", uri.unwrap_or_default());
            let length = page.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let pods = running_pod(&admin, port).await;
    let base = format!("{pods}/p:{port}/proxy");
    for (path, link) in [("/page", format!("{base}/there")), ("/plain", "/there".to_owned())] {
        let request = Request::builder()
            .uri(format!("{base}{path}?x=y"))
            .body(Full::default());
        let response = admin.raw(request.unwrap()).await;
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let page = String::from_utf8_lossy(&body);
        assert_eq!(page, format!("<a href=\"{link}\">{base}{path}</a>"));
    }
}

#[tokio::test]
async fn every_method_is_proxied() {
    let admin = fixture().await.admin();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                let method = String::from_utf8_lossy(&buffer[..read]);
                let method = method.split(' ').next().unwrap_or("").to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nx-method: {method}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let pods = running_pod(&admin, port).await;
    for (method, slash, want) in [
        ("GET", "", 301),
        ("HEAD", "", 301),
        ("OPTIONS", "", 200),
        ("DELETE", "", 200),
        ("PUT", "/", 200),
        ("PATCH", "/", 200),
        ("OPTIONS", "/some/path", 200),
    ] {
        let path = format!("{pods}/p:{port}/proxy{slash}");
        let request = Request::builder().method(method).uri(&path).body(Full::default());
        let response = admin.raw(request.unwrap()).await;
        assert_eq!(response.status(), want, "{method} {path}");
        if want == 200 {
            assert_eq!(response.headers()["x-method"], method, "{path}");
        }
    }
    assert_eq!(admin.send(&format!("OPTIONS {pods}"), &[], "").await.0, 405);
}

#[tokio::test]
async fn groups_are_listed_in_upstream_s_order() {
    let admin = fixture().await.admin();
    let (_, list) = admin.get("/apis").await;
    let names: Vec<&str> = list["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    // What a metrics server would answer ranks below all.
    assert_eq!(names[names.len() - 2..], ["resource.k8s.io", "metrics.k8s.io"]);
    let (_, autoscaling) = admin.get("/apis/autoscaling").await;
    assert_eq!(autoscaling["preferredVersion"]["version"], "v2");
}

#[tokio::test]
async fn faults_are_told_in_the_order_of_the_text() {
    let admin = fixture().await.admin();
    let body = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"unknownField": "foo", "replicas": 2, "replicas": 3}}"#;
    let path = "POST /apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let (code, status) = admin.send(path, &[("content-type", "application/json")], body).await;
    assert_eq!(code, 400);
    let message = status["message"].as_str().unwrap();
    assert!(
        message
            .ends_with(r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#),
        "{message}"
    );
}
