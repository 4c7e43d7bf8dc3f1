//! From a request's parts to the verb that answers it.

use super::deadline;
use super::identity::{Peer, ServerCall};
use super::served::{Served, media_types, served};
use super::websocket;
use crate::body::ApiBody;
use crate::config::OWN_PAGES;
use crate::metrics::{self, RequestKey};
use crate::registry::subresource;
use crate::request::{OptionKind, QueryOptions, bad_segment, parse_info};
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use futures::FutureExt;
use http::{Response, header, request::Parts};
use skiff_api::ApiError;
use skiff_kinds::{KindRef, Subresource};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// The resource that a path names, found in the table.
#[derive(Clone)]
pub(crate) struct Target {
    pub kind: KindRef,
    pub version: &'static str,
    pub sub: Option<&'static Subresource>,
}

impl Target {
    /// The resource itself, without its subresource.
    pub fn main(&self) -> Self {
        Self {
            sub: None,
            ..self.clone()
        }
    }

    pub fn sub_name(&self) -> &'static str {
        self.sub.map_or("", |s| s.name)
    }
}

/// Whether a person will read the answer: asked for, or asked with a program for people, as upstream.
fn wants_pretty(query: &str, headers: &http::HeaderMap) -> bool {
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "pretty");
    match asked {
        Some((_, value)) if !value.is_empty() => matches!(value.as_ref(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
        _ => {
            let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
            agent.is_some_and(|a| ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| a.starts_with(p)))
        }
    }
}

/// Longest Audit-ID that is taken over from a client, as upstream.
const AUDIT_ID_BYTES_MAX: usize = 64;

/// The name of this request in logs: the client's, if it gave one.
fn audit_id(headers: &http::HeaderMap) -> http::HeaderValue {
    let given = headers
        .get("audit-id")
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    let given = &given[..given.len().min(AUDIT_ID_BYTES_MAX)];
    let own = || http::HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
    let id = if given.is_empty() {
        own().ok()
    } else {
        http::HeaderValue::from_bytes(given).ok()
    };
    id.unwrap_or_else(|| http::HeaderValue::from_static("-"))
}

fn is_plain_json(headers: &http::HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_ENCODING)
        && headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/json"))
}

impl ApiServer {
    /// Answers one request; never fails, never panics.
    pub(crate) async fn answer(self: &Arc<Self>, mut parts: Parts, body: Bytes, peer: Peer) -> Response<ApiBody> {
        let accept = parts
            .headers
            .get(header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_string();
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let audit_id = audit_id(&parts.headers);
        let started = std::time::Instant::now();
        let method = parts.method.clone();
        let pretty = wants_pretty(parts.uri.query().unwrap_or(""), &parts.headers);
        let path = parts.uri.path().to_string();
        let answered = AssertUnwindSafe(self.authorised(parts, body, upgrade, peer))
            .catch_unwind()
            .await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => respond::error(&error, &accept),
            Err(_) => {
                tracing::error!(%method, path, "a request handler panicked; this is a defect of the server");
                respond::error(
                    &ApiError::internal("the request handler failed; see the server's log"),
                    &accept,
                )
            }
        };
        if pretty && is_plain_json(response.headers()) {
            let body = std::mem::replace(response.body_mut(), ApiBody::empty());
            *response.body_mut() = body.pretty();
        }
        if method == http::Method::HEAD {
            // HTTP/2 forbids data here, and hyper leaves that to us.
            *response.body_mut() = ApiBody::empty();
        }
        let code = response.status().as_u16();
        tracing::debug!(%method, path, code, took_us = started.elapsed().as_micros() as u64, "request");
        let headers = response.headers_mut();
        headers.insert("audit-id", audit_id);
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(
                header::CACHE_CONTROL,
                http::HeaderValue::from_static("no-cache, private"),
            );
        }
        response
    }

    async fn authorised(
        self: &Arc<Self>,
        mut parts: Parts,
        body: Bytes,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
        peer: Peer,
    ) -> Result<Response<ApiBody>, ApiError> {
        websocket::take_token(&mut parts.headers);
        let query = parts.uri.query().unwrap_or("").to_string();
        let path = parts.uri.path();
        let user = self.authenticate(&peer, &parts.headers)?;
        let user = self.impersonate(user, &parts.headers)?;
        let options = QueryOptions::parse(&query);
        let info = parse_info(&parts.method, path, options.watch, options.name_selected())
            .ok_or_else(|| ApiError::bad_request("the request path cannot be read"))?;
        let entered = match self.enter(&user, &info, &options).await {
            Ok(entered) => entered,
            Err(refused) => return Ok(refused),
        };
        let accept = parts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
        let accept = accept.unwrap_or("").to_string();
        let limit = deadline::of(&info, &query)?;
        let call = ServerCall {
            info,
            options,
            query,
            method: parts.method,
            headers: parts.headers,
            user,
            body,
            upgrade,
        };
        let writes = !matches!(call.info.verb, "get" | "list" | "watch" | "head");
        let inflight = limit.map(|_| self.metrics.inflight(writes));
        let mut key = None;
        let started = std::time::Instant::now();
        let outcome = deadline::within(limit, Box::pin(self.admitted(call, &mut key))).await;
        let mut response = outcome.unwrap_or_else(|error| respond::error(&error, &accept));
        drop(inflight);
        if let Some(key) = key {
            let size = http_body::Body::size_hint(response.body()).exact();
            let seconds = started.elapsed().as_secs_f64();
            let code = response.status().as_u16();
            self.metrics.requests.answered(key, code, seconds, size);
        }
        entered.mark(&mut response);
        Ok(response)
    }

    /// Answers a request whose turn it is; `key` is set to what it counts as.
    async fn admitted(
        self: &Arc<Self>,
        call: ServerCall,
        key: &mut Option<RequestKey>,
    ) -> Result<Response<ApiBody>, ApiError> {
        if let Err(refused) = self.authorize(&call.user, &call.info, &call.options) {
            return Ok(respond::refused(&refused, call.header(header::ACCEPT)));
        }
        if let Some(remote) = self.aggregation.find(&call.info.path) {
            return Ok(self.forward_remote(call, &remote).await);
        }
        if Self::is_resource_metrics(&call.info.path) {
            return Box::pin(self.resource_metrics(&call)).await;
        }
        if call.info.path.starts_with(OWN_PAGES) {
            return Box::pin(self.own_page(&call)).await;
        }
        if !call.info.is_resource {
            return self.document(&call).await;
        }
        let target = match self.target(&call) {
            Ok(target) => target,
            Err(missing) => return missing.answer(),
        };
        let applies = call.header(header::CONTENT_TYPE).starts_with("application/apply-patch");
        *key = Some(metrics::key(&call.info, &target, applies, call.options.dry_run));
        let warning = deprecation(&target);
        let accept = call.header(header::ACCEPT).to_string();
        let outcome = Box::pin(self.resource(call, &target)).await;
        let Some(warning) = warning else {
            return outcome;
        };
        let mut response = outcome.unwrap_or_else(|error| respond::error(&error, &accept));
        respond::warn(&mut response, &warning);
        Ok(response)
    }

    async fn own_page(&self, call: &ServerCall) -> Result<Response<ApiBody>, ApiError> {
        let answered = match &self.config.own_pages {
            Some(pages) => pages.answer(&call.method, &call.info.path, &call.body).await,
            None => None,
        };
        match answered {
            Some(answer) => respond::plain(200, call.header(header::ACCEPT), &answer?),
            None => Ok(respond::page_not_found()),
        }
    }

    /// The kind that a path names, if its method is served there.
    fn target(&self, call: &ServerCall) -> Result<Target, Missing> {
        let info = &call.info;
        let catalog = self.catalog();
        if catalog.versions(&info.group).is_empty() {
            return Err(Missing::Page);
        }
        let kind = catalog.resource(&info.group, &info.resource).ok_or(Missing::Resource)?;
        let missing = if kind.custom.is_some() {
            Missing::Page
        } else {
            Missing::Resource
        };
        let version = kind
            .versions
            .iter()
            .find(|v| **v == info.version)
            .ok_or_else(|| missing.clone())?;
        let sub = match info.subresource.as_str() {
            "" => None,
            name => Some(
                subresource(kind, name)
                    .filter(|_| kind.custom.as_ref().is_none_or(|c| c.has_subresource(version, name)))
                    .ok_or_else(|| missing.clone())?,
            ),
        };
        let target = Target {
            kind: kind.clone(),
            version,
            sub,
        };
        match served(kind, sub, info, &call.method) {
            Served::Yes => Ok(target),
            Served::NoPath => Err(missing),
            Served::NoMethod if kind.custom.is_some() => Err(Missing::CustomVerb(target, info.verb)),
            Served::NoMethod => Err(Missing::Method),
        }
    }

    async fn resource(self: &Arc<Self>, call: ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        let verb = call.info.verb;
        if let Some(why) = bad_segment(&call.info.name) {
            let text = format!("Name parameter invalid: {:?}: {why}", call.info.name);
            return Err(ApiError::bad_request(text));
        }
        if kind.custom.is_none() && target.sub.is_none_or(|sub| matches!(sub.name, "status" | "scale")) {
            media_types(
                &call.info,
                call.header(header::ACCEPT),
                call.header(header::CONTENT_TYPE),
            )?;
        }
        match verb {
            "create" => call.options.check(OptionKind::Create)?,
            "update" => call.options.check(OptionKind::Update)?,
            "patch" => call.options.check(OptionKind::Patch)?,
            _ => {}
        }
        if let Some(sub) = target.sub {
            return self.special(call, target, sub).await;
        }
        if let Some(answer) = self.virtual_kind(&call, target).await {
            return answer;
        }
        match verb {
            "get" => self.get(&call, target).await,
            "list" => self.list(&call, target).await,
            "watch" if kind.verbs.contains(&"watch") => self.watch(&call, target).await,
            "create" => self.create(&call, target).await,
            "update" => self.update(&call, target).await,
            "patch" => self.patch(&call, target).await,
            "delete" => self.delete(&call, target).await,
            "deletecollection" => self.delete_collection(&call, target).await,
            other => Err(ApiError::method_not_supported(kind.group, kind.plural, other)),
        }
    }
}

/// Why a path of a resource has no kind to answer it.
#[derive(Clone)]
enum Missing {
    /// Nobody serves the group.
    Page,
    /// The group has no such resource.
    Resource,
    /// The resource has no such method.
    Method,
    /// A custom resource has no such verb.
    CustomVerb(Target, &'static str),
}

impl Missing {
    fn answer(self) -> Result<Response<ApiBody>, ApiError> {
        Err(match self {
            Self::Page => return Ok(respond::page_not_found()),
            Self::Resource => ApiError::no_resource(),
            Self::Method => ApiError::no_method(),
            Self::CustomVerb(target, verb) => {
                ApiError::method_not_supported(target.kind.group, target.kind.plural, verb)
            }
        })
    }
}

/// What users of an old API are told, as upstream.
fn deprecation(target: &Target) -> Option<String> {
    if let Some(custom) = &target.kind.custom {
        return custom.deprecation(target.version).map(ToString::to_string);
    }
    let text = match (target.kind.group, target.version, target.kind.plural) {
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    };
    text.map(ToString::to_string)
}
