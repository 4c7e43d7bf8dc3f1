//! Calls to webhooks: an endpoint by URL or Service, a CA bundle, one POST of
//! JSON, one answer, in time. Used by admission and by the conversion of
//! custom resources.
//!
//! ```text
//! clientConfig -> Webhook (pure) -> resolve (Service -> endpoint) -> pool -> POST -> body | why not
//! ```
//!
//! Failures are texts in the words of Kubernetes' own client, because people
//! and tests look for them in what a write is answered with. A webhook is never
//! shown a credential of the server's.

mod answer;
mod connect;
mod trust;

use bytes::Bytes;
use connect::{Connector, DialError};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use skiff_access::Objects;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Pools kept: one per webhook server and endpoint. Far more than a cluster
/// has; beyond it all are dropped and made anew when they are asked for.
const POOLS_MAX: usize = 256;
/// Idle connections go after this, as in Go's client.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// An HTTP/2 connection that answers no ping in this time is given up, as in client-go.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What is sent as `User-Agent`.
const USER_AGENT: &str = concat!("kube-apiserver-admission skiff/", env!("CARGO_PKG_VERSION"));

/// A `clientConfig`: where a webhook is and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Webhook {
    endpoint: Endpoint,
    /// PEM; none: the system's own.
    ca_bundle: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Endpoint {
    Url(url::Url),
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// Starts with a slash.
        path: String,
    },
}

impl Webhook {
    /// Reads a `clientConfig`, of admission or of conversion.
    pub fn of(config: &Value) -> Result<Self, String> {
        let ca_bundle = match config["caBundle"].as_str().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
                    .map_err(|error| format!("caBundle is not base64: {error}"))?,
            ),
        };
        let service = &config["service"];
        let endpoint = if service.is_object() {
            let text = |key: &str| service[key].as_str().unwrap_or("").to_string();
            let port = service["port"].as_u64().unwrap_or(443);
            let path = text("path");
            Endpoint::Service {
                namespace: text("namespace"),
                name: text("name"),
                port: u16::try_from(port).map_err(|_| format!("invalid port {port}"))?,
                path: format!("/{}", path.trim_start_matches('/')),
            }
        } else {
            let text = config["url"].as_str().unwrap_or("");
            if text.is_empty() {
                return Err("either a service reference or a url is required".into());
            }
            let url = url::Url::parse(text).map_err(|error| format!("Unparsable webhook URL: {error}"))?;
            if url.scheme() != "https" || url.host_str().is_none() {
                return Err(format!("webhook URL {text:?} must be https and name a host"));
            }
            Endpoint::Url(url)
        };
        Ok(Self { endpoint, ca_bundle })
    }

    /// The name in the server's certificate, and the port that is asked for.
    fn host(&self) -> (String, u16) {
        match &self.endpoint {
            Endpoint::Url(url) => {
                let host = url.host_str().unwrap_or("");
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                (bare.to_string(), url.port().unwrap_or(443))
            }
            Endpoint::Service {
                namespace, name, port, ..
            } => (format!("{name}.{namespace}.svc"), *port),
        }
    }

    /// The URL with the time that is left, as Kubernetes' client tells servers.
    fn url(&self, timeout: Duration) -> String {
        let mut url = match &self.endpoint {
            Endpoint::Url(url) => url.clone(),
            Endpoint::Service {
                namespace,
                name,
                port,
                path,
            } => {
                let text = format!("https://{name}.{namespace}.svc:{port}{path}");
                match url::Url::parse(&text) {
                    Ok(url) => url,
                    Err(_) => return text,
                }
            }
        };
        let seconds = timeout.as_millis().div_ceil(1000);
        url.query_pairs_mut().append_pair("timeout", &format!("{seconds}s"));
        // The default port is dropped on parsing; Kubernetes' client shows it for Services.
        match &self.endpoint {
            Endpoint::Service { port: 443, .. } => url.as_str().replacen(".svc/", ".svc:443/", 1),
            _ => url.into(),
        }
    }
}

/// Where the connection goes: the endpoint behind a Service, or a URL's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Address {
    host: String,
    port: u16,
}

#[derive(PartialEq, Eq, Hash)]
struct PoolKey {
    address: Address,
    server_name: String,
    ca_bundle: Option<Vec<u8>>,
}

type Pool = Client<Connector, Full<Bytes>>;

/// Keeps connections to webhooks, and makes them.
#[derive(Default)]
pub(crate) struct WebhookClient {
    pools: Mutex<HashMap<PoolKey, Pool>>,
}

impl WebhookClient {
    /// POSTs JSON and answers the body of a 2xx. `Err` says why there is none:
    /// `Post "https://...": context deadline exceeded`, or the error that the
    /// server answered with. `answer_bytes_max` bounds what is read.
    pub async fn post(
        &self,
        webhook: &Webhook,
        objects: &dyn Objects,
        body: impl Into<Bytes>,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> Result<Bytes, String> {
        let url = webhook.url(timeout);
        let address = resolve(webhook, objects).map_err(|why| format!("Post {url:?}: {why}"))?;
        let pool = self
            .pool(webhook, address)
            .map_err(|why| format!("Post {url:?}: {why}"))?;
        let exchange = exchange(&pool, &url, body.into(), answer_bytes_max);
        match tokio::time::timeout(timeout, exchange).await {
            Err(_) => Err(format!("Post {url:?}: context deadline exceeded")),
            Ok(Err(Failure::Transport(why))) => Err(format!("Post {url:?}: {why}")),
            Ok(Err(Failure::Status(why))) => Err(why),
            Ok(Ok(bytes)) => Ok(bytes),
        }
    }

    fn pool(&self, webhook: &Webhook, address: Address) -> Result<Pool, String> {
        let (server_name, _) = webhook.host();
        let key = PoolKey {
            address,
            server_name,
            ca_bundle: webhook.ca_bundle.clone(),
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let tls = trust::client_config(key.ca_bundle.as_deref())?;
        let connector = Connector::new(&key.address.host, key.address.port, &key.server_name, Arc::new(tls))?;
        let pool = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        if pools.len() >= POOLS_MAX {
            pools.clear();
        }
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

/// The way to a Service is decided here and not by its address: this machine
/// need not route the addresses of Services.
fn resolve(webhook: &Webhook, objects: &dyn Objects) -> Result<Address, String> {
    let Endpoint::Service {
        namespace, name, port, ..
    } = &webhook.endpoint
    else {
        let (host, port) = webhook.host();
        return Ok(Address { host, port });
    };
    let service = objects
        .get("", "services", namespace, name)
        .ok_or_else(|| format!("service {name:?} not found"))?;
    let of_spec = |key: &str| service["spec"][key].as_str().unwrap_or("");
    if of_spec("type") == "ExternalName" {
        return Ok(Address {
            host: of_spec("externalName").to_string(),
            port: *port,
        });
    }
    let slices = objects.list("discovery.k8s.io", "endpointslices", namespace);
    let (host, port) = crate::proxy::endpoint_of(&service, &slices, name, &port.to_string(), rand::random())
        .map_err(|error| error.message)?;
    Ok(Address { host, port })
}

enum Failure {
    /// Nothing (whole) came back.
    Transport(String),
    /// The server answered with an error.
    Status(String),
}

async fn exchange(pool: &Pool, url: &str, body: Bytes, answer_bytes_max: usize) -> Result<Bytes, Failure> {
    let response = match send(pool, url, body.clone()).await {
        // A kept connection that the server had closed meanwhile: it read nothing of this.
        Err(error) if !error.is_connect() && closed_early(&error) => send(pool, url, body).await,
        other => other,
    };
    let response = response.map_err(|error| Failure::Transport(why(&error)))?;
    let status = response.status().as_u16();
    let limited = Limited::new(response.into_body(), answer_bytes_max);
    let bytes = limited.collect().await.map_err(|error| {
        Failure::Transport(if error.is::<LengthLimitError>() {
            format!("the answer is longer than {answer_bytes_max} bytes")
        } else {
            "unexpected EOF".to_string()
        })
    })?;
    let bytes = bytes.to_bytes();
    if (200..=206).contains(&status) {
        Ok(bytes)
    } else {
        Err(Failure::Status(answer::refusal(status, &bytes)))
    }
}

async fn send(pool: &Pool, url: &str, body: Bytes) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(body))
        .unwrap_or_else(|_| Request::new(Full::default()));
    pool.request(request).await
}

fn closed_early(error: &(dyn Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        }
        source = error.source();
    }
    false
}

/// The innermost reason, in Go's words where there are some.
fn why(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(dial) = innermost.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if let Some(error) = innermost.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return "EOF".into();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => return innermost.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints() {
        let ten = Duration::from_secs(10);
        let url = |config: Value| Webhook::of(&config).map(|w| (w.url(ten), w.host()));
        let service = |port: u64, path: &str| {
            url(json!({"service": {"namespace": "ns", "name": "hook", "port": port, "path": path}}))
        };
        let host = ("hook.ns.svc".to_string(), 443);
        let text = |text: &str| text.to_string();
        assert_eq!(
            service(443, "/mutate"),
            Ok((text("https://hook.ns.svc:443/mutate?timeout=10s"), host.clone()))
        );
        assert_eq!(
            service(443, ""),
            Ok((text("https://hook.ns.svc:443/?timeout=10s"), host))
        );
        assert_eq!(
            service(8443, "a/b").unwrap().0,
            "https://hook.ns.svc:8443/a/b?timeout=10s"
        );
        assert!(service(70000, "/").is_err());
        assert_eq!(
            url(json!({"url": "https://hook.example.com:9443/x"})),
            Ok((
                text("https://hook.example.com:9443/x?timeout=10s"),
                (text("hook.example.com"), 9443)
            ))
        );
        assert_eq!(url(json!({"url": "https://[::1]/x"})).unwrap().1, (text("::1"), 443));
        assert!(url(json!({"url": "http://hook.example.com/x"})).is_err());
        assert!(url(json!({})).is_err());
        assert!(url(json!({"url": "https://x/", "caBundle": "%"})).is_err());
    }

    struct Cluster(Vec<(&'static str, Arc<Value>)>);

    impl Objects for Cluster {
        fn get(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<Arc<Value>> {
            let mut of_kind = self.0.iter().filter(|(kind, _)| *kind == resource);
            let found = of_kind.find(|(_, object)| object["metadata"]["name"] == name);
            found.map(|(_, object)| object.clone())
        }

        fn list(&self, _: &str, resource: &str, _: &str) -> Vec<Arc<Value>> {
            let of_kind = self.0.iter().filter(|(kind, _)| *kind == resource);
            of_kind.map(|(_, object)| object.clone()).collect()
        }

        fn generation(&self, _: &str, _: &str) -> u64 {
            0
        }
    }

    #[test]
    fn services_lead_to_their_endpoints() {
        let service =
            |name: &str, spec: Value| ("services", Arc::new(json!({"metadata": {"name": name}, "spec": spec})));
        let ports = json!([{"name": "https", "port": 443, "targetPort": 8443}]);
        let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
            "ports": [{"name": "https", "port": 8443}], "endpoints": [{"addresses": ["10.1.2.3"]}]});
        let cluster = Cluster(vec![
            service("hook", json!({"type": "ClusterIP", "ports": ports})),
            service("idle", json!({"type": "ClusterIP", "ports": ports})),
            service(
                "far",
                json!({"type": "ExternalName", "externalName": "far.example.com"}),
            ),
            ("endpointslices", Arc::new(slice)),
        ]);
        let resolved = |name: &str, port: u64| {
            let config = json!({"service": {"namespace": "ns", "name": name, "port": port}});
            resolve(&Webhook::of(&config).unwrap(), &cluster).map(|address| (address.host, address.port))
        };
        assert_eq!(resolved("hook", 443), Ok(("10.1.2.3".to_string(), 8443)));
        assert_eq!(resolved("far", 444), Ok(("far.example.com".to_string(), 444)));
        assert_eq!(resolved("none", 443), Err("service \"none\" not found".to_string()));
        assert_eq!(
            resolved("idle", 443),
            Err("no endpoints available for service \"idle\"".to_string())
        );
        assert!(
            resolved("hook", 80)
                .unwrap_err()
                .contains("no service port \"80\" found")
        );
    }

    #[test]
    fn times_are_rounded_up() {
        let webhook = Webhook::of(&json!({"url": "https://h/"})).unwrap();
        assert_eq!(webhook.url(Duration::from_millis(1001)), "https://h/?timeout=2s");
    }
}
