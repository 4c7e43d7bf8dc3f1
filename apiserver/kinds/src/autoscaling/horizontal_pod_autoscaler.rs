//! Horizontal pod autoscalers, in their v2 form.

use super::validate;
use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_default, set_text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Metrics as they are and as they should be."),
    text("MinPods", "Fewest pods."),
    text("MaxPods", "Most pods."),
    text("Replicas", "Pods there are."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({"desiredReplicas": 0, "currentMetrics": null});
        }
    },
    validate: validate::check,
    validate_update: |sub, new, _| {
        gather(|errors| {
            if sub == "status" {
                let path = Path::new("status");
                for key in ["currentReplicas", "desiredReplicas"] {
                    errors.non_negative(new.at("status"), &path, key);
                }
            }
        })
    },
    row,
    ..Rules::STATUS
};

fn default(o: &mut Value) {
    let Some(spec) = object(o, "spec") else { return };
    set_default(spec, "minReplicas", 1);
    if spec.items("metrics").is_empty() {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
    }
    let Some(behavior) = existing(spec, "behavior") else {
        return;
    };
    if let Some(up) = object(behavior, "scaleUp") {
        set_default(up, "stabilizationWindowSeconds", 0);
        set_text(up, "selectPolicy", "Max");
        let policies = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]);
        set_default(up, "policies", policies);
    }
    if let Some(down) = object(behavior, "scaleDown") {
        set_text(down, "selectPolicy", "Max");
        set_default(
            down,
            "policies",
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

/// One metric: current and target, in percent or as an average or a value.
fn metric(spec: &Value, status: &Value) -> String {
    let (source, label) = match spec.text("type") {
        "Resource" => ("resource", format!("{}: ", spec.text("resource.name"))),
        "ContainerResource" => (
            "containerResource",
            format!("{}: ", spec.text("containerResource.name")),
        ),
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "External" => ("external", String::new()),
        _ => return "<unknown type>".to_string(),
    };
    let (target, current) = (spec.at(source).at("target"), status.at(source).at("current"));
    let show = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let unknown = || "<unknown>".to_string();
    let by_resource = matches!(source, "resource" | "containerResource");
    if let Some(wanted) = show(target.at("averageValue")) {
        let now = show(current.at("averageValue")).unwrap_or_else(unknown);
        let averaged = if matches!(source, "object" | "external") {
            " (avg)"
        } else {
            ""
        };
        return format!("{label}{now}/{wanted}{averaged}");
    }
    if by_resource {
        let percent = |side: &Value| show(side.at("averageUtilization")).map(|v| format!("{v}%"));
        let wanted = percent(target).unwrap_or_else(|| "<auto>".to_string());
        return format!("{label}{}/{wanted}", percent(current).unwrap_or_else(unknown));
    }
    let wanted = show(target.at("value")).unwrap_or_else(|| "0".to_string());
    format!("{}/{wanted}", show(current.at("value")).unwrap_or_else(unknown))
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let current = o.items("status.currentMetrics");
    let specs = o.items("spec.metrics");
    let shown: Vec<String> = specs
        .iter()
        .take(2)
        .enumerate()
        .map(|(i, s)| metric(s, current.get(i).unwrap_or(&Value::Null)))
        .collect();
    let targets = match specs.len() {
        0 => "<none>".to_string(),
        n if n > 2 => format!("{} + {} more...", shown.join(", "), n - 2),
        _ => shown.join(", "),
    };
    vec![
        cell::name(o),
        format!(
            "{}/{}",
            o.text("spec.scaleTargetRef.kind"),
            o.text("spec.scaleTargetRef.name")
        )
        .into(),
        targets.into(),
        cell::int_or_text(o.at("spec.minReplicas"), "<unset>"),
        o.int("spec.maxReplicas").unwrap_or(0).into(),
        cell::number(o, "status.currentReplicas"),
        cell::age(o, now),
    ]
}
