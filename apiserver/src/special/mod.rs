//! Subresources and kinds that are not plain objects in the store: scale,
//! binding, eviction, tokens, reviews. Which path goes where is decided here.

mod account_tokens;
mod budget;
mod pods;
mod reviews;
mod scale;
pub(crate) mod times;
mod token;

use crate::body::ApiBody;
use crate::codec;
use crate::handler::{ServerCall, Target};
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_kinds::Subresource;
use std::sync::Arc;

impl ApiServer {
    pub(crate) async fn special(
        self: &Arc<Self>,
        call: ServerCall,
        target: &Target,
        sub: &'static Subresource,
    ) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        let verb = call.info.verb;
        let passed_on = matches!(sub.name, "exec" | "attach" | "portforward" | "proxy" | "log");
        let proxied = sub.name == "proxy" && verb.is_empty();
        if !proxied && !sub.verbs.contains(&verb) {
            return Err(ApiError::method_not_supported(
                kind.group,
                &format!("{}/{}", kind.plural, sub.name),
                verb,
            ));
        }
        if passed_on && sub.name != "log" {
            self.admit_connection(&call, target, sub).await?;
        }
        if passed_on {
            return Box::pin(self.proxy(call, target, sub.name)).await;
        }
        match (kind.plural, sub.name, verb) {
            ("pods", "binding", "create") => self.bind_pod(&call, target, &call.info.name).await,
            ("pods", "eviction", "create") => self.evict_pod(&call, target).await,
            ("serviceaccounts", "token", "create") => self.token_request(&call, target).await,
            (_, "scale", "get") => self.get_scale(&call, target).await,
            (_, "scale", "update" | "patch") => self.write_scale(&call, target).await,
            (_, _, "get") => self.get(&call, target).await,
            (_, _, "update") => self.update(&call, target).await,
            (_, _, "patch") => self.patch(&call, target).await,
            _ => Err(ApiError::method_not_supported(
                kind.group,
                &format!("{}/{}", kind.plural, sub.name),
                verb,
            )),
        }
    }

    /// Kinds that are never stored; `None` for all others.
    pub(crate) async fn virtual_kind(
        self: &Arc<Self>,
        call: &ServerCall,
        target: &Target,
    ) -> Option<Result<Response<ApiBody>, ApiError>> {
        let kind = &*target.kind;
        match (kind.group, kind.plural) {
            ("", "bindings") if call.info.verb == "create" => Some(self.bind_pod(call, target, "").await),
            ("", "componentstatuses") => Some(self.component_statuses(call, target)),
            ("authentication.k8s.io" | "authorization.k8s.io", _) if call.info.verb == "create" => {
                Some(self.review(call, target).await)
            }
            _ => None,
        }
    }

    /// Upstream's scheduler, controller manager and etcd run in this process:
    /// they are as healthy as this answer.
    fn component_statuses(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let item = |name: &str, message: &str| {
            json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
                "conditions": [{"type": "Healthy", "status": "True", "message": message}]})
        };
        let items = [("controller-manager", "ok"), ("etcd-0", "ok"), ("scheduler", "ok")];
        let view = self.view(call, target)?;
        let body = match call.info.verb {
            "list" => view.list_of(items.iter().map(|(name, message)| item(name, message)).collect())?,
            "get" => {
                let name = &call.info.name;
                let found = items.iter().find(|(n, _)| n == name);
                let (name, message) = found.ok_or_else(|| ApiError::not_found("", "componentstatuses", name))?;
                view.one_of(item(name, message))?
            }
            verb => return Err(ApiError::method_not_supported("", "componentstatuses", verb)),
        };
        respond::bytes(200, view.media_type(), body, &[], false)
    }
}

/// The body of a subresource, whose type differs from the kind's.
pub(crate) fn body_of(call: &ServerCall, gvk: (&str, &str, &str)) -> Result<Value, ApiError> {
    let value = codec::decode_plain(call.header(http::header::CONTENT_TYPE), &call.body, gvk)?;
    let (group, version, kind) = gvk;
    let given = (
        value["apiVersion"].as_str().unwrap_or(""),
        value["kind"].as_str().unwrap_or(""),
    );
    let expected = codec::api_version(group, version);
    if !given.1.is_empty() && given != (expected.as_str(), kind) {
        return Err(ApiError::bad_request(format!(
            "the object in the body is a {} of {:?}; expected a {kind} of {expected:?}",
            given.1, given.0
        )));
    }
    Ok(value)
}
