//! What an update of a pod may change.
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement>.

use super::gather;
use crate::check::{Errors, Path, same};
use crate::rules::copy;
use crate::tree::{Tree, each};
use serde_json::Value;
use skiff_api::FieldError;

const CHANGED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A subresource takes only its own part of what was sent.
pub(super) fn prepare(subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "" => copy_text(new, old, "status", "qosClass"),
        "status" => {
            // What the server decided at creation stays.
            copy_text(new, old, "status", "qosClass");
        }
        "ephemeralcontainers" => {
            let asked = new.at("spec").get("ephemeralContainers").cloned();
            copy(new, old, "spec");
            copy(new, old, "status");
            if let (Some(asked), Some(spec)) = (asked, new.get_mut("spec").and_then(Value::as_object_mut)) {
                spec.insert("ephemeralContainers".into(), asked);
            }
        }
        "resize" => resize(new, old),
        _ => {}
    }
}

fn copy_text(new: &mut Value, old: &Value, parent: &str, key: &str) {
    if let Some(inner) = new.get_mut(parent).filter(|v| v.is_object()) {
        copy(inner, old.at(parent), key);
    }
}

/// Resources and resize policies of containers, matched by name.
fn resize(new: &mut Value, old: &Value) {
    let asked = new.at("spec").clone();
    copy(new, old, "spec");
    copy(new, old, "status");
    let Some(spec) = new.get_mut("spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let name = container.text("name").to_string();
            if let Some(wanted) = asked.items(list).iter().find(|c| c.text("name") == name) {
                copy(container, wanted, "resources");
                copy(container, wanted, "resizePolicy");
            }
        }
    }
}

pub(super) fn validate(subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| match subresource {
        "" => main(new, old, errors),
        "ephemeralcontainers" => ephemeral(new, old, errors),
        "resize" if super::qos::class(new.at("spec")) != super::qos::class(old.at("spec")) => {
            errors.invalid(
                &Path::new("spec"),
                new.text("status.qosClass"),
                "Pod QOS Class may not change as a result of resizing",
            );
        }
        _ => {}
    })
}

fn main(new: &Value, old: &Value, errors: &mut Errors) {
    if new.items("spec.containers").len() != old.items("spec.containers").len() {
        errors.forbidden(
            &Path::new("spec.containers"),
            "pod updates may not add or remove containers",
        );
        return;
    }
    if new.items("spec.initContainers").len() != old.items("spec.initContainers").len() {
        errors.forbidden(
            &Path::new("spec.initContainers"),
            "pod updates may not add or remove containers",
        );
        return;
    }
    deadline(new, old, errors);
    gates(new, old, errors);
    tolerations(new, old, errors);
    // Everything that may change is made as it was; then nothing may differ.
    let mut rest = new.at("spec").clone();
    let before = old.at("spec");
    for list in ["containers", "initContainers"] {
        for (container, was) in each(&mut rest, list).zip(before.items(list)) {
            if container.has("image") {
                copy(container, was, "image");
            }
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut rest, before, key);
    }
    if rest.int("terminationGracePeriodSeconds") == Some(1)
        && before.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0)
    {
        copy(&mut rest, before, "terminationGracePeriodSeconds");
    }
    if !old.items("spec.schedulingGates").is_empty() {
        // A gated pod may still be steered: narrowing is trusted, not proven.
        for key in ["nodeSelector", "affinity"] {
            copy(&mut rest, before, key);
        }
    }
    if !same(&rest, before) {
        errors.forbidden(&Path::new("spec"), CHANGED);
    }
}

fn deadline(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec.activeDeadlineSeconds");
    match (
        new.int("spec.activeDeadlineSeconds"),
        old.int("spec.activeDeadlineSeconds"),
    ) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            errors.invalid(&at, n, "must be between 0 and 2147483647, inclusive");
        }
        (Some(n), Some(o)) if n > o => {
            errors.invalid(&at, n, &format!("must be less than or equal to previous value {o}"));
        }
        (None, Some(_)) => errors.invalid(&at, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, errors: &mut Errors) {
    let before = old.items("spec.schedulingGates");
    if new.items("spec.schedulingGates").iter().any(|g| !before.contains(g)) {
        errors.forbidden(
            &Path::new("spec.schedulingGates"),
            "only deletion is allowed, but found new scheduling gate",
        );
    }
}

fn tolerations(new: &Value, old: &Value, errors: &mut Errors) {
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        if let Some(map) = t.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        t
    };
    let now: Vec<Value> = new.items("spec.tolerations").iter().map(without_seconds).collect();
    if !old
        .items("spec.tolerations")
        .iter()
        .all(|t| now.contains(&without_seconds(t)))
    {
        errors.forbidden(
            &Path::new("spec.tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec.ephemeralContainers");
    let now = new.items("spec.ephemeralContainers");
    for was in old.items("spec.ephemeralContainers") {
        let name = was.text("name");
        match now.iter().find(|c| c.text("name") == name) {
            None => errors.forbidden(
                &at,
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(is) if !same(is, was) => {
                errors.forbidden(
                    &at,
                    &format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
}
