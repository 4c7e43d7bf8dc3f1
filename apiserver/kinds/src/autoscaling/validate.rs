//! Checks of horizontal pod autoscalers: bounds, target, metrics, behavior.

use crate::check::{Errors, Path};
use crate::core::pod::gather;
use crate::core::resources;
use crate::names;
use crate::quantity;
use crate::tree::Tree;
use serde_json::Value;
use skiff_api::FieldError;

const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Members that hold a metric's source, with the type that each is of.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

pub(super) fn check(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        let (min, max) = (spec.int("minReplicas"), spec.int("maxReplicas").unwrap_or(0));
        if let Some(min) = min.filter(|m| *m < 1) {
            errors.invalid(&path.of("minReplicas"), min, "must be greater than or equal to 1");
        }
        if max < 1 {
            errors.invalid(&path.of("maxReplicas"), max, "must be greater than 0");
        }
        if min.is_some_and(|min| max < min) {
            errors.invalid(
                &path.of("maxReplicas"),
                max,
                "must be greater than or equal to `minReplicas`",
            );
        }
        reference(spec.at("scaleTargetRef"), &path.of("scaleTargetRef"), errors);
        let metrics = path.of("metrics");
        for (i, metric) in spec.items("metrics").iter().enumerate() {
            self::metric(metric, &metrics.at(i), errors);
        }
        let behavior = path.of("behavior");
        for key in ["scaleUp", "scaleDown"] {
            if let Some(rules) = spec.at("behavior").get(key).filter(|r| r.is_object()) {
                scaling(rules, &behavior.of(key), errors);
            }
        }
    })
}

/// `CrossVersionObjectReference`: a kind and a name.
fn reference(reference: &Value, path: &Path, errors: &mut Errors) {
    for key in ["kind", "name"] {
        errors.text_required(reference, path, key);
        errors.name_at(reference, path, key, names::path_segment);
    }
}

fn scaling(rules: &Value, path: &Path, errors: &mut Errors) {
    if let Some(seconds) = rules.int("stabilizationWindowSeconds") {
        let at = path.of("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.invalid(&at, seconds, "must be greater than or equal to zero");
        } else if seconds > WINDOW_SECONDS_MAX {
            let text = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            errors.invalid(&at, seconds, &text);
        }
    }
    errors.optional_choice(rules, path, "selectPolicy", &["Disabled", "Max", "Min"]);
    let policies = path.of("policies");
    if rules.items("policies").is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for (i, policy) in rules.items("policies").iter().enumerate() {
        let path = policies.at(i);
        let kind = policy.text("type");
        if !matches!(kind, "Pods" | "Percent") {
            errors.not_supported(&path.of("type"), kind, &["Percent", "Pods"]);
        }
        let (value, period) = (
            policy.int("value").unwrap_or(0),
            policy.int("periodSeconds").unwrap_or(0),
        );
        if value <= 0 {
            errors.invalid(&path.of("value"), value, "must be greater than zero");
        }
        let at = path.of("periodSeconds");
        if period <= 0 {
            errors.invalid(&at, period, "must be greater than zero");
        } else if period > PERIOD_SECONDS_MAX {
            let text = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.invalid(&at, period, &text);
        }
    }
    if let Some(tolerance) = quantity::parse(rules.at("tolerance")).filter(|t| t.sign() < 0) {
        errors.invalid(
            &path.of("tolerance"),
            tolerance.to_string(),
            "must be greater than or equal to 0",
        );
    }
}

fn metric(metric: &Value, path: &Path, errors: &mut Errors) {
    let kind = metric.text("type");
    if kind.is_empty() {
        errors.required(&path.of("type"), "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(_, k)| *k == kind).map(|(key, _)| *key);
    if expected.is_none() {
        // Upstream looks at the type twice.
        errors.not_supported(&path.of("type"), kind, TYPES);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(k, _)| *k).filter(|k| metric.has(k)).collect();
    if let Some(first) = present.first() {
        source(first, metric.at(first), &path.of(first), errors);
    }
    match expected {
        Some(key) if !metric.has(key) => {
            errors.required(&path.of(key), "must populate information for the given metric source");
        }
        None => errors.not_supported(&path.of("type"), kind, TYPES),
        _ => {}
    }
    if present.len() != 1 {
        for key in present.iter().filter(|k| Some(**k) != expected) {
            errors.forbidden(&path.of(key), "must populate the given metric source only");
        }
    }
}

fn source(key: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let target = source.at("target");
    let at = path.of("target");
    match key {
        "object" => {
            reference(source.at("describedObject"), &path.of("describedObject"), errors);
            identifier(source.at("metric"), &path.of("metric"), errors);
        }
        "external" | "pods" => identifier(source.at("metric"), &path.of("metric"), errors),
        _ => {
            let name = source.text("name");
            if name.is_empty() {
                errors.required(&path.of("name"), "must specify a resource name");
            } else if key == "containerResource" {
                resources::container_name(name, &path.of("name"), errors);
            }
            if key == "containerResource" {
                match source.text("container") {
                    "" => errors.required(&path.of("container"), "must specify a container"),
                    name => errors.all(&path.of("container"), name, names::dns_label(name)),
                }
            }
        }
    }
    self::target(target, &at, errors);
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let per_pod = at.of("averageValue");
    match key {
        "object" if !value && !average => {
            errors.required(&per_pod, "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            errors.required(
                &per_pod,
                "must set either a target value for metric or a per-pod target",
            );
        }
        "external" if value && average => {
            errors.forbidden(
                &at.of("value"),
                "may not set both a target value for metric and a per-pod target",
            );
        }
        "pods" if !average => errors.required(&per_pod, "must specify a positive target averageValue"),
        "resource" | "containerResource" => match (target.has("averageUtilization"), average) {
            (false, false) => errors.required(
                &at.of("averageUtilization"),
                "must set either a target raw value or a target utilization",
            ),
            (true, true) => errors.forbidden(&per_pod, "may not set both a target raw value and a target utilization"),
            _ => {}
        },
        _ => {}
    }
}

fn identifier(id: &Value, path: &Path, errors: &mut Errors) {
    if id.text("name").is_empty() {
        errors.required(&path.of("name"), "must specify a metric name");
    }
    errors.name_at(id, path, "name", names::path_segment);
}

fn target(target: &Value, path: &Path, errors: &mut Errors) {
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&path.of("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(
            &path.of("type"),
            kind,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for key in ["value", "averageValue"] {
        if quantity::parse(target.at(key)).is_some_and(|n| n.sign() <= 0) {
            errors.invalid(&path.of(key), target.at(key).clone(), "must be positive");
        }
    }
    if let Some(n) = target.int("averageUtilization").filter(|n| *n < 1) {
        errors.invalid(&path.of("averageUtilization"), n, "must be greater than 0");
    }
}
