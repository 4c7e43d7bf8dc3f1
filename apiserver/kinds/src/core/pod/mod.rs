//! Pods: the strategy, and what templates of other kinds share with it.

mod annotations;
mod certificates;
pub(crate) mod container;
pub(crate) mod defaults;
mod dns;
mod env;
mod label_keys;
mod mounts;
mod overlaps;
mod probe;
pub(crate) mod qos;
mod resize;
mod row;
pub(crate) mod scheduling;
mod security;
mod status;
mod update;
mod validate;
pub(crate) mod volume;
pub(crate) mod volume_defaults;
pub(crate) mod warnings;
mod windows;

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::row::{AGE, NAME, text, wide};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "Ready containers of all containers."),
    text("Status", "What the pod's containers are doing, taken together."),
    text("Restarts", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "Address of the pod."),
    wide("Node", "Node that the pod is bound to."),
    wide("Nominated Node", "Node that preemption chose for the pod."),
    wide("Readiness Gates", "Readiness gates that are met, of all."),
];

pub(crate) static STRATEGY: Rules = Rules {
    apart: &["ephemeralcontainers", "resize"],
    default: defaults::pod,
    prepare_create,
    prepare_update: update::prepare,
    validate: |pod| gather(|errors| check(pod, errors)),
    validate_create,
    validate_update: update::validate,
    warnings: |pod| warnings::of(pod, ""),
    warns_always: true,
    row: row::cells,
    fields,
    field_names: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    grace,
    ..Rules::SPLIT
};

/// A new pod is Pending, knows its QoS class, and says so if gates hold it.
fn prepare_create(pod: &mut Value) {
    let mut status = json!({"phase": "Pending", "qosClass": qos::class(pod.at("spec"))});
    if !pod.items("spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "observedGeneration": 1,
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    if pod.is_object() {
        pod["status"] = status;
    }
    label_keys::merge(pod);
}

fn fields(pod: &Value) -> Vec<(&'static str, String)> {
    let ips: Vec<&str> = pod.items("status.podIPs").iter().map(|ip| ip.text("ip")).collect();
    vec![
        ("spec.nodeName", pod.text("spec.nodeName").into()),
        ("spec.restartPolicy", pod.text("spec.restartPolicy").into()),
        ("spec.schedulerName", pod.text("spec.schedulerName").into()),
        ("spec.serviceAccountName", pod.text("spec.serviceAccountName").into()),
        ("spec.hostNetwork", pod.flag("spec.hostNetwork").to_string()),
        ("status.phase", pod.text("status.phase").into()),
        ("status.podIP", pod.text("status.podIP").into()),
        ("status.podIPs", ips.join(",")),
        ("status.nominatedNodeName", pod.text("status.nominatedNodeName").into()),
    ]
}

/// What no kubelet runs needs no grace: unbound or finished pods go at once.
fn grace(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let seconds = asked
        .or_else(|| pod.int("spec.terminationGracePeriodSeconds"))
        .unwrap_or(30);
    if pod.text("spec.nodeName").is_empty() || matches!(pod.text("status.phase"), "Succeeded" | "Failed") {
        return None;
    }
    match seconds {
        0 => None,
        // Negative means: as fast as gracefully possible.
        s if s < 0 => Some(1),
        s => Some(s),
    }
}

/// What holds for every pod, new or old.
fn check(pod: &Value, errors: &mut Errors) {
    let (spec, path) = (pod.at("spec"), Path::new("spec"));
    let annotations = pod.at("metadata.annotations");
    annotations::check(annotations, spec, &Path::new("metadata.annotations"), errors);
    validate::spec(spec, &path, validate::Of::Pod(pod.text("metadata.name")), errors);
    validate::only_for_pods(spec, &path, errors);
}

fn validate_create(pod: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let (spec, path) = (pod.at("spec"), Path::new("spec"));
        if !spec.items("ephemeralContainers").is_empty() {
            errors.forbidden(&path.of("ephemeralContainers"), "cannot be set on create");
        }
        if !spec.text("nodeName").is_empty() && !spec.items("schedulingGates").is_empty() {
            errors.forbidden(
                &path.of("nodeName"),
                "cannot be set until all schedulingGates have been cleared",
            );
        }
        annotations::agree(pod.at("metadata.annotations"), spec, &path, errors);
    })
}

/// Validates a `PodTemplateSpec`. Upstream leaves `metadata` out of the paths.
pub(crate) fn validate_template(template: &Value, path: &Path, errors: &mut Errors) {
    let annotations = template.at("metadata.annotations");
    let (spec, below) = (template.at("spec"), path.of("spec"));
    crate::meta::labels(template.at("metadata.labels"), &path.of("labels"), errors);
    crate::meta::annotations(annotations, &path.of("annotations"), errors);
    annotations::check(annotations, spec, &path.of("annotations"), errors);
    validate::spec(spec, &below, validate::Of::Template, errors);
    annotations::agree(annotations, spec, &below, errors);
    if !spec.items("ephemeralContainers").is_empty() {
        errors.forbidden(
            &below.of("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// The errors of a function that fills a collector.
pub(crate) fn gather(fill: impl FnOnce(&mut Errors)) -> Vec<FieldError> {
    let mut errors = Errors::default();
    fill(&mut errors);
    errors.0
}
