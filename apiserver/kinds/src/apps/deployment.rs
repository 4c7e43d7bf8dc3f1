//! Deployments.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, desired_state_changed};
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
    // A roll-out is also told by annotations, so these count as desired state.
    bumps: |new, old| desired_state_changed(new, old) || !same(annotations(new), annotations(old)),
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "" => errors.immutable(new, old, "spec.selector"),
            "status" => status(new, old, errors),
            _ => {}
        })
    },
    warnings: |o| {
        let mut out = workload::name_warnings(o);
        out.extend(pod::warnings::of(o.at("spec.template"), "spec.template"));
        out
    },
    row,
    ..Rules::SPLIT
};

fn annotations(o: &Value) -> &Value {
    o.at("metadata.annotations")
}

fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = new.at("status");
    let all = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "collisionCount",
        "terminatingReplicas",
    ];
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::counts(status, &all, &parts, errors);
    workload::available(status, "cannot be greater than readyReplicas", errors);
    workload::collisions(new, old, errors);
}

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
        workload::validate(o, "deployment", "ReplicaSet", errors);
        let path = Path::new("spec");
        let spec = o.at("spec");
        let strategy = spec.at("strategy");
        let at = path.of("strategy");
        let rolling = strategy.at("rollingUpdate");
        let below = at.of("rollingUpdate");
        match strategy.text("type") {
            "Recreate" if rolling.is_object() => {
                errors.forbidden(&below, "may not be specified when strategy `type` is 'Recreate'");
            }
            "Recreate" => {}
            "RollingUpdate" => {
                for key in ["maxUnavailable", "maxSurge"] {
                    workload::int_or_percent(rolling.at(key), &below.of(key), errors);
                }
                let unavailable = rolling.at("maxUnavailable");
                if workload::is_zero(unavailable) && workload::is_zero(rolling.at("maxSurge")) {
                    errors.invalid(
                        &below.of("maxUnavailable"),
                        unavailable.clone(),
                        "may not be 0 when `maxSurge` is 0",
                    );
                }
                workload::not_over_100_percent(unavailable, &below.of("maxUnavailable"), errors);
            }
            _ => errors.not_supported_value(&at, strategy, &["Recreate", "RollingUpdate"]),
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
