//! Stateful sets.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::claim;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, each, existing, object, set_default, set_text};
use crate::{names, workload};
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
    validate_create: |o| {
        gather(|errors| {
            let name = o.text("metadata.name");
            errors.all(&Path::new("metadata.name"), name, names::dns_label(name));
        })
    },
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "" => unchanged(new, old, errors),
            "status" => status(new, old, errors),
            _ => {}
        })
    },
    warnings: |o| {
        let mut out = pod::warnings::of(o.at("spec.template"), "spec.template");
        for (i, claim) in o.items("spec.volumeClaimTemplates").iter().enumerate() {
            pod::warnings::claim_size(
                claim.at("spec"),
                format_args!("spec.volumeClaimTemplates[{i}].spec"),
                &mut out,
            );
        }
        if o.int("spec.revisionHistoryLimit").is_some_and(|n| n < 0) {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
        out
    },
    row,
    ..Rules::SPLIT
};

fn unchanged(new: &Value, old: &Value, errors: &mut Errors) {
    let mut rest = new.at("spec").clone();
    for key in MAY_CHANGE {
        copy(&mut rest, old.at("spec"), key);
    }
    if !same(&rest, old.at("spec")) {
        errors.forbidden(&Path::new("spec"), CHANGED);
    }
}

fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = new.at("status");
    let all = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let parts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    workload::counts(status, &all, &parts, errors);
    workload::available(status, "cannot be greater than status.readyReplicas", errors);
    workload::collisions(new, old, errors);
}

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
            claim::default_spec(spec);
        }
        if let Some(status) = object(claim, "status") {
            set_text(status, "phase", "Pending");
        }
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        match spec.text("podManagementPolicy") {
            "" => errors.required(&path.of("podManagementPolicy"), ""),
            "OrderedReady" | "Parallel" => {}
            other => errors.invalid(
                &path.of("podManagementPolicy"),
                other,
                "must be 'OrderedReady' or 'Parallel'",
            ),
        }
        strategy(spec.at("updateStrategy"), &path.of("updateStrategy"), errors);
        let retention = path.of("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            let policy = spec.at("persistentVolumeClaimRetentionPolicy").text(key);
            if !matches!(policy, "Retain" | "Delete") {
                errors.not_supported(&retention.of(key), policy, &["Retain", "Delete"]);
            }
        }
        errors.non_negative(spec.at("ordinals"), &path.of("ordinals"), "start");
        errors.name_at(spec, &path, "serviceName", names::dns_1035_label);
        let claims = path.of("volumeClaimTemplates");
        for (i, template) in spec.items("volumeClaimTemplates").iter().enumerate() {
            claim::spec(template.at("spec"), &claims.at(i).of("spec"), errors);
        }
        workload::validate(o, "statefulset", "StatefulSet", errors);
    })
}

fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let rolling = strategy.at("rollingUpdate");
    let below = path.of("rollingUpdate");
    match strategy.text("type") {
        "" => errors.required(path, ""),
        "OnDelete" if !rolling.is_null() => {
            errors.invalid(
                &below,
                rolling.clone(),
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            errors.non_negative(rolling, &below, "partition");
            let unavailable = rolling.at("maxUnavailable");
            let at = below.of("maxUnavailable");
            if !unavailable.is_null() {
                workload::int_or_percent(unavailable, &at, errors);
                if workload::is_zero(unavailable) {
                    errors.invalid(&at, unavailable.clone(), "cannot be 0");
                }
                workload::not_over_100_percent(unavailable, &at, errors);
            }
        }
        _ => errors.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
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
