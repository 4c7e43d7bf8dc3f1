//! Requests that are passed on: to the agent of a pod's node (logs, exec,
//! attach, port-forward, nodes/proxy) or to a pod or Service (proxy).
//!
//! ```text
//! authorised call -> plan (pure: where to, which path) -> dial -> forward | tunnel
//! ```
//!
//! Exec and the like are upgraded connections: after the 101 the bytes flow
//! both ways unread, and the end of one direction leaves the other open.

mod dial;
mod forward;
mod logs;
mod page;
mod plan;

pub(crate) use dial::{connect, exchange, secure};
pub(crate) use forward::{join, passed_on, stream_of};
pub(crate) use plan::{Place, service_addresses};

use crate::body::ApiBody;
use crate::codec;
use crate::handler::{ServerCall, Target};
use crate::registry::StoreObjects;
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use dial::Backend;
use http::Response;
pub(crate) use plan::endpoint_of;
use serde_json::Value;
use skiff_access::Objects;
use skiff_api::ApiError;
use std::sync::Arc;

impl ApiServer {
    /// Answers a request on a subresource that is served elsewhere.
    pub(crate) async fn proxy(
        self: &Arc<Self>,
        call: ServerCall,
        target: &Target,
        sub: &'static str,
    ) -> Result<Response<ApiBody>, ApiError> {
        match (target.kind.plural, sub) {
            ("pods", "proxy") | ("services", "proxy") | ("nodes", "proxy") => self.proxy_any(call, target).await,
            _ => self.stream(call, target, sub).await,
        }
    }

    /// Logs, exec, attach, port-forward.
    async fn stream(
        &self,
        call: ServerCall,
        target: &Target,
        sub: &'static str,
    ) -> Result<Response<ApiBody>, ApiError> {
        if sub == "log" {
            logs::check(&call.info.name, &call.query)?;
        }
        let snapshot = self.read_snapshot("").await?;
        let entry = self.entry(target, &*snapshot, &call.info.namespace, &call.info.name)?;
        let pod = codec::stored(&entry)?;
        let Some(path) = plan::agent_path(sub, &pod, &call.query)? else {
            // No node yet: there are no logs, and that is no error.
            return respond::bytes(200, "text/plain", Bytes::new(), &[], false);
        };
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
        let backend = self.agent(&self.objects(snapshot), node, None)?;
        if sub == "log" {
            return forward::logs(&call, &backend, &path, plan::wants_stream(&call.query)).await;
        }
        forward::upgraded(call, &backend, &path).await
    }

    async fn proxy_any(&self, call: ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let reads = matches!(call.method, http::Method::GET | http::Method::HEAD);
        if reads && call.info.rest.is_empty() && !call.info.path.ends_with('/') && call.upgrade.is_none() {
            // Relative links of what is proxied only work below a directory.
            let query = if call.query.is_empty() {
                String::new()
            } else {
                format!("?{}", call.query)
            };
            return Response::builder()
                .status(301)
                .header(http::header::LOCATION, format!("{}/{query}", call.info.path))
                .body(ApiBody::empty())
                .map_err(ApiError::internal);
        }
        let backend = {
            let objects = self.objects(self.read_snapshot("").await?);
            self.backend_of(&call, target, &objects)?
        };
        let query = if call.query.is_empty() {
            String::new()
        } else {
            format!("?{}", call.query)
        };
        let path = format!("/{}{query}", call.info.rest);
        let upgrades = call.headers.contains_key(http::header::UPGRADE) && call.upgrade.is_some();
        if upgrades {
            forward::upgraded(call, &backend, &path).await
        } else {
            forward::plain(call, &backend, &path).await
        }
    }

    fn backend_of(&self, call: &ServerCall, target: &Target, objects: &StoreObjects<'_>) -> Result<Backend, ApiError> {
        let place = Place::parse(&call.info.name).ok_or_else(|| {
            ApiError::bad_request(format!("invalid {} request {:?}", target.kind.singular, call.info.name))
        })?;
        let namespace = &call.info.namespace;
        match target.kind.plural {
            "nodes" => self.agent(objects, place.name, (!place.port.is_empty()).then_some(place.port)),
            "pods" => {
                let pod = objects
                    .get("", "pods", namespace, place.name)
                    .ok_or_else(|| ApiError::not_found("", "pods", place.name))?;
                let (host, port) = plan::pod_address(&pod, &place)?;
                Ok(Backend::new(place.scheme, host, port))
            }
            _ => {
                let service = objects
                    .get("", "services", namespace, place.name)
                    .ok_or_else(|| ApiError::not_found("", "services", place.name))?;
                let slices = objects.list("discovery.k8s.io", "endpointslices", namespace);
                let (host, port) = plan::service_address(&service, &slices, &place, rand::random())?;
                Ok(Backend::new(place.scheme, host, port))
            }
        }
    }

    /// A page of a node's agent, asked as this server.
    pub(crate) async fn agent_page(&self, node: &Value, path: &str) -> Result<Bytes, String> {
        let tls = self.config.kubelet_client.clone();
        let tls = tls.ok_or("this server has no client certificate to reach the nodes with")?;
        let (host, port) = plan::agent_address(node, None).map_err(|e| e.to_string())?;
        forward::page(&Backend::agent(host, port, tls), path).await
    }

    /// The streaming endpoint of a node's agent.
    fn agent(&self, objects: &dyn Objects, node: &str, port: Option<&str>) -> Result<Backend, ApiError> {
        let tls =
            self.config.kubelet_client.clone().ok_or_else(|| {
                ApiError::unavailable("this server has no client certificate to reach the nodes with")
            })?;
        let node: Arc<Value> = objects
            .get("", "nodes", "", node)
            .ok_or_else(|| ApiError::not_found("", "nodes", node))?;
        let (host, port) = plan::agent_address(&node, port)?;
        Ok(Backend::agent(host, port, tls))
    }
}
