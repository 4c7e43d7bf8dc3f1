//! An extension API server as Kubernetes' sample one is: it learns whom to trust from
//! the ConfigMap, takes users from a front proxy's headers or reviews their tokens,
//! asks the API server whether they may, and serves its own discovery and OpenAPI.

use crate::support::Caller;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use skiff_access::pki::{self, CERTIFICATE_LIFETIME, Ca, CertificateRequest, Usage, Voucher, Vouchers};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

pub const API: &str = "/apis/wardle.example.com/v1alpha1";

type Body = BoxBody<Bytes, Infallible>;

pub struct Extension {
    pub port: u16,
    /// PEM of the CA of its serving certificate.
    pub ca_pem: String,
    /// While false it answers 500 to everything.
    pub well: Arc<AtomicBool>,
    /// What users it saw, by the paths they asked.
    pub seen: Arc<Mutex<Vec<(String, Value)>>>,
}

struct Server {
    /// Its service account, towards the API server.
    api: Caller,
    vouchers: Vouchers,
    allowed_names: Vec<String>,
    well: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    flunders: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<Value>,
}

impl Extension {
    pub async fn start(api: Caller) -> Self {
        let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
        let (code, trust) = api.get(path).await;
        assert_eq!(code, 200, "{trust}");
        let text = |key: &str| trust["data"][key].as_str().unwrap().to_string();
        assert_eq!(text("requestheader-username-headers"), r#"["X-Remote-User"]"#);
        assert_eq!(text("requestheader-group-headers"), r#"["X-Remote-Group"]"#);
        assert_eq!(text("requestheader-extra-headers-prefix"), r#"["X-Remote-Extra-"]"#);
        let (client_ca, proxy_ca) = (text("client-ca-file"), text("requestheader-client-ca-file"));
        let now = jiff::Timestamp::now();
        let ca = Ca::create("wardle", now).unwrap();
        let request = CertificateRequest {
            common_name: "api".into(),
            organization: None,
            names: vec!["api.wardle.svc".into()],
            usage: Usage::Server,
            lifetime: CERTIFICATE_LIFETIME,
        };
        let identity = ca.issue(&request, now).unwrap();
        let tls = pki::server_config(&identity, &format!("{client_ca}{proxy_ca}")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Server {
            api,
            vouchers: Vouchers::new(&client_ca, &proxy_ca).unwrap(),
            allowed_names: serde_json::from_str(&text("requestheader-allowed-names")).unwrap(),
            well: Arc::new(AtomicBool::new(true)),
            seen: Arc::default(),
            flunders: Mutex::default(),
            events: broadcast::channel(64).0,
        });
        let extension = Self {
            port,
            ca_pem: ca.certificate_pem().to_string(),
            well: server.well.clone(),
            seen: server.seen.clone(),
        };
        tokio::spawn(accept(listener, Arc::new(tls), server));
        extension
    }
}

async fn accept(listener: TcpListener, tls: Arc<rustls::ServerConfig>, server: Arc<Server>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, server) = (acceptor.clone(), server.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let chain: Vec<CertificateDer<'static>> =
                stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let service = service_fn(move |request| {
                let (server, chain) = (server.clone(), chain.clone());
                async move { Ok::<_, Infallible>(server.answer(request, &chain).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    let builder = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    builder.body(body).unwrap()
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, chain: &[CertificateDer<'static>]) -> Response<Body> {
        if !self.well.load(Ordering::SeqCst) {
            return answer(500, &json!({"kind": "Status", "code": 500}));
        }
        let path = request.uri().path().to_string();
        let Some(user) = self.user(&request, chain).await else {
            return answer(
                401,
                &json!({"kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}),
            );
        };
        self.seen.lock().unwrap().push((path.clone(), user.clone()));
        if !self.may(&user, request.method(), &path).await {
            let text = format!("{} may not", user["user"]);
            return answer(
                403,
                &json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": text}),
            );
        }
        match path.as_str() {
            "/apis/wardle.example.com/v1alpha1" => answer(200, &resources()),
            "/openapi/v2" => answer(200, &openapi_v2()),
            "/openapi/v3" => answer(
                200,
                &json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=F1"}}}),
            ),
            "/openapi/v3/apis/wardle.example.com/v1alpha1" => answer(
                200,
                &json!({"openapi": "3.0.0", "components": {"schemas": {"Flunder": {"description": "of v3"}}}}),
            ),
            _ => self.flunder(request, &path).await,
        }
    }

    /// By a front proxy's headers, or by a token that the API server reviews.
    async fn user(&self, request: &Request<Incoming>, chain: &[CertificateDer<'static>]) -> Option<Value> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .map(str::to_string)
        };
        if self.vouchers.of(chain) == Some(Voucher::FrontProxy)
            && self.allowed_names.contains(&pki::common_name(&chain[0]).unwrap())
            && let Some(name) = header("x-remote-user")
        {
            let mut groups: Vec<String> = request
                .headers()
                .get_all("x-remote-group")
                .iter()
                .map(|v| v.to_str().unwrap().to_string())
                .collect();
            groups.push("system:authenticated".into());
            return Some(
                json!({"user": name, "groups": groups, "extra": header("x-remote-extra-example.com%2Fteam"),
                "authorization": header("authorization")}),
            );
        }
        let token = header("authorization")?.strip_prefix("Bearer ")?.to_string();
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let (_, review) = self
            .api
            .post("/apis/authentication.k8s.io/v1/tokenreviews", review)
            .await;
        (review["status"]["authenticated"] == true).then(
            || json!({"user": review["status"]["user"]["username"], "groups": review["status"]["user"]["groups"]}),
        )
    }

    async fn may(&self, user: &Value, method: &Method, path: &str) -> bool {
        if user["groups"].as_array().unwrap().contains(&json!("system:masters")) {
            return true;
        }
        let mut spec = user.clone();
        spec.as_object_mut()
            .unwrap()
            .retain(|key, _| key == "user" || key == "groups");
        let parts: Vec<&str> = path.split('/').collect();
        if parts.contains(&"flunders") {
            let verb = match *method {
                Method::POST => "create",
                Method::DELETE => "delete",
                _ if parts.last() == Some(&"flunders") => "list",
                _ => "get",
            };
            spec["resourceAttributes"] =
                json!({"group": "wardle.example.com", "resource": "flunders", "namespace": "default", "verb": verb});
        } else {
            spec["nonResourceAttributes"] = json!({"path": path, "verb": "get"});
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let (code, review) = self
            .api
            .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            .await;
        assert_eq!(code, 201, "{review}");
        review["status"]["allowed"] == true
    }

    async fn flunder(&self, mut request: Request<Incoming>, path: &str) -> Response<Body> {
        let Some(name) = path.strip_prefix(&format!("{API}/namespaces/default/flunders")) else {
            return answer(
                404,
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
            );
        };
        let name = name.trim_start_matches('/').to_string();
        if let Some(name) = name.strip_suffix("/echo") {
            return echo(&mut request, name);
        }
        let watch = request.uri().query().unwrap_or("").contains("watch=");
        let missing = || {
            answer(
                404,
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
            )
        };
        match *request.method() {
            Method::GET if watch => self.watch(),
            Method::GET if name.is_empty() => {
                let items: Vec<Value> = self.flunders.lock().unwrap().values().cloned().collect();
                answer(
                    200,
                    &json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "FlunderList", "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            Method::GET => self
                .flunders
                .lock()
                .unwrap()
                .get(&name)
                .map_or_else(missing, |f| answer(200, f)),
            Method::POST => {
                let body = request.body_mut().collect().await.unwrap().to_bytes();
                let object: Value = serde_json::from_slice(&body).unwrap();
                let name = object["metadata"]["name"].as_str().unwrap().to_string();
                self.flunders.lock().unwrap().insert(name, object.clone());
                let _ = self.events.send(json!({"type": "ADDED", "object": object}));
                answer(201, &object)
            }
            Method::DELETE => match self.flunders.lock().unwrap().remove(&name) {
                Some(object) => answer(200, &object),
                None => missing(),
            },
            _ => answer(405, &json!({"kind": "Status", "code": 405})),
        }
    }

    fn watch(&self) -> Response<Body> {
        let events = futures::stream::unfold(self.events.subscribe(), |mut events| async {
            let event: Value = events.recv().await.ok()?;
            Some((Bytes::from(format!("{event}\n")), events))
        });
        let body = StreamBody::new(events.map(|bytes| Ok(Frame::data(bytes))));
        let builder = Response::builder().header("content-type", "application/json");
        builder
            .body(BodyExt::boxed(SyncBody(Mutex::new(Box::pin(body)))))
            .unwrap()
    }
}

/// A stream's body that may be shared, as boxing asks.
struct SyncBody<B>(Mutex<std::pin::Pin<Box<B>>>);

impl<B: http_body::Body<Data = Bytes, Error = Infallible> + Send> http_body::Body for SyncBody<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.lock().unwrap().as_mut().poll_frame(cx)
    }
}

/// Upgrades and sends back what comes, with the name before it.
fn echo(request: &mut Request<Incoming>, name: &str) -> Response<Body> {
    let upgrade = hyper::upgrade::on(request);
    let name = name.to_string();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        let text = format!("{name} {}", String::from_utf8_lossy(&bytes));
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let builder = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "test");
    builder.body(Full::default().boxed()).unwrap()
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "shortNames": ["fl"],
            "verbs": ["create", "delete", "get", "list", "watch"]},
    ]})
}

fn openapi_v2() -> Value {
    let name = "io.k8s.sample.v1alpha1.Flunder";
    json!({"swagger": "2.0", "info": {"title": "wardle", "version": "0.1"},
        "paths": {
            "/apis/wardle.example.com/v1alpha1/flunders": {"get": {"operationId": "listFlunders", "produces": ["application/json"],
                "responses": {"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{name}")}}}}},
            "/version/": {"get": {"responses": {"200": {"description": "not to be taken"}}}},
        },
        "definitions": {name: {"type": "object", "description": "A flunder.",
            "x-kubernetes-group-version-kind": [{"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}]}}})
}
