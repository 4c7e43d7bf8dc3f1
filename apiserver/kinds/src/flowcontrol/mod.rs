//! Rows of flowcontrol.apiserver.k8s.io.

pub mod bootstrap;
mod flow_schema;
mod priority_level;

use crate::check::{Errors, Path, same};
use crate::contract::Kind;
use crate::row::{kind, status};
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            subresources: const { &[status(GROUP, "v1", "FlowSchema")] },
            columns: flow_schema::COLUMNS,
            strategy: &flow_schema::STRATEGY,
            ..kind!(GROUP, V1, "FlowSchema", "flowschemas", "flowschema", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "PriorityLevelConfiguration")] },
            columns: priority_level::COLUMNS,
            strategy: &priority_level::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "PriorityLevelConfiguration",
                "prioritylevelconfigurations",
                "prioritylevelconfiguration",
                false
            )
        },
    ]
}

/// Mandatory objects may be nothing else than they are. `apart` is what may differ.
fn mandatory(o: &Value, kind: &str, apart: Option<&str>, errors: &mut Errors) {
    let name = o.text("metadata.name");
    let wanted = bootstrap::wanted()
        .into_iter()
        .filter(|w| w.mandatory)
        .map(|w| w.object);
    let Some(wanted) = wanted
        .into_iter()
        .find(|w| w["kind"] == kind && w.text("metadata.name") == name)
    else {
        return;
    };
    let without = |spec: &Value| {
        let mut spec = spec.clone();
        if let (Some(key), Some(map)) = (apart, spec.as_object_mut()) {
            map.remove(key);
        }
        spec
    };
    if !same(&without(o.at("spec")), &without(wanted.at("spec"))) {
        let text = match apart {
            Some(key) if wanted["spec"][key].is_object() => {
                format!("spec of '{name}' except the spec.{key} field must equal the fixed value")
            }
            _ => format!("spec of '{name}' must equal the fixed value"),
        };
        errors.invalid(&Path::new("spec"), o.at("spec").clone(), &text);
    }
}

/// Conditions have types, each once.
fn conditions(o: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    let path = status.of("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in o.items("status.conditions").iter().enumerate() {
        let at = path.at(index);
        let kind = condition.text("type");
        if seen.contains(&kind) {
            errors.duplicate(&at.of("type"), kind);
        }
        seen.push(kind);
        if kind.is_empty() {
            errors.required(&at.of("type"), "must not be empty");
        }
    }
}

#[cfg(test)]
mod tests;
