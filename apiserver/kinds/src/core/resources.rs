//! Names and amounts of resources: what containers, pods, quotas and limit ranges
//! may ask for, and the checks of `ResourceRequirements`.
//! Source: <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>.

use crate::check::{Errors, Path};
use crate::names;
use crate::quantity::{self, Quantity};
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources of which only whole numbers make sense.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_page(name: &str) -> bool {
    is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Kubernetes' own: without a domain, or with its domain.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `vendor.com/device`: what a device plugin brings.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether requests may stay below limits.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_quota_compute(name: &str) -> bool {
    let bare = name
        .strip_prefix("requests.")
        .or_else(|| name.strip_prefix("limits."))
        .unwrap_or(name);
    COMPUTE.contains(&bare)
}

/// What a quota can limit, of Kubernetes' own resources.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    is_quota_compute(name) || COUNTED.contains(&name) || name == "requests.storage" || is_quota_huge_page(name)
}

fn is_standard(name: &str) -> bool {
    is_standard_quota(name) || name == "storage"
}

fn is_standard_container(name: &str) -> bool {
    COMPUTE.contains(&name) || is_huge_page(name)
}

/// A name of any resource.
pub(crate) fn name(name: &str, path: &Path, errors: &mut Errors) {
    let faults = names::qualified_name(name);
    if faults.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    errors.all(path, name, faults);
}

/// A name of a resource that containers can ask for.
pub(crate) fn container_name(text: &str, path: &Path, errors: &mut Errors) {
    name(text, path, errors);
    if !text.contains('/') {
        if !is_standard_container(text) {
            errors.invalid(path, text, "must be a standard resource for containers");
        }
    } else if !is_native(text) && !is_extended(text) {
        errors.invalid(path, text, "doesn't follow extended resource name standard");
    }
}

/// A name of a resource that a whole pod can ask for.
fn pod_name(text: &str, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    name(text, path, errors);
    if errors.0.len() == before && !is_pod_level(text) {
        errors.not_supported(path, text, &["cpu", "hugepages-", "memory"]);
    }
}

pub(crate) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

pub(crate) fn quota_name(text: &str, path: &Path, errors: &mut Errors) {
    name(text, path, errors);
    if !text.contains('/') && !is_standard_quota(text) {
        errors.invalid(path, text, "must be a standard resource for quota");
    }
}

/// A quantity as upstream shows it in messages.
pub(crate) fn shown(amount: &Value) -> String {
    match amount {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A quantity that is not negative.
pub(crate) fn quantity_at(amount: &Value, path: &Path, errors: &mut Errors) {
    match quantity::parse(amount) {
        None => errors.invalid(path, amount.clone(), quantity::INVALID),
        Some(n) if n.sign() < 0 => errors.invalid(path, amount.clone(), "must be greater than or equal to 0"),
        Some(_) => {}
    }
}

/// An amount of the resource: not negative, and whole where it counts things.
pub(crate) fn amount(name: &str, amount: &Value, path: &Path, errors: &mut Errors) {
    quantity_at(amount, path, errors);
    let counted = COUNTED.contains(&name) || is_extended(name);
    if counted && quantity::parse(amount).is_some_and(|n| n.milli_value() % 1000 != 0) {
        errors.invalid(path, amount.clone(), "must be an integer");
    }
}

/// Above zero.
pub(crate) fn positive(amount: &Value, path: &Path, errors: &mut Errors) {
    match quantity::parse(amount) {
        None => errors.invalid(path, amount.clone(), quantity::INVALID),
        Some(n) if n.sign() <= 0 => errors.invalid(path, amount.clone(), "must be greater than zero"),
        Some(_) => {}
    }
}

/// Huge pages come in whole pages of the size that the name says.
fn whole_pages(name: &str, amount: &Value, path: &Path, errors: &mut Errors) {
    let size = name
        .strip_prefix("hugepages-")
        .and_then(|s| s.parse::<Quantity>().ok())
        .map_or(0, |q| q.value());
    let bytes = quantity::parse(amount).map_or(0, |q| q.value());
    if size <= 0 || bytes % size != 0 {
        let text = format!("{} is not positive integer multiple of {name}", shown(amount));
        errors.invalid(path, amount.clone(), &text);
    }
}

/// Who asks for resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Container,
    Pod,
}

/// `ResourceRequirements`: names, amounts, requests within limits, claims among
/// those of the pod.
pub(crate) fn requirements(resources: &Value, of: Of, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let limits = path.of("limits");
    let requests = path.of("requests");
    let mut compute = false;
    let mut pages = false;
    for (list, at) in [("limits", &limits), ("requests", &requests)] {
        for (resource, quantity) in resources.map(list).into_iter().flatten() {
            let path = at.key(resource);
            match of {
                Of::Container => container_name(resource, &path, errors),
                Of::Pod => pod_name(resource, &path, errors),
            }
            amount(resource, quantity, &path, errors);
            if list == "requests" {
                within_limit(resources, resource, quantity, (&requests, &limits), errors);
            }
            if is_huge_page(resource) {
                pages = true;
                whole_pages(resource, quantity, &path, errors);
            }
            compute |= matches!(resource.as_str(), "cpu" | "memory");
        }
    }
    if pages && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claimed(resources.items("claims"), claims, &path.of("claims"), errors);
}

fn within_limit(resources: &Value, name: &str, request: &Value, at: (&Path, &Path), errors: &mut Errors) {
    let (requests, limits) = at;
    let Some(limit) = resources.at("limits").get(name) else {
        if !may_overcommit(name) {
            errors.required(limits, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    let (Some(asked), Some(most)) = (quantity::parse(request), quantity::parse(limit)) else {
        return;
    };
    if asked != most && !may_overcommit(name) {
        let text = format!("must be equal to {name} limit of {}", shown(limit));
        errors.invalid(requests, request.clone(), &text);
    } else if asked > most {
        let text = format!("must be less than or equal to {name} limit of {}", shown(limit));
        errors.invalid(requests, request.clone(), &text);
    }
}

/// Claims that a container uses: each once, whole or by request, and known to the pod.
fn claimed(claims: &[Value], known: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (i, claim) in claims.iter().enumerate() {
        let path = path.at(i);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.duplicate(&path, name);
        } else {
            errors.name_at(claim, &path, "request", names::dns_label);
            if seen.contains(&(name, request)) {
                errors.duplicate(&path, format!("{name}/{request}"));
            } else if request.is_empty() {
                for _ in seen.iter().filter(|(n, _)| *n == name) {
                    errors.duplicate(&path, name);
                }
            }
            seen.insert((name, request));
        }
        if !known.contains(name) {
            let why = if known.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_string()
            } else {
                let names: Vec<&str> = known.iter().copied().collect();
                format!(
                    "must be one of the names in pod.spec.resourceClaims: {}",
                    names.join(", ")
                )
            };
            errors.not_found_because(&path, name, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_resource_is() {
        for (name, extended, overcommit, quota) in [
            ("cpu", false, true, true),
            ("requests.cpu", false, true, true),
            ("hugepages-2Mi", false, false, true),
            ("nvidia.com/gpu", true, false, false),
            ("kubernetes.io/x", false, true, false),
            ("requests.nvidia.com/gpu", false, false, false),
            ("storage", false, true, false),
        ] {
            assert_eq!(
                (is_extended(name), may_overcommit(name), is_standard_quota(name)),
                (extended, overcommit, quota),
                "{name}"
            );
        }
    }
}
