//! Asks the metrics APIs: `metrics.k8s.io`, `custom.metrics.k8s.io`, `external.metrics.k8s.io`.

use super::calculate::{Sample, Samples};
use super::quantity;
use crate::context::Context;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier};
use kube::core::Selector;
use kube::core::gvk::GroupVersion;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

/// A metrics server that does not answer holds up its own autoscaler only, and not for ever.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Where a custom metric says no window, as upstream.
const CUSTOM_WINDOW: SignedDuration = SignedDuration::from_secs(60);

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Meta,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomValue {
    described_object: Meta,
    timestamp: Timestamp,
    window_seconds: Option<i64>,
    value: String,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: String,
}

/// `what` is named where there is no such API, as `pods.metrics.k8s.io`.
async fn get<T: DeserializeOwned>(
    context: &Context,
    path: &str,
    query: &[(&str, &str)],
    what: &str,
) -> Result<T, String> {
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(given)
        .finish();
    let uri = format!("{path}?{query}");
    let request = Request::get(uri.trim_end_matches('?'));
    let request = request.body(Vec::new()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(ANSWER_MAX, context.client.request(request)).await {
        Ok(Err(kube::Error::Api(status))) if status.code == 404 && status.message.contains("404 page not found") => {
            Err(format!("the server could not find the requested resource (get {what})"))
        }
        Ok(answer) => answer.map_err(said),
        Err(_) => Err("context deadline exceeded".into()),
    }
}

/// The server's words, without ours around them.
pub fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The selector of a metric as a text; empty selects everything.
fn metric_selector(metric: &MetricIdentifier) -> Result<String, String> {
    let Some(selector) = metric.selector.clone() else {
        return Ok(String::new());
    };
    Selector::try_from(selector)
        .map(|selector| selector.to_string())
        .map_err(|e| e.to_string())
}

/// Use of a resource by the pods of a selector, or by one container of each.
pub async fn resource(
    context: &Context,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let found: List<PodMetrics> = get(context, &path, &[("labelSelector", selector)], "pods.metrics.k8s.io")
        .await
        .map_err(|e| format!("unable to fetch metrics from resource metrics API: {e}"))?;
    if found.items.is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    let mut samples = Samples::new();
    for pod in found.items {
        let value = match container {
            Some(name) => {
                let one = pod.containers.iter().find(|c| c.name == name).ok_or_else(|| {
                    let Meta { namespace, name: pod } = &pod.metadata;
                    format!("failed to get container metrics: container {name} not present in metrics for pod {namespace}/{pod}")
                })?;
                one.usage.get(resource).and_then(|text| quantity::milli(text))
            }
            None if pod.containers.is_empty() => None,
            None => {
                let each = pod.containers.iter().map(|c| quantity::milli(c.usage.get(resource)?));
                each.sum()
            }
        };
        let window = quantity::duration_ns(&pod.window).unwrap_or(0);
        if let Some(value) = value {
            let sample = Sample {
                value,
                at: pod.timestamp,
                window: SignedDuration::from_nanos(window),
            };
            samples.insert(pod.metadata.name, sample);
        }
    }
    Ok(samples)
}

/// `/apis/custom.metrics.k8s.io/<preferred version>`.
async fn custom(context: &Context) -> Result<String, String> {
    const GROUP: &str = "custom.metrics.k8s.io";
    let groups = context.client.list_api_groups().await.map_err(said)?;
    let found = groups.groups.into_iter().find(|group| group.name == GROUP);
    let version = found.and_then(|g| g.preferred_version.or_else(|| g.versions.into_iter().next()));
    let version = version.ok_or("no custom metrics API (custom.metrics.k8s.io) registered")?;
    Ok(format!("/apis/{}", version.group_version))
}

const CUSTOM_FAILED: &str = "unable to fetch metrics from custom metrics API";

/// A metric that the pods of a selector have.
pub async fn of_pods(
    context: &Context,
    namespace: &str,
    selector: &str,
    metric: &MetricIdentifier,
) -> Result<Samples, String> {
    let failed = |e: String| format!("{CUSTOM_FAILED}: {e}");
    let wanted = metric_selector(metric)?;
    let base = custom(context).await.map_err(failed)?;
    let path = format!("{base}/namespaces/{namespace}/pods/*/{}", metric.name);
    let query = [("labelSelector", selector), ("metricLabelSelector", wanted.as_str())];
    let found: List<CustomValue> = get(context, &path, &query, "pods.custom.metrics.k8s.io")
        .await
        .map_err(failed)?;
    if found.items.is_empty() {
        return Err("no metrics returned from custom metrics API".into());
    }
    let read = |value: CustomValue| {
        let sample = Sample {
            value: quantity::milli(&value.value)?,
            at: value.timestamp,
            window: value.window_seconds.map_or(CUSTOM_WINDOW, SignedDuration::from_secs),
        };
        Some((value.described_object.name, sample))
    };
    Ok(found.items.into_iter().filter_map(read).collect())
}

/// A metric of one object of the namespace.
pub async fn of_object(
    context: &Context,
    namespace: &str,
    object: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
) -> Result<i64, String> {
    let failed = |e: String| format!("{CUSTOM_FAILED}: {e}");
    let wanted = metric_selector(metric)?;
    let base = custom(context).await.map_err(failed)?;
    let version = object.api_version.as_deref().unwrap_or("v1");
    let version: GroupVersion = version.parse().map_err(|e| failed(format!("{e}")))?;
    let of_itself = object.kind == "Namespace" && version.group.is_empty();
    let path = if of_itself {
        // The name is not looked at: nobody may look out of the own namespace.
        format!("{base}/namespaces/{namespace}/metrics/{}", metric.name)
    } else {
        let kind = version.with_kind(&object.kind);
        let (kind, _) = kube::discovery::pinned_kind(&context.client, &kind)
            .await
            .map_err(|e| failed(said(e)))?;
        let resource = match kind.group.as_str() {
            "" => kind.plural,
            group => format!("{}.{group}", kind.plural),
        };
        format!(
            "{base}/namespaces/{namespace}/{resource}/{}/{}",
            object.name, metric.name
        )
    };
    let found: List<CustomValue> = get(
        context,
        &path,
        &[("metricLabelSelector", &wanted)],
        "custom.metrics.k8s.io",
    )
    .await
    .map_err(failed)?;
    let value = found.items.first().and_then(|value| quantity::milli(&value.value));
    value.ok_or_else(|| {
        failed(format!(
            "the custom metrics API server returned {} results when we asked for exactly one",
            found.items.len()
        ))
    })
}

/// The sum of an external metric's values.
pub async fn external(context: &Context, namespace: &str, metric: &MetricIdentifier) -> Result<i64, String> {
    let wanted = metric_selector(metric)?;
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}",
        metric.name
    );
    let what = format!("{}.external.metrics.k8s.io", metric.name);
    let found: List<ExternalValue> = get(context, &path, &[("labelSelector", &wanted)], &what)
        .await
        .map_err(|e| format!("unable to fetch metrics from external metrics API: {e}"))?;
    if found.items.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    let values = found.items.iter().filter_map(|value| quantity::milli(&value.value));
    Ok(values.fold(0, i64::saturating_add))
}
