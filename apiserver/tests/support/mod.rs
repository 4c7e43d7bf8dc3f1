//! A server in this process over the in-memory store, and ways to call it.
#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skiff_access::pki::{Pki, PkiOptions};
use skiff_access::{Access, AccessConfig, UserInfo};
use skiff_apiserver::{ApiBody, ApiServer, Config, InProcess};
use std::sync::Arc;
use tower::ServiceExt;

pub struct Fixture {
    pub server: Arc<ApiServer>,
    pub store: Arc<dyn skiff_store::Store>,
    pub pki: Pki,
    _dir: tempfile::TempDir,
}

pub async fn fixture() -> Fixture {
    fixture_over(Arc::new(skiff_store::MemoryStore::new())).await
}

/// A server over a store that may have been another one's.
pub async fn fixture_over(store: Arc<dyn skiff_store::Store>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let options = PkiOptions {
        dir: dir.path().join("pki"),
        cluster_domain: "cluster.local".into(),
        ..PkiOptions::default()
    };
    let pki = Pki::open(&options, jiff::Timestamp::now()).unwrap();
    let issuer = "https://kubernetes.default.svc.cluster.local".to_string();
    let access = Access::new(AccessConfig {
        service_account_keys: vec![pki.service_account_key().unwrap()],
        issuer: issuer.clone(),
        api_audiences: vec![issuer],
        client_ca_pem: pki.ca.certificate_pem().to_string(),
        front_proxy_ca_pem: pki.front_proxy_ca.certificate_pem().to_string(),
    })
    .unwrap();
    let config = Config {
        front_proxy_client: Some(Arc::new(pki.front_proxy_client.clone())),
        ..Config::default()
    };
    let server = ApiServer::new(config, store.clone(), access).await.unwrap();
    Fixture {
        server,
        store,
        pki,
        _dir: dir,
    }
}

pub fn user(name: &str, groups: &[&str]) -> UserInfo {
    let mut groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    groups.push("system:authenticated".into());
    groups.sort();
    UserInfo {
        name: name.into(),
        groups,
        ..UserInfo::default()
    }
}

impl Fixture {
    pub fn admin(&self) -> Caller {
        self.caller("admin", &["system:masters"])
    }

    pub fn caller(&self, name: &str, groups: &[&str]) -> Caller {
        Caller {
            service: self.server.in_process(user(name, groups)),
        }
    }

    pub fn kube(&self) -> kube::Client {
        kube::Client::new(self.server.in_process(user("admin", &["system:masters"])), "default")
    }
}

/// Calls the API as one user.
#[derive(Clone)]
pub struct Caller {
    service: InProcess,
}

impl Caller {
    pub async fn raw(&self, request: Request<Full<Bytes>>) -> Response<ApiBody> {
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// Method and path, headers, body: code and JSON.
    pub async fn send(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.raw(request.body(Full::new(body.into())).unwrap()).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (code, value)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(&format!("GET {path}"), &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(
            &format!("POST {path}"),
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(
            &format!("PUT {path}"),
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn patch(&self, kind: &str, path: &str, body: Value) -> (u16, Value) {
        let media_type = format!("application/{kind}");
        self.send(
            &format!("PATCH {path}"),
            &[("content-type", &media_type)],
            body.to_string(),
        )
        .await
    }

    pub async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(
            &format!("DELETE {path}"),
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    /// Starts a watch and reads its events.
    pub async fn watch(&self, path: &str, accept: &str) -> Events {
        let request = Request::builder()
            .uri(path)
            .header("accept", accept)
            .body(Full::default())
            .unwrap();
        let response = self.raw(request).await;
        assert_eq!(response.status(), 200, "{path}");
        Events {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// The events of a watch.
pub struct Events {
    body: ApiBody,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.frame())
                .await
                .expect("an event within 10 s");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// `TYPE name` of the next event.
    pub async fn line(&mut self) -> String {
        let event = self.next().await.expect("the watch goes on");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
        format!("{} {name}", event["type"].as_str().unwrap()).trim().to_string()
    }
}

pub fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})
}
