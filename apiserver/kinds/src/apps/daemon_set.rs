//! Daemon sets.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_default, set_text};
use crate::{selector, workload};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    integer("Desired", "Nodes that should run the pod."),
    integer("Current", "Nodes that run the pod and should."),
    integer("Ready", "Nodes whose pod is ready."),
    integer("Up-to-date", "Nodes whose pod is of the current template."),
    integer("Available", "Nodes whose pod is ready for long enough."),
    text("Node Selector", "Labels that nodes must have."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| {
        let zero = json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
        });
        workload::status(o, zero);
        set_template_generation(o, 1);
    },
    prepare_update: |sub, new, old| {
        // The deprecated annotation's heir: counts changes of the template.
        if sub.is_empty() {
            let before = old.at("metadata.annotations").get(TEMPLATE_GENERATION);
            let before = before.and_then(Value::as_str).and_then(|t| t.parse().ok()).unwrap_or(1);
            set_template_generation(
                new,
                before + i64::from(new.at("spec.template") != old.at("spec.template")),
            );
        }
    },
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "" => errors.immutable(new, old, "spec.selector"),
            "status" => {
                workload::counts(new.at("status"), &COUNTS, &[], errors);
                workload::collisions(new, old, errors);
            }
            _ => {}
        })
    },
    warnings: |o| pod::warnings::of(o.at("spec.template"), "spec.template"),
    row,
    ..Rules::SPLIT
};

const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn set_template_generation(o: &mut Value, generation: i64) {
    if let Some(annotations) = object(o, "metadata").and_then(|m| object(m, "annotations")) {
        annotations[TEMPLATE_GENERATION] = generation.to_string().into();
    }
}

fn default(o: &mut Value) {
    workload::defaults(o, false);
    let Some(spec) = object(o, "spec") else { return };
    set_default(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = object(spec, "updateStrategy") {
        set_text(strategy, "type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            set_default(rolling, "maxUnavailable", 1);
            set_default(rolling, "maxSurge", 0);
        }
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        workload::validate(o, "daemonset", "DaemonSet", errors);
        let strategy = o.at("spec.updateStrategy");
        let at = Path::new("spec.updateStrategy");
        match strategy.text("type") {
            "OnDelete" => {}
            "RollingUpdate" if !strategy.has("rollingUpdate") => errors.required(&at.of("rollingUpdate"), ""),
            "RollingUpdate" => {
                let rolling = strategy.at("rollingUpdate");
                let at = at.of("rollingUpdate");
                for key in ["maxUnavailable", "maxSurge"] {
                    workload::int_or_percent(rolling.at(key), &at.of(key), errors);
                    workload::not_over_100_percent(rolling.at(key), &at.of(key), errors);
                }
                match (
                    workload::is_zero(rolling.at("maxUnavailable")),
                    workload::is_zero(rolling.at("maxSurge")),
                ) {
                    (true, true) => errors.required(&at.of("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
                    (false, false) => {
                        errors.invalid(
                            &at.of("maxSurge"),
                            rolling.at("maxSurge").clone(),
                            "may not be set when maxUnavailable is non-zero",
                        );
                    }
                    _ => {}
                }
            }
            _ => errors.not_supported_value(&at, strategy, &["RollingUpdate", "OnDelete"]),
        }
    })
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = cell::containers(o.at("spec.template.spec"));
    let number = |key: &str| cell::number(o, key);
    vec![
        cell::name(o),
        number("status.desiredNumberScheduled"),
        number("status.currentNumberScheduled"),
        number("status.numberReady"),
        number("status.updatedNumberScheduled"),
        number("status.numberAvailable"),
        selector::labels_text(o.at("spec.template.spec.nodeSelector")).into(),
        cell::age(o, now),
        containers,
        images,
        selector::text(o.at("spec.selector")).into(),
    ]
}
