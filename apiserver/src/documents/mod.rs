//! Everything that is not an object: discovery, OpenAPI, health, version,
//! metrics, the issuer's documents. All derive from the table of kinds.

mod discovery;
mod health;
mod openapi;

use crate::aggregation::{self, Group};
use crate::body::ApiBody;
use crate::codec;
use crate::handler::ServerCall;
use crate::request::{Encoding, Form, negotiate};
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use http::{Response, header};
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_metrics::about;
use std::collections::HashMap;
use std::sync::Mutex;

/// Version of the API that is served.
const MAJOR: &str = "1";
const MINOR: &str = "36";
pub(crate) const GIT_VERSION: &str = "v1.36.0+skiff";

/// Where the state of priority and fairness is shown.
const FLOW_PAGES: &str = "/debug/api_priority_and_fairness/";

/// Documents that were asked for once, until what they tell of changes.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<HashMap<String, (Bytes, String)>>,
}

impl Documents {
    /// What they tell of has changed: they are made anew.
    pub fn forget(&self) {
        self.made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }

    /// The document under `key` with its ETag, made on first use.
    fn get(&self, key: &str, make: impl FnOnce() -> Result<Bytes, ApiError>) -> Result<(Bytes, String), ApiError> {
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = made.get(key) {
            return Ok(found.clone());
        }
        let bytes = make()?;
        let etag = etag(&bytes);
        made.insert(key.to_string(), (bytes.clone(), etag.clone()));
        Ok((bytes, etag))
    }
}

/// A name for these bytes; equal bytes have equal names on every server.
fn etag(bytes: &[u8]) -> String {
    format!(
        "\"{}\"",
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, bytes)
            .simple()
            .to_string()
            .to_uppercase()
    )
}

fn figures(page: String) -> Result<Response<ApiBody>, ApiError> {
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    respond::bytes(200, kind, Bytes::from(page), &[], false)
}

fn about(path: &str, accept: &str) -> Result<Response<ApiBody>, ApiError> {
    let component = about::Component {
        name: "kube-apiserver",
        version: GIT_VERSION,
        paths: &PAGES,
    };
    let plain = "text/plain; charset=utf-8";
    match component.page(path, accept) {
        Some((kind, page)) => respond::bytes(200, kind, Bytes::from(page), &[], false),
        None => respond::bytes(
            406,
            plain,
            Bytes::from_static(about::NOT_ACCEPTABLE.as_bytes()),
            &[],
            false,
        ),
    }
}

/// Documents that upstream's router serves, besides groups and their versions.
const ROUTED: [&str; 5] = [
    "/api",
    "/apis",
    "/version",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];
/// Documents that lie beside the router.
const BESIDE: [&str; 5] = ["", "/metrics", "/metrics/slis", "/statusz", "/flagz"];
/// Pages that `/statusz` points at.
const PAGES: [&str; 7] = [
    "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version",
];

impl ApiServer {
    pub(crate) async fn document(&self, call: &ServerCall) -> Result<Response<ApiBody>, ApiError> {
        let path = call.info.path.trim_end_matches('/');
        let accept = call.header(header::ACCEPT);
        if let Some(page) = path.strip_prefix(FLOW_PAGES).and_then(|name| self.flow.page(name)) {
            return respond::bytes(200, "text/plain; charset=utf-8", Bytes::from(page), &[], false);
        }
        let of_group = match path {
            "/api" | "/apis" => None,
            _ => self.group_document(call, path),
        };
        let routed = of_group.is_some() || ROUTED.contains(&path);
        if !routed && !BESIDE.contains(&path) && health::path(path).is_none() && !path.starts_with("/openapi/") {
            return Ok(respond::page_not_found());
        }
        // Upstream's router knows GET alone; what lies beside it knows HEAD.
        if call.info.verb != "get" && (routed || call.info.verb != "head") {
            return Err(ApiError::no_method());
        }
        if let Some(answer) = of_group {
            return answer;
        }
        match path {
            "" => respond::plain(200, accept, &json!({"paths": self.root_paths()})),
            "/version" => respond::plain(200, accept, &version()),
            "/api" | "/apis" => self.groups_document(call, path),
            "/metrics" => figures(self.metrics_page()),
            "/metrics/slis" => figures(self.checks_page()),
            "/statusz" | "/flagz" => about(path, accept),
            "/.well-known/openid-configuration" => {
                let uri = format!("{}/openid/v1/jwks", self.access.issuer().trim_end_matches('/'));
                respond::plain(200, "application/json", &self.access.openid_configuration(&uri))
            }
            "/openid/v1/jwks" => {
                let body = codec::encode(Encoding::Json, &self.access.jwks())?;
                respond::bytes(200, "application/jwk-set+json", body, &[], false)
            }
            _ => match health::path(path) {
                Some((base, single)) => self.health(call, base, single).await,
                None => self.openapi(call, path).await,
            },
        }
    }

    fn root_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = [
            "/.well-known/openid-configuration",
            "/api",
            "/api/v1",
            "/apis",
            "/flagz",
            "/healthz",
            "/livez",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/statusz",
            "/version",
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        for group in self.groups() {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(
                group
                    .versions
                    .iter()
                    .map(|v| format!("/apis/{}/{}", group.name, v.name)),
            );
        }
        paths.sort();
        paths
    }

    /// All groups but the core one, those that other servers answer too.
    fn groups(&self) -> Vec<Group> {
        aggregation::groups(&self.catalog(), &self.aggregation.remotes())
    }

    fn groups_document(&self, call: &ServerCall, path: &str) -> Result<Response<ApiBody>, ApiError> {
        let accept = call.header(header::ACCEPT);
        let negotiated = negotiate(accept, &[Form::Discovery])?;
        if negotiated.form == Form::Discovery && negotiated.encoding != Encoding::Yaml {
            let version = if negotiated.beta { "v2beta1" } else { "v2" };
            let key = format!("{path}:{version}");
            let (body, etag) = self.documents.get(&key, || {
                let catalog = self.catalog();
                let document = if path == "/api" {
                    discovery::aggregated_core(&catalog, version)
                } else {
                    discovery::aggregated(&catalog, &self.groups(), version)
                };
                codec::encode(Encoding::Json, &document)
            })?;
            let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            return cached(call, &media_type, body, &etag);
        }
        let value = if path == "/api" {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs":
                [{"clientCIDR": "0.0.0.0/0", "serverAddress": format!("{}:{}", self.config.advertise_address, self.config.advertise_port)}]})
        } else {
            discovery::group_list(&self.groups())
        };
        respond::plain(200, accept, &value)
    }

    /// `/apis/<group>`, `/apis/<group>/<version>`, `/api/v1`.
    fn group_document(&self, call: &ServerCall, path: &str) -> Option<Result<Response<ApiBody>, ApiError>> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let value = match parts.as_slice() {
            ["api", version] => discovery::resource_list(&self.catalog(), "", version),
            ["apis", group] => discovery::group(&self.groups(), group),
            ["apis", group, version] => discovery::resource_list(&self.catalog(), group, version),
            _ => None,
        }?;
        Some(respond::plain(200, call.header(header::ACCEPT), &value))
    }
}

/// A document that clients may keep and ask for again with `If-None-Match`.
fn cached(call: &ServerCall, media_type: &str, body: Bytes, etag: &str) -> Result<Response<ApiBody>, ApiError> {
    let fresh = etag_of(call) == etag;
    let mut response = if fresh {
        respond::bytes(304, media_type, Bytes::new(), &[], false)?
    } else {
        respond::bytes(200, media_type, body, &[], call.accepts_gzip())?
    };
    if let Ok(value) = http::HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, http::HeaderValue::from_static("public"));
    response
        .headers_mut()
        .append(header::VARY, http::HeaderValue::from_static("Accept"));
    Ok(response)
}

fn etag_of(call: &ServerCall) -> &str {
    call.header(header::IF_NONE_MATCH)
}

fn not_found() -> ApiError {
    let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
    error.details = Some(json!({}));
    error
}

fn version() -> Value {
    json!({"major": MAJOR, "minor": MINOR, "emulationMajor": MAJOR, "emulationMinor": MINOR, "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": "35", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })})
}
