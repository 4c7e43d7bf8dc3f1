//! One metric of an autoscaler: fetched, and what it asks for.

use super::calculate::{self, Asked, Target, Tolerance};
use super::plan::{Failed, Measured};
use super::{fetch, quantity};
use crate::context::Context;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscalerSpec,
    MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource,
    ObjectMetricStatus, PodsMetricSource, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The target as it is now.
pub struct Scaled<'a> {
    pub namespace: &'a str,
    /// Of its pods.
    pub selector: &'a str,
    pub pods: &'a [Pod],
    /// `spec.replicas` and `status.replicas` of its scale.
    pub replicas: i32,
    pub shown: i32,
    pub now: Timestamp,
}

impl Scaled<'_> {
    fn target(&self, tolerance: Tolerance) -> Target<'_> {
        Target {
            replicas: self.replicas,
            pods: self.pods,
            tolerance,
            now: self.now,
        }
    }
}

pub fn tolerance(spec: &HorizontalPodAutoscalerSpec) -> Tolerance {
    let rules = spec.behavior.as_ref();
    let of = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let given = rules.and_then(|r| r.tolerance.as_ref());
        let milli = given.and_then(|q| quantity::milli(&q.0));
        milli.map_or(Tolerance::DEFAULT, |m| m as f64 / 1_000.0)
    };
    Tolerance {
        up: of(rules.and_then(|r| r.scale_up.as_ref())),
        down: of(rules.and_then(|r| r.scale_down.as_ref())),
    }
}

fn wanted(quantity: Option<&Quantity>) -> Option<i64> {
    quantity.and_then(|q| quantity::milli(&q.0))
}

fn of_milli(milli: i64) -> Option<Quantity> {
    Some(Quantity(quantity::text(milli)))
}

/// How errors of one kind of metric are told.
fn failure(reason: &'static str, what: &str) -> impl Fn(String) -> Failed + use<> {
    let what = what.to_owned();
    move |message| Failed {
        reason,
        error: format!("failed to get {what} value: {message}"),
        message,
    }
}

pub async fn measure(
    context: &Context,
    scaled: &Scaled<'_>,
    metric: &MetricSpec,
    tolerance: Tolerance,
) -> Result<Measured, Failed> {
    let kind = metric.type_.clone();
    match kind.as_str() {
        "Resource" if let Some(source) = &metric.resource => {
            let asked = Asked {
                resource: &source.name,
                container: None,
            };
            let failed = failure("FailedGetResourceMetric", &format!("{} resource metric", source.name));
            let found = resource(context, scaled, asked, &source.target, tolerance).await;
            let (replicas, name, current) = found.map_err(failed)?;
            let resource = Some(ResourceMetricStatus {
                name: source.name.clone(),
                current,
            });
            Ok(measured(
                replicas,
                name,
                MetricStatus {
                    type_: kind,
                    resource,
                    ..Default::default()
                },
            ))
        }
        "ContainerResource" if let Some(source) = &metric.container_resource => {
            let asked = Asked {
                resource: &source.name,
                container: Some(&source.container),
            };
            let what = format!("{} container metric", source.name);
            let failed = failure("FailedGetContainerResourceMetric", &what);
            let found = resource(context, scaled, asked, &source.target, tolerance).await;
            let (replicas, name, current) = found.map_err(failed)?;
            let container_resource = Some(ContainerResourceMetricStatus {
                name: source.name.clone(),
                container: source.container.clone(),
                current,
            });
            Ok(measured(
                replicas,
                name,
                MetricStatus {
                    type_: kind,
                    container_resource,
                    ..Default::default()
                },
            ))
        }
        "Pods" if let Some(source) = &metric.pods => {
            let failed = failure("FailedGetPodsMetric", "pods metric");
            let (replicas, current) = of_pods(context, scaled, source, tolerance).await.map_err(failed)?;
            let pods = Some(PodsMetricStatus {
                metric: source.metric.clone(),
                current,
            });
            let name = format!("pods metric {}", source.metric.name);
            Ok(measured(
                replicas,
                name,
                MetricStatus {
                    type_: kind,
                    pods,
                    ..Default::default()
                },
            ))
        }
        "Object" if let Some(source) = &metric.object => {
            let failed = failure("FailedGetObjectMetric", "object metric");
            let found = of_object(context, scaled, source, tolerance).await;
            let (replicas, name, current) = found.map_err(failed)?;
            let object = Some(ObjectMetricStatus {
                metric: source.metric.clone(),
                described_object: source.described_object.clone(),
                current,
            });
            Ok(measured(
                replicas,
                name,
                MetricStatus {
                    type_: kind,
                    object,
                    ..Default::default()
                },
            ))
        }
        "External" if let Some(source) = &metric.external => {
            let what = format!("{} external metric", source.metric.name);
            let failed = failure("FailedGetExternalMetric", &what);
            let (replicas, current) = external(context, scaled, source, tolerance).await.map_err(failed)?;
            let external = Some(ExternalMetricStatus {
                metric: source.metric.clone(),
                current,
            });
            let name = shown("external metric", &source.metric);
            Ok(measured(
                replicas,
                name,
                MetricStatus {
                    type_: kind,
                    external,
                    ..Default::default()
                },
            ))
        }
        other => {
            let message = format!("unknown metric source type {other:?}");
            Err(Failed {
                reason: "InvalidMetricSourceType",
                error: message.clone(),
                message,
            })
        }
    }
}

fn measured(replicas: i32, name: String, status: MetricStatus) -> Measured {
    Measured { replicas, name, status }
}

fn shown(what: &str, metric: &MetricIdentifier) -> String {
    format!("{what} {}({})", metric.name, selector_text(metric.selector.as_ref()))
}

/// A selector as Go prints it, which is what people find when they search for such a message.
fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|r| {
        let values = r.values.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        let (key, operator) = (&r.key, &r.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

async fn resource(
    context: &Context,
    scaled: &Scaled<'_>,
    asked: Asked<'_>,
    target: &MetricTarget,
    tolerance: Tolerance,
) -> Result<(i32, String, MetricValueStatus), String> {
    let what = asked.resource;
    let average = wanted(target.average_value.as_ref());
    let doing = match (average, target.average_utilization) {
        (Some(_), _) => format!("failed to get {what} usage"),
        (None, Some(_)) => format!("failed to get {what} utilization"),
        (None, None) => {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        }
    };
    let failed = |e: String| format!("{doing}: {e}");
    let samples = fetch::resource(context, scaled.namespace, scaled.selector, what, asked.container)
        .await
        .map_err(|e| failed(format!("unable to get metrics for resource {what}: {e}")))?;
    if let Some(average) = average {
        let found = calculate::plain(scaled.target(tolerance), samples, what == "cpu", average);
        let (replicas, value) = found.map_err(failed)?;
        let current = MetricValueStatus {
            average_value: of_milli(value),
            ..Default::default()
        };
        return Ok((replicas, format!("{what} resource"), current));
    }
    let percent = target.average_utilization.unwrap_or_default();
    let found = calculate::utilization(scaled.target(tolerance), asked, samples, percent);
    let (replicas, used, value) = found.map_err(failed)?;
    let whose = if asked.container.is_some() {
        "container resource"
    } else {
        "resource"
    };
    let current = MetricValueStatus {
        average_utilization: Some(used),
        average_value: of_milli(value),
        ..Default::default()
    };
    Ok((
        replicas,
        format!("{what} {whose} utilization (percentage of request)"),
        current,
    ))
}

async fn of_pods(
    context: &Context,
    scaled: &Scaled<'_>,
    source: &PodsMetricSource,
    tolerance: Tolerance,
) -> Result<(i32, MetricValueStatus), String> {
    let average = wanted(source.target.average_value.as_ref());
    let average = average.ok_or("invalid pods metric source: no average value target was set")?;
    let samples = fetch::of_pods(context, scaled.namespace, scaled.selector, &source.metric)
        .await
        .map_err(|e| format!("unable to get metric {}: {e}", source.metric.name))?;
    let (replicas, value) = calculate::plain(scaled.target(tolerance), samples, false, average)?;
    let current = MetricValueStatus {
        average_value: of_milli(value),
        ..Default::default()
    };
    Ok((replicas, current))
}

async fn of_object(
    context: &Context,
    scaled: &Scaled<'_>,
    source: &ObjectMetricSource,
    tolerance: Tolerance,
) -> Result<(i32, String, MetricValueStatus), String> {
    let (object, name) = (&source.described_object, &source.metric.name);
    let (value, average) = (
        wanted(source.target.value.as_ref()),
        wanted(source.target.average_value.as_ref()),
    );
    if !matches!(
        (source.target.type_.as_str(), value, average),
        ("Value", Some(_), _) | ("AverageValue", _, Some(_))
    ) {
        return Err("invalid object metric source: neither a value target nor an average value target was set".into());
    }
    let found = fetch::of_object(context, scaled.namespace, object, &source.metric)
        .await
        .map_err(|e| {
            let (kind, namespace, object) = (&object.kind, scaled.namespace, &object.name);
            format!("unable to get metric {name}: {kind} on {namespace} {object}/{e}")
        })?;
    if source.target.type_ == "Value" {
        let replicas = calculate::by_value(scaled.target(tolerance), found, value.unwrap_or(1))?;
        let current = MetricValueStatus {
            value: of_milli(found),
            ..Default::default()
        };
        return Ok((replicas, format!("{} metric {name}", object.kind), current));
    }
    let (replicas, each) = calculate::by_average(tolerance, scaled.shown, found, average.unwrap_or(1));
    let current = MetricValueStatus {
        average_value: of_milli(each),
        ..Default::default()
    };
    Ok((replicas, shown("external metric", &source.metric), current))
}

async fn external(
    context: &Context,
    scaled: &Scaled<'_>,
    source: &ExternalMetricSource,
    tolerance: Tolerance,
) -> Result<(i32, MetricValueStatus), String> {
    let name = &source.metric.name;
    let (value, average) = (
        wanted(source.target.value.as_ref()),
        wanted(source.target.average_value.as_ref()),
    );
    if value.is_none() && average.is_none() {
        return Err(
            "invalid external metric source: neither a value target nor an average value target was set".into(),
        );
    }
    let failed = |e: String| match average {
        Some(_) => format!("failed to get {name} external metric: {e}"),
        None => format!("failed to get external metric {name}: {e}"),
    };
    let found = fetch::external(context, scaled.namespace, &source.metric)
        .await
        .map_err(|e| {
            let (namespace, selector) = (scaled.namespace, selector_text(source.metric.selector.as_ref()));
            failed(format!(
                "unable to get external metric {namespace}/{name}/{selector}: {e}"
            ))
        })?;
    if let Some(average) = average {
        let (replicas, each) = calculate::by_average(tolerance, scaled.shown, found, average);
        let current = MetricValueStatus {
            average_value: of_milli(each),
            ..Default::default()
        };
        return Ok((replicas, current));
    }
    let replicas = calculate::by_value(scaled.target(tolerance), found, value.unwrap_or(1)).map_err(failed)?;
    let current = MetricValueStatus {
        value: of_milli(found),
        ..Default::default()
    };
    Ok((replicas, current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_printed_as_upstream_prints_them() {
        assert_eq!(selector_text(None), "nil");
        let selector = serde_json::json!({"matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]});
        let selector: LabelSelector = serde_json::from_value(selector).expect("a selector");
        assert_eq!(
            selector_text(Some(&selector)),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}"
        );
    }
}
