//! Priority: from the name of a priority class to its number.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>.

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{flag, text};
use serde_json::Value;

const GROUP: &str = "scheduling.k8s.io";
/// Classes that the system itself needs.
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

pub fn mutate(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if is(r, Operation::Update, "", "pods") {
        keep(r);
        return Ok(());
    }
    if !is(r, Operation::Create, "", "pods") || !r.object.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    let named = text(r.object, "/spec/priorityClassName").to_string();
    let class = if named.is_empty() {
        global_default(objects)
    } else {
        let found = objects.get(GROUP, "priorityclasses", "", &named);
        if found.is_none() {
            return Err(forbidden(r, &format!("no PriorityClass with name {named} was found")));
        }
        found
    };
    let number = |class: &Value| class.get("value").and_then(Value::as_i64);
    let priority = class.as_deref().and_then(number).unwrap_or(0);
    let policy = match class.as_deref().map(|class| text(class, "/preemptionPolicy")) {
        Some(policy) if !policy.is_empty() => policy.to_string(),
        _ => "PreemptLowerPriority".to_string(),
    };
    if let Some(given) = r.object.pointer("/spec/priority").and_then(Value::as_i64)
        && given != priority
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; \
             priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(forbidden(r, &why));
    }
    let given = text(r.object, "/spec/preemptionPolicy");
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(r, &why));
    }
    if let Some(spec) = super::spec_mut(r) {
        if let (true, Some(class)) = (named.is_empty(), &class) {
            spec["priorityClassName"] = text(class, "/metadata/name").into();
        }
        spec["priority"] = priority.into();
        spec["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

/// Who updates a pod need not repeat what was computed for it.
fn keep(r: &mut AdmissionRequest) {
    let Some(old) = r.old_object else { return };
    for key in ["priority", "preemptionPolicy"] {
        if let Some(value) = old
            .get("spec")
            .and_then(|spec| spec.get(key))
            .filter(|value| !value.is_null())
            && let Some(spec) = super::spec_mut(r)
            && spec.get(key).is_none_or(Value::is_null)
        {
            spec[key] = value.clone();
        }
    }
}

/// The class for pods that name none; of several the lowest, as upstream.
fn global_default(objects: &dyn Objects) -> Option<std::sync::Arc<Value>> {
    objects
        .list(GROUP, "priorityclasses", "")
        .into_iter()
        .filter(|class| flag(class, "/globalDefault") == Some(true))
        .min_by_key(|class| {
            (
                class.get("value").and_then(Value::as_i64),
                text(class, "/metadata/name").to_string(),
            )
        })
}

/// There is at most one global default.
pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if is(r, Operation::Delete, GROUP, "priorityclasses") && SYSTEM.contains(&r.name) {
        return Err(forbidden(r, "this is a system priority class and cannot be deleted"));
    }
    let write =
        is(r, Operation::Create, GROUP, "priorityclasses") || is(r, Operation::Update, GROUP, "priorityclasses");
    if !write || flag(r.object, "/globalDefault") != Some(true) {
        return Ok(());
    }
    match global_default(objects) {
        Some(other) if text(&other, "/metadata/name") != text(r.object, "/metadata/name") => {
            let name = text(&other, "/metadata/name");
            let why = format!("PriorityClass {name} is already marked as globalDefault. Only one default can exist");
            Err(forbidden(r, &why))
        }
        _ => Ok(()),
    }
}
