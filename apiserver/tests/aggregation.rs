//! API aggregation against a real HTTPS extension server.

#![allow(clippy::unwrap_used)]

#[path = "support/extension.rs"]
mod extension;
mod support;

use base64::Engine;
use extension::{API, Extension};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skiff_access::pki::{self, Identity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{Caller, Fixture, fixture};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Namespace, account and the two bindings that an extension server needs.
async fn installed(fixture: &Fixture) -> Extension {
    let admin = fixture.admin();
    made(&admin, "/api/v1/namespaces", json!({"metadata": {"name": "wardle"}})).await;
    let subject = json!([{"kind": "ServiceAccount", "name": "apiserver", "namespace": "wardle"}]);
    let binding = |kind: &str, name: &str| {
        json!({"metadata": {"name": "wardle"}, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}})
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let delegator = binding("ClusterRole", "system:auth-delegator");
    made(&admin, &format!("{rbac}/clusterrolebindings"), delegator).await;
    let reader = binding("Role", "extension-apiserver-authentication-reader");
    made(&admin, &format!("{rbac}/namespaces/kube-system/rolebindings"), reader).await;
    let account = fixture.caller(
        "system:serviceaccount:wardle:apiserver",
        &["system:serviceaccounts", "system:serviceaccounts:wardle"],
    );
    Extension::start(account).await
}

async fn made(caller: &Caller, path: &str, object: Value) -> Value {
    let (code, answer) = caller.post(path, object).await;
    assert_eq!(code, 201, "{path}: {answer}");
    answer
}

fn api_service(extension: &Extension) -> Value {
    let bundle = base64::engine::general_purpose::STANDARD.encode(&extension.ca_pem);
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": {
        "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "caBundle": bundle, "service": {"namespace": "wardle", "name": "api", "port": extension.port},
    }})
}

fn service(extension: &Extension) -> Value {
    json!({"metadata": {"name": "api"}, "spec": {"type": "ExternalName", "externalName": "localhost",
        "ports": [{"port": extension.port}]}})
}

/// Follows the APIService until its condition has this reason; answers the condition.
async fn until(caller: &Caller, reason: &str) -> Value {
    let path = format!("{SERVICES}?watch=true&fieldSelector=metadata.name={NAME}");
    let mut events = caller.watch(&path, "application/json").await;
    loop {
        let event = events.next().await.expect("the watch goes on");
        let condition = &event["object"]["status"]["conditions"][0];
        if condition["reason"] == reason {
            return condition.clone();
        }
    }
}

async fn available(fixture: &Fixture) -> Extension {
    let extension = installed(fixture).await;
    let admin = fixture.admin();
    made(&admin, "/api/v1/namespaces/wardle/services", service(&extension)).await;
    made(&admin, SERVICES, api_service(&extension)).await;
    until(&admin, "Passed").await;
    extension
}

#[tokio::test]
async fn what_is_answered_here_is_registered() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let (_, core) = admin.get(&format!("{SERVICES}/v1.")).await;
    assert_eq!(
        core["metadata"]["labels"],
        json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"})
    );
    assert_eq!(
        core["spec"],
        json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
    );
    let condition = &core["status"]["conditions"][0];
    assert_eq!(
        (condition["status"].as_str(), condition["reason"].as_str()),
        (Some("True"), Some("Local"))
    );
    assert_eq!(condition["message"], "Local APIServices are always available");
    let (_, all) = admin.get(SERVICES).await;
    let (_, groups) = admin.get("/apis").await;
    let versions: usize = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["versions"].as_array().unwrap().len())
        .sum();
    // One each, but for the group of APIServices themselves; and the core group.
    assert_eq!(all["items"].as_array().unwrap().len(), versions);
    let reader = fixture.caller("jane", &[]);
    assert_eq!(
        reader
            .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn conditions_say_what_is_missing() {
    let fixture = fixture().await;
    let extension = installed(&fixture).await;
    let admin = fixture.admin();
    made(&admin, SERVICES, api_service(&extension)).await;
    let condition = until(&admin, "ServiceNotFound").await;
    assert_eq!(
        (condition["status"].as_str(), condition["message"].as_str()),
        (Some("False"), Some("service/api in \"wardle\" is not present"))
    );
    assert_eq!(admin.get(FLUNDERS).await, (503, json!("service unavailable\n")));
    // The group is there all the same: clients are to see that it does not answer.
    let (_, groups) = admin.get("/apis/wardle.example.com").await;
    assert_eq!(groups["preferredVersion"]["version"], "v1alpha1");
    assert_eq!(admin.get(API).await.0, 503);

    let services = "/api/v1/namespaces/wardle/services";
    made(
        &admin,
        services,
        json!({"metadata": {"name": "api"}, "spec": {"ports": [{"port": 1}]}}),
    )
    .await;
    until(&admin, "ServicePortError").await;
    let ports = json!({"spec": {"ports": [{"port": extension.port, "name": "https"}]}});
    let (code, answer) = admin.patch("merge-patch+json", &format!("{services}/api"), ports).await;
    assert_eq!(code, 200, "{answer}");
    until(&admin, "EndpointsNotFound").await;
    let slice = json!({"metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": extension.port}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]});
    made(
        &admin,
        "/apis/discovery.k8s.io/v1/namespaces/wardle/endpointslices",
        slice,
    )
    .await;
    until(&admin, "MissingEndpoints").await;

    admin.delete(&format!("{services}/api"), json!({})).await;
    made(&admin, services, service(&extension)).await;
    until(&admin, "Passed").await;
    extension.well.store(false, Ordering::SeqCst);
    // A change of the Service brings another look.
    admin
        .patch(
            "merge-patch+json",
            &format!("{services}/api"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    let condition = until(&admin, "FailedDiscoveryCheck").await;
    let text = condition["message"].as_str().unwrap();
    assert!(
        text.starts_with("failing or missing response from https://localhost:") && text.ends_with(": 500"),
        "{text}"
    );
    assert_eq!(admin.get(FLUNDERS).await.0, 503);
    extension.well.store(true, Ordering::SeqCst);
    until(&admin, "Passed").await;
}

#[tokio::test]
async fn requests_go_through_under_the_clients_name() {
    let fixture = fixture().await;
    let extension = available(&fixture).await;
    let admin = fixture.admin();
    let flunder = |name: &str| json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": name}});
    let mut events = admin.watch(&format!("{FLUNDERS}?watch=true"), "application/json").await;
    assert_eq!(made(&admin, FLUNDERS, flunder("a")).await["metadata"]["name"], "a");
    assert_eq!(events.line().await, "ADDED a");
    assert_eq!(admin.get(&format!("{FLUNDERS}/a")).await.0, 200);
    assert_eq!(admin.get(FLUNDERS).await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get(&format!("{FLUNDERS}/none")).await.1["reason"], "NotFound");
    assert_eq!(admin.delete(&format!("{FLUNDERS}/a"), json!({})).await.0, 200);

    // This server refuses first; then the extension server asks it, and refuses too.
    let jane = fixture.caller("jane", &["devs"]);
    let (code, refused) = jane.get(FLUNDERS).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            403,
            r#"flunders.wardle.example.com is forbidden: User "jane" cannot list resource "flunders" in API group "wardle.example.com" in the namespace "default""#
        )
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    made(&admin, &format!("{rbac}/roles"), json!({"metadata": {"name": "f"}, "rules": [{"apiGroups": ["wardle.example.com"], "resources": ["flunders"], "verbs": ["list"]}]})).await;
    made(&admin, &format!("{rbac}/rolebindings"), json!({"metadata": {"name": "f"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "f"}})).await;
    let headers = [
        ("x-remote-user", "admin"),
        ("x-remote-group", "system:masters"),
        ("authorization", "Bearer x"),
    ];
    let (code, answer) = jane.send(&format!("GET {FLUNDERS}"), &headers, "").await;
    assert_eq!(code, 200, "{answer}");
    let seen = extension.seen.lock().unwrap().last().unwrap().1.clone();
    assert_eq!(seen["user"], "jane");
    let groups = seen["groups"].as_array().unwrap();
    assert!(
        groups.contains(&json!("devs")) && !groups.contains(&json!("system:masters")),
        "{seen}"
    );
    assert_eq!(seen["authorization"], Value::Null);
}

#[tokio::test]
async fn discovery_and_openapi_are_of_all() {
    let fixture = fixture().await;
    let _extension = available(&fixture).await;
    let admin = fixture.admin();
    let (_, list) = admin.send("GET /apis", &[("accept", DISCOVERY)], "").await;
    let items = list["items"].as_array().unwrap();
    // Resource metrics, which this server answers, rank below.
    let theirs = &items[items.len() - 2];
    assert_eq!(theirs["metadata"]["name"], "wardle.example.com");
    assert_eq!(theirs["versions"][0]["freshness"], "Current");
    assert_eq!(theirs["versions"][0]["resources"][0]["resource"], "flunders");
    assert_eq!(items[0]["metadata"]["name"], "apiregistration.k8s.io");
    let (_, legacy) = admin.get("/apis").await;
    assert_eq!(legacy["groups"][items.len() - 2]["name"], "wardle.example.com");
    assert_eq!(admin.get(API).await.1["resources"][0]["shortNames"], json!(["fl"]));
    let (_, v2) = admin.get("/openapi/v2").await;
    assert!(v2["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(v2["definitions"]["io.k8s.sample.v1alpha1.Flunder"].is_object());
    assert_ne!(
        v2["paths"]["/version/"]["get"]["responses"]["200"]["description"],
        "not to be taken"
    );
    let (_, v3) = admin.get("/openapi/v3").await;
    let url = v3["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert_eq!(
        admin.get(url).await.1["components"]["schemas"]["Flunder"]["description"],
        "of v3"
    );

    let (code, _) = admin.delete(&format!("{SERVICES}/{NAME}"), json!({})).await;
    assert_eq!(code, 200);
    // The route goes as soon as the deletion has been seen.
    let gone = async {
        while admin.get("/apis/wardle.example.com").await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .unwrap();
    assert_eq!(admin.get(FLUNDERS).await.0, 404);
    let (_, list) = admin.send("GET /apis", &[("accept", DISCOVERY)], "").await;
    assert!(!list.to_string().contains("wardle"));
}

async fn serve(fixture: &Fixture) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = pki::server_config(&fixture.pki.server, &fixture.pki.client_authorities_pem()).unwrap();
    let server = fixture.server.clone();
    tokio::spawn(server.serve(listener, Arc::new(tls), CancellationToken::new()));
    address
}

async fn dial(
    fixture: &Fixture,
    address: SocketAddr,
    identity: &Identity,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = pki::client_config(fixture.pki.ca.certificate_pem(), Some(identity)).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

#[tokio::test]
async fn upgrades_go_through() {
    let fixture = fixture().await;
    let _extension = available(&fixture).await;
    let address = serve(&fixture).await;
    let mut client = BufReader::new(dial(&fixture, address, &fixture.pki.admin).await);
    let request = format!("GET {FLUNDERS}/a/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "a hello");
}

/// Who asks, as the server sees it.
async fn who(fixture: &Fixture, address: SocketAddr, identity: &Identity, headers: &[(&str, &str)]) -> (u16, Value) {
    use http_body_util::{BodyExt, Full};
    let stream = dial(fixture, address, identity).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let mut request = http::Request::builder()
        .method("POST")
        .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews");
    request = request.header("host", "x").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(bytes::Bytes::from(body))).unwrap())
        .await
        .unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_front_proxy_may_name_users_and_nobody_else() {
    let fixture = fixture().await;
    let address = serve(&fixture).await;
    let jane = [
        ("X-Remote-User", "jane"),
        ("X-Remote-Group", "devs"),
        ("X-Remote-Extra-Team", "red"),
        ("X-Remote-Uid", "7"),
    ];
    let (code, review) = who(&fixture, address, &fixture.pki.front_proxy_client, &jane).await;
    assert_eq!(code, 201, "{review}");
    let user = &review["status"]["userInfo"];
    assert_eq!(
        *user,
        json!({"username": "jane", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"team": ["red"]}})
    );
    let (_, review) = who(&fixture, address, &fixture.pki.admin, &jane).await;
    assert_eq!(review["status"]["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(
        who(&fixture, address, &fixture.pki.front_proxy_client, &[]).await.0,
        401
    );
}
