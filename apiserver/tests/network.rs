//! Over real sockets: TLS, client certificates, protobuf, tunnels.

#![allow(clippy::unwrap_used)]

mod support;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skiff_access::pki;
use std::net::SocketAddr;
use std::sync::Arc;
use support::{Fixture, config_map, fixture};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

struct Running {
    fixture: Fixture,
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn running() -> Running {
    let fixture = fixture().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(pki::server_config(&fixture.pki.server, &fixture.pki.client_authorities_pem()).unwrap());
    let stop = CancellationToken::new();
    let (server, token) = (fixture.server.clone(), stop.clone());
    let task = tokio::spawn(async move { server.serve(listener, tls, token).await.unwrap() });
    Running {
        fixture,
        address,
        stop,
        task,
    }
}

impl Running {
    async fn dial(&self, with_certificate: bool) -> TlsStream<TcpStream> {
        let pki = &self.fixture.pki;
        let mut config = pki::client_config(pki.ca.certificate_pem(), with_certificate.then_some(&pki.admin)).unwrap();
        config.alpn_protocols.clear();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, accept: &str, with_certificate: bool) -> (u16, Vec<u8>) {
        let stream = self.dial(with_certificate).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .uri(path)
            .header("host", "x")
            .header("accept", accept);
        let response = sender
            .send_request(request.body(Full::<bytes::Bytes>::default()).unwrap())
            .await
            .unwrap();
        let code = response.status().as_u16();
        (code, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }
}

#[tokio::test]
async fn certificates_name_users_and_nobody_sees_health_only() {
    let running = running().await;
    assert_eq!(running.get("/api/v1/namespaces", "", true).await.0, 200);
    let (code, body) = running.get("/api/v1/namespaces", "", false).await;
    let status: Value = serde_json::from_slice(&body).unwrap();
    let refused = "namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope";
    assert_eq!((code, status["message"].as_str()), (403, Some(refused)));
    assert_eq!(running.get("/readyz", "", false).await, (200, b"ok".to_vec()));
    assert_eq!(running.get("/version", "", false).await.0, 200);
    running.stop.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn protobuf_says_the_same_as_json() {
    let running = running().await;
    let admin = running.fixture.admin();
    admin
        .post(
            "/api/v1/namespaces/default/configmaps",
            config_map("a", json!({"l": "m"})),
        )
        .await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let (_, wanted) = admin.get(path).await;
    let (code, bytes) = running.get(path, "application/vnd.kubernetes.protobuf", true).await;
    assert_eq!((code, &bytes[..4]), (200, &b"k8s\0"[..]));
    let ty = skiff_api::schema::lookup_gvk("", "v1", "ConfigMap").unwrap();
    assert_eq!(skiff_api::codec::decode_proto(ty, &bytes).unwrap(), wanted);
    let body = skiff_api::codec::encode_proto(ty, &config_map("b", json!({}))).unwrap();
    let media_type = "application/vnd.kubernetes.protobuf";
    let (code, made) = admin
        .send(
            "POST /api/v1/namespaces/default/configmaps",
            &[("content-type", media_type), ("accept", "application/json")],
            body,
        )
        .await;
    assert_eq!((code, made["data"]["k"].as_str()), (201, Some("v")), "{made}");
}

/// An upgraded connection carries bytes both ways, and the end of one
/// direction leaves the other open.
#[tokio::test]
async fn tunnels_keep_half_closed_connections() {
    let running = running().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (stream, _) = backend.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).await.unwrap() > 0);
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
            .await
            .unwrap();
        // Answers only once the client has ended its direction.
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(format!("got {text}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        head
    });
    let admin = running.fixture.admin();
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    admin
        .post(
            "/api/v1/namespaces/default/pods",
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
        .await;
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let (code, answer) = admin
        .patch("merge-patch+json", "/api/v1/namespaces/default/pods/p/status", status)
        .await;
    assert_eq!(code, 200, "{answer}");

    let mut client = BufReader::new(running.dial(true).await);
    let request = format!(
        "GET /api/v1/namespaces/default/pods/p:{port}/proxy/tunnel?x=y HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\nAuthorization: Bearer secret\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "got hello");
    let seen = echo.await.unwrap().to_ascii_lowercase();
    assert!(
        seen.starts_with("get /tunnel?x=y ") && !seen.contains("secret"),
        "{seen}"
    );
}

/// Clients that send everything before they read see why they were refused, over both protocols.
#[tokio::test]
async fn a_body_that_is_too_large_is_answered() {
    let running = running().await;
    let body = || Full::new(bytes::Bytes::from(vec![b' '; 4 << 20]));
    let request = |uri: &str| {
        let builder = http::Request::builder().method("POST").uri(uri).header("host", "x");
        builder.header("content-type", "application/json").body(body()).unwrap()
    };
    let stream = running.dial(true).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let over_http1 = sender.send_request(request("/api/v1/namespaces")).await.unwrap();
    let stream = running.dial(true).await;
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let over_http2 = sender
        .send_request(request("https://x/api/v1/namespaces"))
        .await
        .unwrap();
    for response in [over_http1, over_http2] {
        assert_eq!(response.status(), 413);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(status["message"], "Request entity is too large: limit is 3145728");
    }
}
