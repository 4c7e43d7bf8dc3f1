//! Checks of the annotations that Kubernetes reads from pods and their templates.

use super::container::LISTS;
use super::volume;
use crate::check::{Errors, Path};
use crate::tree::Tree;
use serde_json::Value;

/// Marks the API's picture of a pod that a kubelet runs from a file.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(crate) fn is_mirror(pod: &Value) -> bool {
    pod.at("metadata.annotations").get(MIRROR).is_some()
}

fn text<'a>(annotations: &'a Value, key: &str) -> Option<&'a str> {
    annotations.get(key).and_then(Value::as_str)
}

/// Annotations of a pod or a template with the spec that they are about.
pub(super) fn check(annotations: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    if let Some(value) = text(annotations, MIRROR)
        && spec.text("nodeName").is_empty()
    {
        errors.invalid(
            &path.key(MIRROR),
            value,
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    if let Some(cost) = text(annotations, DELETION_COST)
        && !is_cost(cost)
    {
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(value, &path.of(key), errors);
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            let known = LISTS
                .iter()
                .any(|l| spec.items(l).iter().any(|c| c.text("name") == name));
            if !known {
                errors.invalid(&path.key(key), name, "container not found");
            }
            let fine = matches!(value, "" | "runtime/default" | "unconfined") || value.starts_with("localhost/");
            if !fine {
                let why = format!("invalid AppArmor profile name: {value:?}");
                errors.invalid(&path.key(key), value, &why);
            }
        }
    }
}

/// A number without plus sign or leading zeros.
fn is_cost(cost: &str) -> bool {
    let first = match cost.as_bytes() {
        [b'0', rest @ ..] => rest.is_empty(),
        [b'-' | b'1'..=b'9', ..] => true,
        _ => false,
    };
    first && cost.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        _ => match profile.strip_prefix("localhost/") {
            Some(local) => volume::descending_path(local, path, errors),
            None => errors.invalid(path, profile, "must be a valid seccomp profile"),
        },
    }
}

/// Profiles by annotation and by field must agree in what is new.
pub(super) fn agree(annotations: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let context = path.of("securityContext");
    let profile = spec.at("securityContext.seccompProfile");
    if let Some(value) = text(annotations, SECCOMP_POD) {
        matches_field(value, profile, &context.of("seccompProfile"), "seccomp", errors);
    }
    let windows = spec.text("os.name") == "windows";
    for list in LISTS {
        let at = path.of(list);
        for (i, container) in spec.items(list).iter().enumerate() {
            let item = at.at(i);
            let context = item.of("securityContext");
            let name = container.text("name");
            if let Some(value) = text(annotations, &format!("{SECCOMP_CONTAINER}{name}")) {
                let own = container.at("securityContext.seccompProfile");
                matches_field(value, own, &context.of("seccompProfile"), "seccomp", errors);
            }
            if let Some(value) = text(annotations, &format!("{APP_ARMOR}{name}")).filter(|_| !windows) {
                let own = match container.at("securityContext.appArmorProfile") {
                    Value::Null => spec.at("securityContext.appArmorProfile"),
                    own => own,
                };
                matches_field(value, own, &context.of("appArmorProfile"), "apparmor", errors);
            }
        }
    }
}

fn matches_field(annotation: &str, profile: &Value, path: &Path, what: &str, errors: &mut Errors) {
    let same_type = match profile.text("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default"),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => false,
            Some(local) if local == profile.text("localhostProfile") => true,
            Some(_) => {
                errors.forbidden(
                    &path.of("localhostProfile"),
                    &format!("{what} profile in annotation and field must match"),
                );
                return;
            }
        },
        _ => return,
    };
    if !same_type {
        errors.forbidden(
            &path.of("type"),
            &format!("{what} type in annotation and field must match"),
        );
    }
}

/// What an update may not do to annotations that only the pod's maker writes.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata.annotations");
    let (now, was) = (new.at("metadata.annotations"), old.at("metadata.annotations"));
    for (key, value) in was.as_object().into_iter().flatten() {
        if now.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in now.as_object().into_iter().flatten().map(|(k, _)| k) {
        if was.get(key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn costs() {
        for (cost, fine) in [
            ("0", true),
            ("-5", true),
            ("12", true),
            ("+1", false),
            ("01", false),
            ("1.0", false),
            ("2147483648", false),
            ("", false),
        ] {
            assert_eq!(super::is_cost(cost), fine, "{cost}");
        }
    }
}
