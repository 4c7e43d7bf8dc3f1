//! Deployments.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_default, set_text};
use crate::{selector, workload};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "Ready pods of the pods asked for."),
    text("Up-to-date", "Pods of the current template."),
    text("Available", "Pods ready for long enough."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| workload::status(o, json!({})),
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| {
            if sub.is_empty() {
                errors.immutable(new, old, "spec.selector");
            }
        })
    },
    warnings: |o| pod::warnings(o.at("spec.template.spec"), "spec.template.spec"),
    row,
    ..Rules::SPLIT
};

fn default(o: &mut Value) {
    workload::defaults(o, true);
    let Some(spec) = object(o, "spec") else { return };
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "progressDeadlineSeconds", 600);
    let Some(strategy) = object(spec, "strategy") else {
        return;
    };
    set_text(strategy, "type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = object(strategy, "rollingUpdate")
    {
        set_default(rolling, "maxUnavailable", "25%");
        set_default(rolling, "maxSurge", "25%");
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        workload::validate(o, "deployment", errors);
        let path = Path::new("spec");
        let spec = o.at("spec");
        let strategy = spec.at("strategy");
        let at = path.of("strategy");
        errors.choice(strategy, &at, "type", &["Recreate", "RollingUpdate"]);
        let rolling = strategy.at("rollingUpdate");
        let below = at.of("rollingUpdate");
        if strategy.text("type") == "Recreate" && rolling.is_object() {
            errors.forbidden(&below, "may not be specified when strategy `type` is 'Recreate'");
        }
        if strategy.text("type") == "RollingUpdate" {
            for key in ["maxUnavailable", "maxSurge"] {
                workload::int_or_percent(rolling.at(key), &below.of(key), errors);
            }
            if workload::is_zero(rolling.at("maxUnavailable")) && workload::is_zero(rolling.at("maxSurge")) {
                errors.invalid(
                    &below.of("maxUnavailable"),
                    rolling.at("maxUnavailable").clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            workload::not_over_100_percent(rolling.at("maxUnavailable"), &below.of("maxUnavailable"), errors);
        }
        errors.non_negative(spec, &path, "progressDeadlineSeconds");
        if let Some(deadline) = spec.int("progressDeadlineSeconds")
            && deadline <= spec.int("minReadySeconds").unwrap_or(0)
        {
            errors.invalid(
                &path.of("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            );
        }
    })
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = cell::containers(o.at("spec.template.spec"));
    let count = |path: &str| o.int(path).unwrap_or(0);
    vec![
        cell::name(o),
        format!("{}/{}", count("status.readyReplicas"), count("spec.replicas")).into(),
        count("status.updatedReplicas").into(),
        count("status.availableReplicas").into(),
        cell::age(o, now),
        containers,
        images,
        selector::text(o.at("spec.selector")).into(),
    ]
}
