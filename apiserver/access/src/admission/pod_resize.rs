//! PodResizeValidator: a resize that the pod's node could never grant is refused at once.
//! Source: the release notes of v1.36.

use super::{forbidden, quantity};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::text;
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_api::quantity::Quantity;

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if (r.operation, r.group, r.resource, r.subresource) != (Operation::Update, "", "pods", "resize") {
        return Ok(());
    }
    let node_name = text(r.object, "/spec/nodeName");
    if node_name.is_empty() || r.old_object.is_some_and(|old| old["spec"] == r.object["spec"]) {
        return Ok(());
    }
    let Some(node) = objects.get("", "nodes", "", node_name) else {
        return Err(forbidden(r, &format!("node {node_name:?} not found")));
    };
    let system = text(&node, "/metadata/labels/kubernetes.io~1os");
    if !matches!(system, "" | "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {node_name:?} is {system:?}");
        return Err(refused(r, &why, "UnsupportedPlatform"));
    }
    let shown: [(&str, fn(&Quantity) -> i64); 2] = [("cpu", Quantity::milli_value), ("memory", Quantity::value)];
    let over: Vec<String> = shown
        .into_iter()
        .filter_map(|(resource, shown)| {
            let asked = requested(&r.object["spec"], resource);
            let there = quantity(&node["status"]["allocatable"][resource]).unwrap_or(Quantity::ZERO);
            (asked > there).then(|| {
                let (asked, there) = (shown(&asked), shown(&there));
                format!("{resource}, requested: {asked}, allocatable: {there}")
            })
        })
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", over.join("; "));
    Err(refused(r, &why, "NodeCapacity"))
}

fn refused(r: &AdmissionRequest, why: &str, cause: &str) -> ApiError {
    let mut error = forbidden(r, why);
    let mut details = error.details.take().unwrap_or_else(|| json!({}));
    details["causes"] = json!([{"reason": cause}]);
    error.details = Some(details);
    error
}

/// What a pod asks of its node: what its containers and sidecars ask for together, or more while one of its init
/// containers runs beside the sidecars before it; the pod's own request counts instead; the overhead comes on top.
fn requested(spec: &Value, resource: &str) -> Quantity {
    let list = |key: &str| spec[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |holder: &Value| quantity(&holder["resources"]["requests"][resource]);
    let mut sidecars = Quantity::ZERO;
    let mut most = Quantity::ZERO;
    for container in list("initContainers") {
        let asked = of(container).unwrap_or(Quantity::ZERO);
        if container["restartPolicy"] == "Always" {
            sidecars = sidecars + asked;
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + asked);
        }
    }
    let containers = list("containers")
        .iter()
        .filter_map(of)
        .fold(sidecars, |sum, asked| sum + asked);
    let overhead = quantity(&spec["overhead"][resource]).unwrap_or(Quantity::ZERO);
    of(spec).unwrap_or_else(|| most.max(containers)) + overhead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_asks_for_what_it_needs_at_once() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        let table = [
            (json!({"containers": [asks("100m"), asks("1"), {}]}), 1100),
            (
                json!({"containers": [asks("1")], "initContainers": [asks("3"), asks("2")]}),
                3000,
            ),
            (
                json!({"containers": [asks("1")], "initContainers": [sidecar("1"), asks("3")]}),
                4000,
            ),
            (
                json!({"containers": [asks("1")], "initContainers": [asks("1"), sidecar("2")]}),
                3000,
            ),
            (
                json!({"containers": [asks("1")], "resources": {"requests": {"cpu": "5"}}, "overhead": {"cpu": "500m"}}),
                5500,
            ),
            (
                json!({"containers": [asks("1")], "resources": {"requests": {"memory": "5"}}}),
                1000,
            ),
        ];
        for (spec, milli) in table {
            assert_eq!(requested(&spec, "cpu").milli_value(), milli, "{spec}");
        }
    }
}
