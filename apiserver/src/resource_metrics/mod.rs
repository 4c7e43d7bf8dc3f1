//! `metrics.k8s.io`: what nodes and pods use now, asked of the nodes when somebody asks
//! here. Nothing is scraped in between, and nothing needs to be installed. A metrics
//! server of the user's own takes the place of this with its APIService.
//!
//! ```text
//! kubectl top, autoscaler --> answer --> usage_of(node) --(not older than 12 s)--> show
//!                                            '--> /metrics/resource of the node, twice at first --> scrape
//! ```

mod scrape;
mod show;

use crate::body::ApiBody;
use crate::handler::ServerCall;
use crate::registry::text_at;
use crate::request::{Form, negotiate};
use crate::respond;
use crate::server::ApiServer;
use futures::StreamExt;
use http::{Response, header};
use scrape::{Scrape, Usage, usage};
use serde_json::Value;
use skiff_access::Objects;
use skiff_api::ApiError;
use skiff_api::selector::{FieldSelector, LabelSelector};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use show::{GROUP, VERSION, resources};

/// An answer this old is given again; below the autoscalers' 15 s, so that each of their
/// looks finds something new.
const FRESH: Duration = Duration::from_secs(12);
/// Counters this old say nothing of now.
const OLD: Duration = Duration::from_secs(60);
/// Who asks for the first time gets rates over this long.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// A node that does not answer by then is left out.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A node that did not answer is not waited for again so soon.
const LEFT_OUT: Duration = Duration::from_secs(10);
/// Nodes asked at the same time.
const ASKED_MAX: usize = 64;

/// What was scraped of the nodes that were asked for lately.
#[derive(Default)]
pub(crate) struct ResourceMetrics {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

#[derive(Default)]
struct Known {
    newest: Option<(Instant, Scrape)>,
    usage: Option<Arc<Usage>>,
    failed: Option<Instant>,
}

impl ResourceMetrics {
    fn of(&self, node: &str) -> Arc<tokio::sync::Mutex<Known>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node.to_string()).or_default().clone()
    }

    /// Forgets nodes that nobody asked for in a while.
    fn tidy(&self) {
        let old = |known: &Known| known.newest.as_ref().is_none_or(|(at, _)| at.elapsed() > OLD);
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is locked is being asked.
        nodes.retain(|_, known| {
            known.try_lock().map_or(true, |known| {
                !old(&known) || known.failed.is_some_and(|at| at.elapsed() < LEFT_OUT)
            })
        });
    }
}

impl ApiServer {
    /// Whether this server itself answers for the path, when no other one does.
    pub(crate) fn is_resource_metrics(path: &str) -> bool {
        let rest = path.strip_prefix("/apis/metrics.k8s.io/v1beta1");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(crate) async fn resource_metrics(self: &Arc<Self>, call: &ServerCall) -> Result<Response<ApiBody>, ApiError> {
        let info = &call.info;
        let accept = call.header(header::ACCEPT);
        if !info.is_resource {
            return match info.verb {
                "get" => respond::plain(200, accept, &show::resources()),
                _ => Err(ApiError::no_method()),
            };
        }
        let kind = match (info.resource.as_str(), info.namespace.is_empty()) {
            ("nodes", true) => "NodeMetrics",
            ("pods", _) => "PodMetrics",
            _ => return Ok(respond::page_not_found()),
        };
        if !info.subresource.is_empty() || (kind == "PodMetrics" && info.named && info.namespace.is_empty()) {
            return Ok(respond::page_not_found());
        }
        if !matches!(info.verb, "get" | "list") {
            return Err(ApiError::method_not_supported(GROUP, &info.resource, info.verb));
        }
        self.resource_usage.tidy();
        let items = self.measured(call, kind).await?;
        let wants_table = negotiate(accept, &[Form::Table]).is_ok_and(|n| n.form == Form::Table);
        if info.verb == "get" {
            let missing = || {
                let name = match info.namespace.as_str() {
                    "" => info.name.clone(),
                    namespace => format!("{namespace}/{}", info.name),
                };
                let resource = if kind == "NodeMetrics" {
                    "nodemetrics"
                } else {
                    "podmetrics"
                };
                ApiError::not_found(GROUP, resource, &name)
            };
            let item = items.into_iter().next().ok_or_else(missing)?;
            return match wants_table {
                true => respond::plain(200, "application/json", &show::table(&[item])),
                false => respond::plain(200, accept, &show::one(kind, item)),
            };
        }
        match wants_table {
            true => respond::plain(200, "application/json", &show::table(&items)),
            false => respond::plain(200, accept, &show::list(kind, items)),
        }
    }

    /// What is asked for and can be told, in the order of names.
    async fn measured(self: &Arc<Self>, call: &ServerCall, kind: &str) -> Result<Vec<Value>, ApiError> {
        let selected = Selected::of(call)?;
        let info = &call.info;
        let (of, nodes) = {
            let snapshot = self.read_snapshot("").await?;
            let objects = self.objects(snapshot);
            let list = |plural: &str, namespace: &str| match info.verb {
                "get" => objects.get("", plural, namespace, &info.name).into_iter().collect(),
                _ => objects.list("", plural, namespace),
            };
            let mut of: Vec<Arc<Value>> = list(info.resource.as_str(), &info.namespace);
            of.retain(|object| selected.has(object));
            if kind == "PodMetrics" {
                of.retain(|pod| text_at(pod, &["status", "phase"]) == "Running");
            }
            let names: BTreeSet<&str> = of
                .iter()
                .map(|object| node_of(kind, object))
                .filter(|n| !n.is_empty())
                .collect();
            let nodes: Vec<Arc<Value>> = names
                .into_iter()
                .filter_map(|name| objects.get("", "nodes", "", name))
                .collect();
            (of, nodes)
        };
        let asked = nodes.into_iter().map(|node| async move {
            let usage = self.usage_of(&node).await?;
            Some((text_at(&node, &["metadata", "name"]).to_string(), usage))
        });
        let usages: BTreeMap<String, Arc<Usage>> = futures::stream::iter(asked)
            .buffer_unordered(ASKED_MAX)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let now = jiff::Timestamp::now();
        let one = |object: &Arc<Value>| {
            let usage = usages.get(node_of(kind, object))?;
            match kind {
                "NodeMetrics" => show::node(object, usage, now),
                _ => show::pod(object, usage, now),
            }
        };
        Ok(of.iter().filter_map(one).collect())
    }

    /// `None`: the node cannot be asked.
    async fn usage_of(&self, node: &Value) -> Option<Arc<Usage>> {
        let name = text_at(node, &["metadata", "name"]);
        let known = self.resource_usage.of(name);
        // Who asks at the same time waits for the one answer.
        let mut known = known.lock().await;
        if known.failed.is_some_and(|at| at.elapsed() < LEFT_OUT) {
            return None;
        }
        if let (Some((at, _)), Some(usage)) = (&known.newest, &known.usage)
            && at.elapsed() < FRESH
        {
            return Some(usage.clone());
        }
        let older = known
            .newest
            .take()
            .filter(|(at, _)| at.elapsed() < OLD)
            .map(|(_, scrape)| scrape);
        let scraped = async {
            let mut newer = self.scrape(node).await?;
            let older = match older {
                Some(older) => older,
                None => {
                    tokio::time::sleep(FIRST_WINDOW).await;
                    std::mem::replace(&mut newer, self.scrape(node).await?)
                }
            };
            Ok::<_, String>((usage(&older, &newer), newer))
        };
        let answer = tokio::time::timeout(ANSWER_MAX, scraped).await;
        match answer.unwrap_or_else(|_| Err("it did not answer in time".into())) {
            Ok((usage, newer)) => {
                let usage = Arc::new(usage);
                known.newest = Some((Instant::now(), newer));
                known.usage = Some(usage.clone());
                known.failed = None;
                Some(usage)
            }
            Err(why) => {
                tracing::debug!(node = name, why, "a node's use is not known");
                *known = Known {
                    failed: Some(Instant::now()),
                    ..Known::default()
                };
                None
            }
        }
    }

    async fn scrape(&self, node: &Value) -> Result<Scrape, String> {
        let page = self.agent_page(node, "/metrics/resource").await?;
        Ok(Scrape::parse(&String::from_utf8_lossy(&page)))
    }
}

fn node_of<'a>(kind: &str, object: &'a Value) -> &'a str {
    match kind {
        "NodeMetrics" => text_at(object, &["metadata", "name"]),
        _ => text_at(object, &["spec", "nodeName"]),
    }
}

/// Label and field selectors of a request.
struct Selected {
    labels: Option<LabelSelector>,
    fields: FieldSelector,
}

impl Selected {
    fn of(call: &ServerCall) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let labels = match call.options.label_selector.trim() {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(|e| bad(&e))?),
        };
        let fields = FieldSelector::parse(&call.options.field_selector).map_err(|e| bad(&e))?;
        let known = |field: &str| matches!(field, "metadata.name" | "metadata.namespace");
        if let Some(other) = fields.requirements.iter().find(|r| !known(&r.field)) {
            return Err(ApiError::bad_request(format!(
                "field label not supported: {}",
                other.field
            )));
        }
        Ok(Self { labels, fields })
    }

    fn has(&self, object: &Value) -> bool {
        let field = |name: &str| {
            let key = name.strip_prefix("metadata.").unwrap_or_default();
            Cow::Borrowed(text_at(object, &["metadata", key]))
        };
        self.labels.as_ref().is_none_or(|labels| labels.matches_object(object)) && self.fields.matches(field)
    }
}
