//! A webhook's server: HTTPS with a certificate of its own, answers by a function.
#![allow(dead_code, clippy::unwrap_used)]

use base64::Engine;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

pub struct WebhookServer {
    port: u16,
    ca: String,
    seen: Arc<Mutex<Vec<Value>>>,
    connections: Arc<Mutex<usize>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl WebhookServer {
    /// `answer` gets the path and the review's `request`, and gives the `response`
    /// less its uid; `Null` leaves the request without an answer.
    pub async fn start(
        protocols: &[&str],
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> WebhookServer {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let (recorded, counted, answer) = (seen.clone(), connections.clone(), Arc::new(answer) as Arc<Answer>);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, recorded, answer) = (acceptor.clone(), recorded.clone(), answer.clone());
                *counted.lock().unwrap() += 1;
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| one(request, recorded.clone(), answer.clone()));
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let ca = base64::engine::general_purpose::STANDARD.encode(made.cert.pem());
        WebhookServer {
            port,
            ca,
            seen,
            connections,
            accepting,
        }
    }

    /// `clientConfig` of a path on it.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.ca})
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// What it was asked since the last look: the `request` of each review.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn one(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mut response = answer(&path, &review["request"]);
    seen.lock().unwrap().push(review["request"].clone());
    if response.is_null() {
        std::future::pending::<()>().await;
    }
    if let Some(raw) = response.get("raw").and_then(Value::as_str) {
        let code = response["code"].as_u64().unwrap_or(200) as u16;
        return Ok(Response::builder()
            .status(code)
            .body(Full::new(raw.to_string().into()))
            .unwrap());
    }
    if response.get("uid").is_none() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let answer = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(answer.to_string().into()))
        .unwrap())
}

/// A response that patches.
pub fn patched(operations: Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}
