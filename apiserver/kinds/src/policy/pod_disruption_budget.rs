//! Pod disruption budgets.

use crate::check::{Errors, Path};
use crate::conditions;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::Tree;
use crate::{selector, workload};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Min Available", "Pods that must stay available."),
    text("Max Unavailable", "Pods that may be unavailable."),
    integer("Allowed Disruptions", "Pods that may be disrupted now."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
    prepare_create: |o| {
        workload::status(
            o,
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        );
    },
    validate: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            let spec = o.at("spec");
            if spec.has("minAvailable") && spec.has("maxUnavailable") {
                errors.invalid(
                    &path,
                    spec.clone(),
                    "minAvailable and maxUnavailable cannot be both set",
                );
            }
            for key in ["minAvailable", "maxUnavailable"] {
                workload::int_or_percent(spec.at(key), &path.of(key), errors);
                workload::not_over_100_percent(spec.at(key), &path.of(key), errors);
            }
            selector::validate(spec.at("selector"), &path.of("selector"), errors);
            errors.optional_choice(
                spec,
                &path,
                "unhealthyPodEvictionPolicy",
                &["AlwaysAllow", "IfHealthyBudget"],
            );
        })
    },
    validate_update: |sub, new, _| {
        gather(|errors| {
            if sub == "status" {
                status(new.at("status"), errors);
            }
        })
    },
    row: |o, now| {
        vec![
            cell::name(o),
            cell::int_or_text(o.at("spec.minAvailable"), "N/A"),
            cell::int_or_text(o.at("spec.maxUnavailable"), "N/A"),
            cell::number(o, "status.disruptionsAllowed"),
            cell::age(o, now),
        ]
    },
    ..Rules::SPLIT
};

fn status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    conditions::check(status.items("conditions"), &path.of("conditions"), errors);
    for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        errors.non_negative(status, &path, key);
    }
}
