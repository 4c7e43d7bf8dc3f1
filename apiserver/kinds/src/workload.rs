//! What kinds that run pods from a template have in common.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod;
use crate::row::{AGE, NAME, cell, integer, wide};
use crate::tree::{Tree, existing, object, set_default};
use crate::{names, selector};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const CONTAINERS: Column = wide("Containers", "Names of the template's containers.");
pub(crate) const IMAGES: Column = wide("Images", "Images of the template's containers.");
pub(crate) const SELECTOR: Column = wide("Selector", "Which pods belong to it.");

pub(crate) const REPLICA_COLUMNS: &[Column] = &[
    NAME,
    integer("Desired", "Pods asked for."),
    integer("Current", "Pods there are."),
    integer("Ready", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Rows of replica sets and replication controllers.
pub(crate) fn replica_row(o: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let (containers, images) = cell::containers(o.at("spec.template.spec"));
    vec![
        cell::name(o),
        cell::number(o, "spec.replicas"),
        cell::number(o, "status.replicas"),
        cell::number(o, "status.readyReplicas"),
        cell::age(o, now),
        containers,
        images,
        selector.into(),
    ]
}

/// Defaults of `spec.replicas` and the template below `spec`.
pub(crate) fn defaults(o: &mut Value, replicas: bool) {
    let Some(spec) = object(o, "spec") else { return };
    if replicas {
        set_default(spec, "replicas", 1);
    }
    if let Some(template) = existing(spec, "template") {
        pod::defaults::template(template);
    }
}

pub(crate) fn status(o: &mut Value, status: Value) {
    if o.is_object() {
        o["status"] = status;
    }
}

pub(crate) fn zero_replicas(o: &mut Value) {
    status(o, json!({"replicas": 0}));
}

/// Selector and template of `spec`: both there, matching, and restarting always.
/// `what` is how upstream calls the kind of an empty selector, `kind` that of the rest.
pub(crate) fn validate(o: &Value, what: &str, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = o.at("spec");
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        errors.non_negative(spec, &path, key);
    }
    let select = spec.at("selector");
    if select.is_null() {
        if what != "daemonset" {
            errors.required(&path.of("selector"), "");
        }
    } else {
        selector::validate(select, &path.of("selector"), errors);
        if selector::is_empty(select) {
            errors.invalid(
                &path.of("selector"),
                select.clone(),
                &format!("empty selector is invalid for {what}"),
            );
        }
    }
    let labels = spec.at("template.metadata.labels");
    // No selector selects nothing, an empty one everything.
    if select.is_null() || !selector::is_empty(select) && !selector::matches(select, labels) {
        let at = Path::new("spec.template.metadata.labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
    template(spec, &path, kind, errors);
}

/// The template as its pods will be: each claim template is a volume of its name,
/// in the place of one of the template's own.
fn with_claims(template: &Value, claims: &[Value]) -> Value {
    let names: Vec<&str> = claims.iter().map(|claim| claim.text("metadata.name")).collect();
    let own = template
        .items("spec.volumes")
        .iter()
        .filter(|volume| !names.contains(&volume.text("name")));
    let made = names
        .iter()
        .map(|name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": "claim"}}));
    let volumes: Vec<Value> = own.cloned().chain(made).collect();
    let mut template = template.clone();
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("volumes".into(), volumes.into());
    }
    template
}

/// A template whose pods restart always, as every long-running workload needs.
pub(crate) fn template(spec: &Value, path: &Path, kind: &str, errors: &mut Errors) {
    let at = path.of("template");
    let template = spec.at("template");
    if template.is_null() {
        errors.required(&at, "");
        return;
    }
    match spec.items("volumeClaimTemplates") {
        [] => pod::validate_template(template, &at, errors),
        claims => pod::validate_template(&with_claims(template, claims), &at, errors),
    }
    let below = at.of("spec");
    let restart = template.text("spec.restartPolicy");
    if restart != "Always" {
        errors.not_supported(&below.of("restartPolicy"), restart, &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        errors.forbidden(
            &below.of("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// Names that pods take over should be labels, so that they fit into host names.
pub(crate) fn name_warnings(o: &Value) -> Vec<String> {
    let faults = names::dns_label(o.text("metadata.name"));
    if faults.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
        faults.join(" ")
    )]
}

/// Counts of a status: none negative, none of `parts` above the replicas.
pub(crate) fn counts(status: &Value, all: &[&str], parts: &[&str], errors: &mut Errors) {
    let path = Path::new("status");
    for key in all {
        errors.non_negative(status, &path, key);
    }
    let replicas = status.int("replicas").unwrap_or(0);
    for key in parts {
        if let Some(n) = status.int(key).filter(|n| *n > replicas) {
            errors.invalid(&path.of(key), n, "cannot be greater than status.replicas");
        }
    }
}

/// What is available is ready.
pub(crate) fn available(status: &Value, message: &str, errors: &mut Errors) {
    let available = status.int("availableReplicas").unwrap_or(0);
    if available > status.int("readyReplicas").unwrap_or(0) {
        errors.invalid(&Path::new("status.availableReplicas"), available, message);
    }
}

/// The count of colliding names only grows.
pub(crate) fn collisions(new: &Value, old: &Value, errors: &mut Errors) {
    if let Some(before) = old.int("status.collisionCount") {
        let now = new.int("status.collisionCount").unwrap_or(0);
        if now < before {
            errors.invalid(&Path::new("status.collisionCount"), now, "cannot be decremented");
        }
    }
}

/// The status of replica sets and replication controllers.
pub(crate) fn replica_status(new: &Value, _old: &Value, errors: &mut Errors) {
    let status = new.at("status");
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let all = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    counts(status, &all, &parts, errors);
    available(status, "cannot be greater than readyReplicas", errors);
}

/// An int-or-percent: not negative, and a real percentage if a text.
pub(crate) fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%');
            if digits.and_then(|d| d.parse::<u32>().ok()).is_none() {
                errors.invalid(path, text.as_str(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
            }
        }
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
            errors.invalid(path, value.clone(), "must be greater than or equal to 0");
        }
        _ => {}
    }
}

pub(crate) fn not_over_100_percent(value: &Value, path: &Path, errors: &mut Errors) {
    let percent = value
        .as_str()
        .and_then(|t| t.strip_suffix('%'))
        .and_then(|d| d.parse::<u32>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// Zero, as a number or in percent; absent counts as Go's zero value.
pub(crate) fn is_zero(value: &Value) -> bool {
    value.is_null()
        || value.as_i64() == Some(0)
        || value
            .as_str()
            .is_some_and(|t| t.trim_end_matches('%').parse::<u32>() == Ok(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_mount_may_name_a_claim_template() {
        let set = |mounted: &str| {
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"}, "spec": {
                "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [
                    {"name": "db", "image": "db", "volumeMounts": [{"name": mounted, "mountPath": "/data"}]}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}}}}]}})
        };
        let kind = crate::find("apps", "statefulsets").expect("a kind");
        let errors = |mounted| {
            let mut object = set(mounted);
            kind.strategy.default(&mut object);
            kind.strategy.validate(&object)
        };
        assert_eq!(errors("data"), []);
        let wrong: Vec<String> = errors("other").iter().map(ToString::to_string).collect();
        assert_eq!(
            wrong,
            ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
        );
    }
}
