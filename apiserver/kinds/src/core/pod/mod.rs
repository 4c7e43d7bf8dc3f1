//! Pods: the strategy, and what templates of other kinds share with it.

pub(crate) mod container;
pub(crate) mod defaults;
pub(crate) mod qos;
pub(crate) mod row;
pub(crate) mod scheduling;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod volume;
pub(crate) mod volume_defaults;

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
    validate: |pod| {
        let mut errors = Errors::default();
        validate::spec(pod.at("spec"), &Path::new("spec"), validate::Of::Pod, &mut errors);
        errors.0
    },
    validate_update: update::validate,
    warnings: |pod| warnings(pod.at("spec"), "spec"),
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
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    if pod.is_object() {
        pod["status"] = status;
    }
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

/// Warnings of a pod spec; `at` is where the spec is.
pub(crate) fn warnings(spec: &Value, at: &str) -> Vec<String> {
    let mut out = Vec::new();
    for key in ["initContainers", "containers"] {
        for (i, container) in spec.items(key).iter().enumerate() {
            let mut seen = std::collections::BTreeSet::new();
            for (j, env) in container.items("env").iter().enumerate() {
                let name = env.text("name");
                if !seen.insert(name) {
                    out.push(format!(
                        "{at}.{key}[{i}].env[{j}]: hides previous definition of {name:?}, which may be dropped when using apply"
                    ));
                }
            }
        }
    }
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    out
}

/// Validates a `PodTemplateSpec`.
pub(crate) fn validate_template(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = path.of("metadata");
    crate::meta::labels(template.at("metadata.labels"), &metadata.of("labels"), errors);
    crate::meta::annotations(template.at("metadata.annotations"), &metadata.of("annotations"), errors);
    let spec = path.of("spec");
    validate::spec(template.at("spec"), &spec, validate::Of::Template, errors);
    if !template.items("spec.ephemeralContainers").is_empty() {
        errors.forbidden(
            &spec.of("ephemeralContainers"),
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
