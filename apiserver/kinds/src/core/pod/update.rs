//! What an update of a pod may change.
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement>.

use super::{annotations, container, gather, resize, status};
use crate::check::{Errors, Path, same};
use crate::rules::copy;
use crate::tree::{Tree, each};
use serde_json::Value;
use skiff_api::FieldError;

const CHANGED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A subresource takes only its own part of what was sent.
pub(super) fn prepare(subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        // What the server decided at creation stays, if the writer leaves it out, and so
        // do the generations that were seen.
        "status" => {
            if new.text("status.qosClass").is_empty() {
                copy_text(new, old, "status", "qosClass");
            }
            observed(new, old);
        }
        "ephemeralcontainers" => {
            let asked = new.at("spec").get("ephemeralContainers").cloned();
            copy(new, old, "spec");
            copy(new, old, "status");
            if let (Some(asked), Some(spec)) = (asked, new.get_mut("spec").and_then(Value::as_object_mut)) {
                spec.insert("ephemeralContainers".into(), asked);
            }
        }
        "resize" => resize::prepare(new, old),
        _ => {}
    }
}

fn copy_text(new: &mut Value, old: &Value, parent: &str, key: &str) {
    if let Some(inner) = new.get_mut(parent).filter(|v| v.is_object()) {
        copy(inner, old.at(parent), key);
    }
}

/// A writer that knows nothing of `observedGeneration` does not clear it.
fn observed(new: &mut Value, old: &Value) {
    const KEY: &str = "observedGeneration";
    let unset = |holder: &Value| holder.int(KEY).unwrap_or(0) == 0;
    if unset(new.at("status")) && !unset(old.at("status")) {
        copy_text(new, old, "status", KEY);
    }
    let before = old.items("status.conditions");
    let Some(status) = new.get_mut("status") else { return };
    for condition in each(status, "conditions").filter(|c| unset(c)) {
        let kind = condition.text("type").to_string();
        if let Some(was) = before.iter().find(|c| c.text("type") == kind && !unset(c)) {
            copy(condition, was, KEY);
        }
    }
}

pub(super) fn validate(subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| {
        annotations::update(new, old, errors);
        match subresource {
            "" => main(new, old, errors),
            "status" => status::check(new, old, errors),
            "ephemeralcontainers" => ephemeral(new, old, errors),
            "resize" => resize::check(new, old, errors),
            _ => {}
        }
    })
}

/// Errors of a pod that a kubelet runs from a file, as a whole.
pub(super) fn forbidden_whole(message: &str, errors: &mut Errors) {
    errors.0.clear();
    errors.forbidden(&Path::new(""), message);
}

fn main(new: &Value, old: &Value, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        let at = format!("spec.{list}");
        let at = Path::new(&at);
        if new.at("spec").items(list).len() != old.at("spec").items(list).len() {
            errors.forbidden(&at, "pod updates may not add or remove containers");
            return;
        }
        for (i, container) in new.at("spec").items(list).iter().enumerate() {
            container::trimmed_image(container, &at.at(i), errors);
        }
    }
    if !deadline(new, old, errors) {
        return;
    }
    tolerations(new, old, errors);
    gates(new, old, errors);
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
        steer(&mut rest, before, errors);
    }
    if !same(&rest, before) {
        errors.forbidden(&Path::new("spec"), CHANGED);
    }
}

/// False if the rest need not be looked at.
fn deadline(new: &Value, old: &Value, errors: &mut Errors) -> bool {
    let at = Path::new("spec.activeDeadlineSeconds");
    match (
        new.int("spec.activeDeadlineSeconds"),
        old.int("spec.activeDeadlineSeconds"),
    ) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            errors.invalid(&at, n, "must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(n), Some(o)) if n > o => {
            errors.invalid(&at, n, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => errors.invalid(&at, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn gates(new: &Value, old: &Value, errors: &mut Errors) {
    let before = old.items("spec.schedulingGates");
    let list = Path::new("spec.schedulingGates");
    for (i, gate) in new.items("spec.schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !before.iter().any(|g| g.text("name") == name) {
            let text = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&list.at(i).of("name"), &text);
        }
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

/// While gates hold a pod back, its choice of nodes may be narrowed and never
/// widened. What was narrowed is put back in `rest`.
fn steer(rest: &mut Value, before: &Value, errors: &mut Errors) {
    let now = rest.at("nodeSelector").clone();
    let kept = before
        .map("nodeSelector")
        .into_iter()
        .flatten()
        .all(|(k, v)| now.get(k) == Some(v));
    if !kept {
        errors.invalid(
            &Path::new("spec.nodeSelector"),
            now,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    copy(rest, before, "nodeSelector");
    let was = before.at("affinity.nodeAffinity");
    if same(rest.at("affinity.nodeAffinity"), was) {
        return;
    }
    narrowed(rest.at("affinity.nodeAffinity"), was, errors);
    if let Some(map) = rest.as_object_mut() {
        let affinity = map.entry("affinity").or_insert(Value::Null);
        if affinity.is_null() {
            *affinity = serde_json::json!({});
        }
        copy(affinity, before.at("affinity"), "nodeAffinity");
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

fn narrowed(now: &Value, was: &Value, errors: &mut Errors) {
    let before = was.at(REQUIRED).items("nodeSelectorTerms");
    let terms = now.at(REQUIRED).items("nodeSelectorTerms");
    let at = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    let at = Path::new(&at);
    if !before.is_empty() && before.len() != terms.len() {
        errors.invalid(
            &at,
            terms.to_vec(),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        return;
    }
    for (i, (old, new)) in before.iter().zip(terms).enumerate() {
        if !only_additions(new, old) {
            errors.invalid(
                &at.at(i),
                new.clone(),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

/// An empty term matches nothing, so that adding to it would widen it.
fn only_additions(new: &Value, old: &Value) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| LISTS.iter().all(|l| term.items(l).is_empty());
    if empty(old) && !empty(new) {
        return false;
    }
    LISTS.iter().all(|list| {
        let (now, was) = (new.items(list), old.items(list));
        now.len() >= was.len() && now.iter().zip(was).all(|(a, b)| same(a, b))
    })
}

fn ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    if annotations::is_mirror(old) {
        forbidden_whole("static pods do not support ephemeral containers", errors);
        return;
    }
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
