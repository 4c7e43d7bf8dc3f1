//! Jobs, and the job spec that cron jobs share.

use crate::age;
use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, each, existing, object, set_default, set_text};
use crate::{names, selector, workload};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "State of the job."),
    text("Completions", "Pods that succeeded of those asked for."),
    text("Duration", "How long the job ran, or runs."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| {
        generate_selector(o);
        workload::status(o, json!({}));
    },
    validate: |o| gather(|errors| validate_spec(o.at("spec"), &Path::new("spec"), true, errors)),
    validate_update,
    warnings: |o| pod::warnings(o.at("spec.template.spec"), "spec.template.spec"),
    row,
    fields: |o| vec![("status.successful", o.int("status.succeeded").unwrap_or(0).to_string())],
    field_names: &["status.successful"],
    ..Rules::SPLIT
};

fn default(o: &mut Value) {
    workload::defaults(o, false);
    let Some(spec) = object(o, "spec") else { return };
    if !spec.has("completions") && !spec.has("parallelism") {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    // With a limit per index only that one counts.
    let limit = if spec.has("backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        6
    };
    set_default(spec, "backoffLimit", limit);
    set_text(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    set_default(spec, "manualSelector", false);
    let replacement = if spec.has("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    set_text(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = existing(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            each(rule, "onPodConditions").for_each(|c| set_text(c, "status", "True"));
        }
    }
    let labels = o.at("spec.template.metadata.labels").clone();
    if !labels.is_null()
        && o.map("metadata.labels").is_none_or(serde_json::Map::is_empty)
        && let Some(metadata) = object(o, "metadata")
    {
        metadata["labels"] = labels;
    }
}

/// Labels that tie pods to their job by uid, unless the user selects by hand.
/// Needs `metadata.uid` and `metadata.name` to be set before.
fn generate_selector(o: &mut Value) {
    let (uid, name) = (o.text("metadata.uid").to_string(), o.text("metadata.name").to_string());
    if o.flag("spec.manualSelector") || uid.is_empty() {
        return;
    }
    let Some(spec) = object(o, "spec") else { return };
    if let Some(labels) = object(spec, "template")
        .and_then(|t| object(t, "metadata"))
        .and_then(|m| object(m, "labels"))
    {
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels[key] = value.as_str().into();
        }
    }
    if let Some(labels) = object(spec, "selector").and_then(|s| object(s, "matchLabels")) {
        labels["batch.kubernetes.io/controller-uid"] = uid.into();
    }
}

/// A job spec; a cron job's has no selector of its own.
pub(super) fn validate_spec(spec: &Value, path: &Path, selecting: bool, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.non_negative(spec, path, key);
    }
    errors.optional_choice(spec, path, "completionMode", &["Indexed", "NonIndexed"]);
    if spec.text("completionMode") == "Indexed" && !spec.has("completions") {
        errors.required(&path.of("completions"), "when completion mode is Indexed");
    }
    errors.optional_choice(spec, path, "podReplacementPolicy", &["Failed", "TerminatingOrFailed"]);
    if spec.has("podFailurePolicy") && spec.text("template.spec.restartPolicy") != "Never" {
        let at = path.of("template").of("spec").of("restartPolicy").to_string();
        let text = "only \"Never\" is supported when podFailurePolicy is specified";
        errors
            .0
            .push(FieldError::invalid(at, spec.at("template.spec.restartPolicy"), text));
    }
    if selecting {
        if spec.at("selector").is_null() {
            errors.required(&path.of("selector"), "");
        } else {
            selector::validate(spec.at("selector"), &path.of("selector"), errors);
            if !selector::matches(spec.at("selector"), spec.at("template.metadata.labels")) {
                let at = path.of("template").of("metadata").of("labels").to_string();
                let labels = spec.at("template.metadata.labels");
                errors.0.push(FieldError::invalid(
                    at,
                    labels,
                    "`selector` does not match template `labels`",
                ));
            }
        }
    }
    let template = path.of("template");
    pod::validate_template(spec.at("template"), &template, errors);
    let restart = spec.text("template.spec.restartPolicy");
    if !matches!(restart, "Never" | "OnFailure") {
        let below = template.of("spec");
        if restart.is_empty() {
            errors.required(&below.of("restartPolicy"), "valid values: \"OnFailure\", \"Never\"");
        } else {
            errors.not_supported(&below.of("restartPolicy"), restart, &["OnFailure", "Never"]);
        }
    }
    let manager = spec.text("managedBy");
    if !manager.is_empty() {
        errors.all(&path.of("managedBy"), manager, names::qualified_name(manager));
    }
}

fn validate_update(sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| {
        if !sub.is_empty() {
            return;
        }
        for at in [
            "spec.selector",
            "spec.completionMode",
            "spec.podFailurePolicy",
            "spec.backoffLimitPerIndex",
            "spec.managedBy",
            "spec.successPolicy",
        ] {
            errors.immutable(new, old, at);
        }
        if new.text("spec.completionMode") != "Indexed" {
            errors.immutable(new, old, "spec.completions");
        }
        let mut template = new.at("spec.template").clone();
        // A job that never started may still be steered to other nodes.
        if old.flag("spec.suspend") && !old.has("status.startTime") {
            for key in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                if let Some(spec) = existing(&mut template, "spec") {
                    copy(spec, old.at("spec.template.spec"), key);
                }
            }
            for key in ["labels", "annotations"] {
                if let Some(metadata) = existing(&mut template, "metadata") {
                    copy(metadata, old.at("spec.template.metadata"), key);
                }
            }
        }
        if !same(&template, old.at("spec.template")) {
            errors.invalid(
                &Path::new("spec.template"),
                new.at("spec.template").clone(),
                crate::check::IMMUTABLE,
            );
        }
    })
}

fn has(o: &Value, kind: &str) -> bool {
    o.items("status.conditions")
        .iter()
        .any(|c| c.text("type") == kind && c.text("status") == "True")
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = o.int("status.succeeded").unwrap_or(0);
    let completions = match (o.int("spec.completions"), o.int("spec.parallelism").unwrap_or(0)) {
        (Some(n), _) => format!("{succeeded}/{n}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let second = |path: &str| o.text(path).parse::<Timestamp>().ok().map(|t| t.as_second());
    let duration = match (second("status.startTime"), second("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => age::duration(end.unwrap_or(now.as_second()) - start),
    };
    let status = if has(o, "Complete") {
        "Complete"
    } else if has(o, "Failed") {
        "Failed"
    } else if o.has("metadata.deletionTimestamp") {
        "Terminating"
    } else if has(o, "Suspended") {
        "Suspended"
    } else if has(o, "FailureTarget") {
        "FailureTarget"
    } else if has(o, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let (containers, images) = cell::containers(o.at("spec.template.spec"));
    vec![
        cell::name(o),
        status.into(),
        completions.into(),
        duration.into(),
        cell::age(o, now),
        containers,
        images,
        selector::text(o.at("spec.selector")).into(),
    ]
}
