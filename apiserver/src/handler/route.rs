//! From a request's parts to the verb that answers it.

use super::identity::{Peer, ServerCall};
use crate::body::ApiBody;
use crate::registry::subresource;
use crate::request::{QueryOptions, parse_info};
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
    match url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "pretty") {
        Some((_, value)) => matches!(value.as_ref(), "" | "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
            agent.is_some_and(|a| ["curl/", "Wget/", "Mozilla/5.0"].iter().any(|p| a.starts_with(p)))
        }
    }
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
        let audit_id = uuid::Uuid::new_v4().to_string();
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
        self.metrics.count(code);
        tracing::debug!(%method, path, code, took_us = started.elapsed().as_micros() as u64, "request");
        let headers = response.headers_mut();
        if let Ok(id) = http::HeaderValue::from_str(&audit_id) {
            headers.insert("audit-id", id);
        }
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
        parts: Parts,
        body: Bytes,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
        peer: Peer,
    ) -> Result<Response<ApiBody>, ApiError> {
        let query = parts.uri.query().unwrap_or("").to_string();
        let path = parts.uri.path();
        let user = self.authenticate(&peer, &parts.headers, path)?;
        let user = self.impersonate(user, &parts.headers)?;
        // Requests that are passed on have a query of their own (`follow=`, `limit=` of an application).
        let options = match QueryOptions::parse(&query) {
            Ok(options) => options,
            Err(_) if path.contains("/proxy") => QueryOptions::default(),
            Err(error) => return Err(error),
        };
        let info = parse_info(&parts.method, path, options.watch, options.name_selected())
            .ok_or_else(|| ApiError::bad_request("the request path cannot be read"))?;
        self.authorize(&user, &info, &options)?;
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
        if !call.info.is_resource {
            return self.document(&call).await;
        }
        let target = self.target(&call)?;
        Box::pin(self.resource(call, &target)).await
    }

    fn target(&self, call: &ServerCall) -> Result<Target, ApiError> {
        let info = &call.info;
        let missing = || {
            let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
            error.details = Some(serde_json::json!({}));
            error
        };
        let catalog = self.catalog();
        let kind = catalog.resource(&info.group, &info.resource).ok_or_else(missing)?;
        let version = kind.versions.iter().find(|v| **v == info.version).ok_or_else(missing)?;
        // A cluster-scoped kind has no namespace in its path; `namespaces` names itself.
        if !kind.namespaced && !info.namespace.is_empty() && kind.plural != "namespaces" {
            return Err(missing());
        }
        let sub = match info.subresource.as_str() {
            "" => None,
            name => Some(subresource(kind, name).ok_or_else(missing)?),
        };
        Ok(Target {
            kind: kind.clone(),
            version,
            sub,
        })
    }

    async fn resource(self: &Arc<Self>, call: ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        let verb = call.info.verb;
        let proxied = target.sub_name() == "proxy";
        // What is proxied may know methods that the API does not (OPTIONS).
        if verb.is_empty() && !proxied {
            let text = "the server does not allow this method on the requested resource";
            return Err(ApiError::new(405, "MethodNotAllowed", text));
        }
        if kind.namespaced
            && call.info.namespace.is_empty()
            && !call.info.name.is_empty()
            && !matches!(verb, "list" | "watch" | "deletecollection")
        {
            return Err(ApiError::bad_request(
                "an object of a namespaced kind is named with its namespace in the path",
            ));
        }
        if call.info.name.is_empty() && matches!(verb, "update" | "patch") {
            return Err(ApiError::method_not_supported(kind.group, kind.plural, verb));
        }
        if let Some(sub) = target.sub {
            return self.special(call, target, sub).await;
        }
        if let Some(answer) = self.virtual_kind(&call, target).await {
            return answer;
        }
        // Upstream serves no deletion across namespaces either: it is never what was meant.
        let everywhere = verb == "deletecollection" && kind.namespaced && call.info.namespace.is_empty();
        if everywhere || !kind.verbs.contains(&verb) {
            return Err(ApiError::method_not_supported(kind.group, kind.plural, verb));
        }
        match verb {
            "get" => self.get(&call, target).await,
            "list" => self.list(&call, target).await,
            "watch" => self.watch(&call, target).await,
            "create" => self.create(&call, target).await,
            "update" => self.update(&call, target).await,
            "patch" => self.patch(&call, target).await,
            "delete" => self.delete(&call, target).await,
            "deletecollection" => self.delete_collection(&call, target).await,
            other => Err(ApiError::method_not_supported(kind.group, kind.plural, other)),
        }
    }
}
