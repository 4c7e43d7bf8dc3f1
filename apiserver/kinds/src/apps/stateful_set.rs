//! Stateful sets.

use crate::check::{Path, same};
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, each, existing, object, set_default, set_text};
use crate::workload;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "Ready pods of the pods asked for."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
];

const MAY_CHANGE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const CHANGED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| workload::status(o, json!({"replicas": 0, "availableReplicas": 0})),
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| {
            if !sub.is_empty() {
                return;
            }
            let mut rest = new.at("spec").clone();
            for key in MAY_CHANGE {
                copy(&mut rest, old.at("spec"), key);
            }
            if !same(&rest, old.at("spec")) {
                errors.forbidden(&Path::new("spec"), CHANGED);
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
    set_text(spec, "podManagementPolicy", "OrderedReady");
    set_default(spec, "revisionHistoryLimit", 10);
    if let Some(retention) = object(spec, "persistentVolumeClaimRetentionPolicy") {
        set_text(retention, "whenDeleted", "Retain");
        set_text(retention, "whenScaled", "Retain");
    }
    if let Some(strategy) = object(spec, "updateStrategy") {
        set_text(strategy, "type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            set_default(rolling, "partition", 0);
        }
    }
    for claim in each(spec, "volumeClaimTemplates").filter(|c| c.is_object()) {
        set_text(claim, "apiVersion", "v1");
        set_text(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = existing(claim, "spec") {
            set_text(spec, "volumeMode", "Filesystem");
            set_default(spec, "resources", json!({}));
        }
        if let Some(status) = object(claim, "status") {
            set_text(status, "phase", "Pending");
        }
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        workload::validate(o, "statefulset", errors);
        let path = Path::new("spec");
        let spec = o.at("spec");
        errors.choice(spec, &path, "podManagementPolicy", &["OrderedReady", "Parallel"]);
        let strategy = spec.at("updateStrategy");
        let at = path.of("updateStrategy");
        match strategy.text("type") {
            "OnDelete" if strategy.has("rollingUpdate") => {
                errors.invalid(
                    &at.of("rollingUpdate"),
                    strategy.at("rollingUpdate").clone(),
                    "only allowed for updateStrategy 'RollingUpdate'",
                );
            }
            "OnDelete" => {}
            "RollingUpdate" => {
                errors.non_negative(strategy.at("rollingUpdate"), &at.of("rollingUpdate"), "partition");
                let below = at.of("rollingUpdate");
                workload::int_or_percent(
                    strategy.at("rollingUpdate.maxUnavailable"),
                    &below.of("maxUnavailable"),
                    errors,
                );
            }
            other => errors.invalid(&at, other, "must be 'RollingUpdate' or 'OnDelete'"),
        }
        errors.non_negative(spec.at("ordinals"), &path.of("ordinals"), "start");
        let retention = path.of("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            errors.choice(
                spec.at("persistentVolumeClaimRetentionPolicy"),
                &retention,
                key,
                &["Delete", "Retain"],
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
        cell::age(o, now),
        containers,
        images,
    ]
}
