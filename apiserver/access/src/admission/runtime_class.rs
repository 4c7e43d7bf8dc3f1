//! RuntimeClass: a pod's overhead and where it can run come from its class.
//! Source: <https://kubernetes.io/docs/concepts/containers/runtime-class/>.

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{items, list_mut, map_mut, text};
use serde_json::Value;

fn class_of(r: &AdmissionRequest, objects: &dyn Objects) -> Result<Option<std::sync::Arc<Value>>, skiff_api::ApiError> {
    let name = text(r.object, "/spec/runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    match objects.get("node.k8s.io", "runtimeclasses", "", name) {
        Some(class) => Ok(Some(class)),
        None => Err(forbidden(r, &format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

pub fn mutate(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if !is(r, Operation::Create, "", "pods") {
        return Ok(());
    }
    let Some(class) = class_of(r, objects)? else {
        return Ok(());
    };
    let overhead = class.pointer("/overhead/podFixed");
    let given = r
        .object
        .pointer("/spec/overhead")
        .filter(|given| given.as_object().is_some_and(|map| !map.is_empty()));
    if let (Some(overhead), Some(given)) = (overhead, given)
        && overhead != given
    {
        return Err(forbidden(
            r,
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ));
    }
    let wanted = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
    for (key, value) in wanted.into_iter().flatten() {
        if let Some(own) = r
            .object
            .pointer("/spec/nodeSelector")
            .and_then(|selector| selector.get(key))
            && own != value
        {
            let shown = |value: &Value| value.as_str().unwrap_or("").to_string();
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                shown(value),
                shown(own)
            );
            return Err(forbidden(r, &why));
        }
    }
    let Some(spec) = super::spec_mut(r) else { return Ok(()) };
    if let Some(overhead) = overhead {
        spec["overhead"] = overhead.clone();
    }
    if let Some(wanted) = wanted
        && let Some(selector) = map_mut(spec, "nodeSelector")
    {
        for (key, value) in wanted {
            selector.insert(key.clone(), value.clone());
        }
    }
    let tolerations = items(&class, "/scheduling/tolerations");
    if !tolerations.is_empty()
        && let Some(own) = list_mut(spec, "tolerations")
    {
        for toleration in tolerations {
            if !own.contains(toleration) {
                own.push(toleration.clone());
            }
        }
    }
    Ok(())
}

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if !is(r, Operation::Create, "", "pods") {
        return Ok(());
    }
    let class = class_of(r, objects)?;
    let given = r
        .object
        .pointer("/spec/overhead")
        .and_then(Value::as_object)
        .is_some_and(|map| !map.is_empty());
    if given && class.is_none_or(|class| class.pointer("/overhead/podFixed").is_none()) {
        return Err(forbidden(
            r,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ));
    }
    Ok(())
}
