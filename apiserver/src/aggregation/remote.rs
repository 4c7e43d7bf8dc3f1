//! One group version that another server answers: where that server is, how it is
//! dialled, and what it said about itself last.

use super::availability::ServiceRef;
use super::local::Rank;
use super::merge::RemoteVersion;
use crate::body::ApiBody;
use crate::proxy::{connect, exchange, secure};
use crate::registry::text_at;
use arc_swap::ArcSwap;
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use serde_json::Value;
use skiff_access::UserInfo;
use skiff_access::authentication::request_header;
use skiff_access::pki::{self, Identity};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Largest document (discovery, OpenAPI) that is read from an extension server.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// A document must be here within this, as upstream.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A busy connection that stays silent is asked whether it lives; an idle one is not.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What an extension server's OpenAPI says about one group version.
#[derive(Debug, Clone, Default)]
pub struct OpenApi {
    /// The v2 document cut to this group version, and the name of the whole.
    pub v2: Option<Arc<Value>>,
    pub v2_etag: String,
    /// `serverRelativeURL` of the v3 document.
    pub v3: Option<String>,
}

/// What changes about a remote group version while its APIService stays the same.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub available: bool,
    pub resources: Option<Arc<Value>>,
    pub openapi: OpenApi,
    /// Hosts and ports that answer for the Service now.
    pub backends: Vec<(String, u16)>,
}

/// A connection that many requests share, and where it leads to.
type Pooled = ((String, u16), SendRequest<ApiBody>);

pub struct Remote {
    /// Name and uid of the APIService.
    pub name: String,
    pub uid: String,
    pub group: String,
    pub version: String,
    pub service: ServiceRef,
    rank: Rank,
    /// What it was made from: another spec is another `Remote`.
    spec: Value,
    /// An error is what is wrong with the spec.
    trust: Result<Trust, String>,
    pub state: ArcSwap<State>,
    pooled: Mutex<Option<Pooled>>,
}

/// How the server is known when it is dialled.
struct Trust {
    server_name: ServerName<'static>,
    /// For requests, which share a connection where the server speaks HTTP/2.
    tls: Arc<rustls::ClientConfig>,
    /// For upgrades, which HTTP/1.1 has.
    tls_http1: Arc<rustls::ClientConfig>,
}

impl Trust {
    fn of(spec: &Value, service: &ServiceRef, identity: Option<&Identity>) -> Result<Self, String> {
        let tls = client_config(spec, identity)?;
        let server_name = ServerName::try_from(format!("{}.{}.svc", service.name, service.namespace))
            .map_err(|e| format!("the Service's name is no host name: {e}"))?;
        let mut with_http2 = tls.clone();
        with_http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            server_name,
            tls: Arc::new(with_http2),
            tls_http1: Arc::new(tls),
        })
    }
}

impl Remote {
    /// `None`: the APIService names no Service.
    pub fn of(api_service: &Value, identity: Option<&Identity>) -> Option<Self> {
        let service = ServiceRef::of(api_service)?;
        let spec = &api_service["spec"];
        let number = |key: &str| spec[key].as_i64().unwrap_or(0);
        Some(Self {
            name: text_at(api_service, &["metadata", "name"]).to_string(),
            uid: text_at(api_service, &["metadata", "uid"]).to_string(),
            group: text_at(spec, &["group"]).to_string(),
            version: text_at(spec, &["version"]).to_string(),
            rank: Rank {
                group: number("groupPriorityMinimum"),
                version: number("versionPriority"),
            },
            spec: spec.clone(),
            trust: Trust::of(spec, &service, identity),
            service,
            state: ArcSwap::default(),
            pooled: Mutex::default(),
        })
    }

    /// Whether it still is what its APIService says.
    pub fn is_of(&self, api_service: &Value) -> bool {
        self.uid == text_at(api_service, &["metadata", "uid"]) && self.spec == api_service["spec"]
    }

    pub fn described(&self) -> RemoteVersion {
        let state = self.state.load();
        RemoteVersion {
            group: self.group.clone(),
            version: self.version.clone(),
            rank: self.rank,
            resources: state.resources.clone(),
            available: state.available,
        }
    }

    pub fn update(&self, change: impl Fn(&mut State)) {
        self.state.rcu(|state| {
            let mut state = (**state).clone();
            change(&mut state);
            state
        });
    }

    /// `host:port` as requests name it.
    fn authority(&self) -> String {
        format!(
            "{}.{}.svc:{}",
            self.service.name, self.service.namespace, self.service.port
        )
    }

    /// Sends a request; `path` includes the query. Upgrades get a connection of their own.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: ApiBody,
        upgrade: bool,
    ) -> Result<Response<Incoming>, String> {
        let trust = self.trust.as_ref().map_err(Clone::clone)?;
        let state = self.state.load_full();
        if !upgrade && let Some(mut sender) = self.shared(&state) {
            let request = self.request(method, path, headers, body, true)?;
            return sender.send_request(request).await.map_err(|e| e.to_string());
        }
        let count = state.backends.len();
        if count == 0 {
            return Err(format!("no endpoints available for service {:?}", self.service.name));
        }
        let (host, port) = &state.backends[rand::random_range(0..count)];
        let peer = format!("{host}:{port}");
        let tls = if upgrade { &trust.tls_http1 } else { &trust.tls };
        let stream = connect(host, *port).await?;
        let stream = secure(stream, tls, trust.server_name.clone(), &peer).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return exchange(stream, self.request(method, path, headers, body, false)?).await;
        }
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an extension server ended early");
            }
        });
        *self.lock() = Some(((host.clone(), *port), sender.clone()));
        let request = self.request(method, path, headers, body, true)?;
        sender.send_request(request).await.map_err(|e| e.to_string())
    }

    /// The connection that is open, if it leads to one of the present backends.
    fn shared(&self, state: &State) -> Option<SendRequest<ApiBody>> {
        let mut pooled = self.lock();
        match pooled.as_ref() {
            Some((place, sender)) if !sender.is_closed() && state.backends.contains(place) => Some(sender.clone()),
            _ => {
                *pooled = None;
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pooled>> {
        self.pooled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: ApiBody,
        http2: bool,
    ) -> Result<Request<ApiBody>, String> {
        let uri = if http2 {
            format!("https://{}{path}", self.authority())
        } else {
            path.to_string()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(body)
            .map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        if !http2 {
            let host = HeaderValue::from_str(&self.authority()).map_err(|e| e.to_string())?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    /// Asks for a document as `user`: its code, ETag and bytes. `etag` is what is at hand.
    pub async fn document(
        &self,
        path: &str,
        user: &UserInfo,
        accept: &str,
        etag: &str,
    ) -> Result<(u16, String, Bytes), String> {
        let mut headers = HeaderMap::new();
        name_user(&mut headers, user)?;
        for (name, value) in [(header::ACCEPT, accept), (header::IF_NONE_MATCH, etag)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
            }
        }
        let fetched = async {
            let response = self.send(Method::GET, path, headers, ApiBody::empty(), false).await?;
            let code = response.status().as_u16();
            let etag = response.headers().get(header::ETAG).and_then(|v| v.to_str().ok());
            let etag = etag.unwrap_or("").to_string();
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| e.to_string())?;
            Ok((code, etag, body.to_bytes()))
        };
        tokio::time::timeout(DOCUMENT_TIMEOUT, fetched)
            .await
            .unwrap_or_else(|_| Err("timed out".into()))
    }

    /// `https://host:port/path`, as messages name what was asked.
    pub fn shown(&self, path: &str) -> String {
        match self.state.load().backends.first() {
            Some((host, port)) => format!("https://{host}:{port}{path}"),
            None => format!("https://{}{path}", self.authority()),
        }
    }

    /// Path and URL of its OpenAPI v3 document in the index of all; `None`: it has none.
    pub fn openapi_v3_url(&self) -> Option<(String, String)> {
        let state = self.state.load();
        let own = format!("/openapi/v3{}", self.path());
        let url = match &state.openapi.v3 {
            Some(url) if url.starts_with(&own) => url.clone(),
            None if state.openapi.v2.is_none() => return None,
            _ => own,
        };
        Some((self.path().trim_start_matches('/').to_string(), url))
    }

    pub fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

/// Tells the server who asks.
pub fn name_user(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    for (name, value) in request_header::headers_of(user) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
        headers.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).map_err(|e| e.to_string())?,
        );
    }
    Ok(())
}

fn client_config(spec: &Value, identity: Option<&Identity>) -> Result<rustls::ClientConfig, String> {
    if spec["insecureSkipTLSVerify"] == true {
        return pki::client_config_unverified(identity).map_err(|e| e.to_string());
    }
    let bundle = base64::engine::general_purpose::STANDARD
        .decode(text_at(spec, &["caBundle"]))
        .map_err(|e| format!("caBundle is not base64: {e}"))?;
    if bundle.is_empty() {
        return Err("unable to load root certificates: no caBundle is given".into());
    }
    pki::client_config(&String::from_utf8_lossy(&bundle), identity)
        .map_err(|e| format!("unable to load root certificates: {e}"))
}
