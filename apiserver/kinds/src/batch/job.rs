//! Jobs, and the job spec that cron jobs share.

use super::{status, validate};
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
    validate: check,
    validate_update,
    warnings: |o| {
        let mut out = workload::name_warnings(o);
        out.extend(spec_warnings(o.at("spec"), "spec"));
        out
    },
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
        // What the user set already is looked at by the checks.
        for (keys, value) in [(UID_LABELS, &uid), (NAME_LABELS, &name)] {
            for key in keys {
                set_default(labels, key, value.as_str());
            }
        }
    }
    if let Some(labels) = object(spec, "selector").and_then(|s| object(s, "matchLabels")) {
        set_default(labels, UID_LABELS[1], uid);
    }
}

/// Labels that tie the pods to the job, and their legacy twins.
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

fn check(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        generated(o, errors);
        validate::spec(spec, &path, errors);
        let select = spec.at("selector");
        if select.is_null() {
            errors.required(&path.of("selector"), "");
        } else {
            selector::validate(select, &path.of("selector"), errors);
        }
        let labels = spec.at("template.metadata.labels");
        if select.is_null() || !selector::matches(select, labels) {
            let at = Path::new("spec.template.metadata.labels");
            errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
        }
        host_names(o, errors);
    })
}

/// The selector that the server makes must not have been tampered with.
fn generated(o: &Value, errors: &mut Errors) {
    let select = o.at("spec.selector");
    if o.flag("spec.manualSelector") || select.is_null() {
        return;
    }
    let (uid, name) = (o.text("metadata.uid"), o.text("metadata.name"));
    if uid.is_empty() {
        errors.required(&Path::new("metadata.uid"), "");
    }
    let at = Path::new("spec.template.metadata.labels");
    let labels = o.at("spec.template.metadata.labels");
    let mut expected = json!({});
    for (keys, wanted) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            let text = format!("must be '{wanted}'");
            match labels.get(key).and_then(Value::as_str) {
                None => errors.required(&at.key(key), &text),
                Some(value) if value != wanted => errors.invalid(&at.key(key), labels.clone(), &text),
                Some(_) => {}
            }
            expected[key] = wanted.into();
        }
    }
    if !selector::matches(select, &expected) {
        errors.invalid(
            &Path::new("spec.selector"),
            select.clone(),
            "`selector` not auto-generated",
        );
    }
}

/// Pods of an indexed job take their host names from its name and their index.
fn host_names(o: &Value, errors: &mut Errors) {
    let completions = o.int("spec.completions").unwrap_or(0);
    if o.text("spec.completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = o.text("metadata.name");
    let last = format!("{name}-{}", completions - 1);
    if !names::dns_label(&last).is_empty() {
        let text = format!("will not able to create pod with invalid DNS label: {last}");
        errors.invalid(&Path::new("metadata.name"), name, &text);
    }
}

fn validate_update(sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| match sub {
        "" => update(new, old, errors),
        "status" => status::check(new, old, errors),
        _ => {}
    })
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    completions(new, old, errors);
    errors.immutable(new, old, "spec.selector");
    template(new, old, errors);
    for at in [
        "spec.completionMode",
        "spec.podFailurePolicy",
        "spec.backoffLimitPerIndex",
        "spec.managedBy",
        "spec.successPolicy",
    ] {
        errors.immutable(new, old, at);
    }
}

/// An indexed job grows and shrinks by both figures together.
fn completions(new: &Value, old: &Value, errors: &mut Errors) {
    if new.text("spec.completionMode") != "Indexed" {
        errors.immutable(new, old, "spec.completions");
        return;
    }
    let completions = new.int("spec.completions");
    if completions != old.int("spec.completions")
        && let Some(n) = completions
        && Some(n) != new.int("spec.parallelism")
    {
        errors.invalid(
            &Path::new("spec.completions"),
            n,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

/// Whether no pod of a suspended job is left, or none was ever made: who decides about queues may then
/// change what its pods ask for, and where they go.
fn is_at_rest(job: &Value) -> bool {
    let never_started = !job.has("status.startTime");
    let ended = has(job, "Suspended") && job.int("status.active").unwrap_or(0) == 0;
    job.flag("spec.suspend") && (never_started || ended)
}

fn template(new: &Value, old: &Value, errors: &mut Errors) {
    let mut template = new.at("spec.template").clone();
    let before = old.at("spec.template");
    if is_at_rest(old) {
        if let Some(spec) = existing(&mut template, "spec") {
            for key in ["nodeSelector", "tolerations", "schedulingGates"] {
                copy(spec, before.at("spec"), key);
            }
            for list in ["containers", "initContainers"] {
                let asked = before.at("spec").items(list);
                for (container, was) in each(spec, list).zip(asked) {
                    copy(container, was, "resources");
                }
            }
            if let Some(affinity) = object(spec, "affinity") {
                copy(affinity, before.at("spec.affinity"), "nodeAffinity");
            }
        }
        if let Some(metadata) = object(&mut template, "metadata") {
            for key in ["labels", "annotations"] {
                copy(metadata, before.at("metadata"), key);
            }
        }
    }
    if !same(&template, before) {
        errors.invalid(
            &Path::new("spec.template"),
            new.at("spec.template").clone(),
            crate::check::IMMUTABLE,
        );
    }
}

/// Warnings of a job spec, in a job or a cron job.
pub(super) fn spec_warnings(spec: &Value, at: &str) -> Vec<String> {
    let mut out = Vec::new();
    let many = |key: &str, most: i64| spec.int(key).is_some_and(|n| n > most);
    if spec.text("completionMode") == "Indexed" && many("completions", 100_000) && many("parallelism", 10_000) {
        out.push(format!(
            "{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    out.extend(pod::warnings::of(spec.at("template"), &format!("{at}.template")));
    out
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
