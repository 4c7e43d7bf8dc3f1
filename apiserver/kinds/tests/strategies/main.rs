//! Strategies from outside, as the generic handler uses them: tables of an
//! object and what comes of it.

mod admission;
mod convert;
mod core_kinds;
mod defaults;
mod devices;
mod groups;
mod pod_updates;
mod pods;
mod requests;
mod rows;
mod scaling;
mod updates;
mod validation;
mod warnings;
mod workloads;

use serde_json::{Value, json};
use skiff_kinds::{Kind, find};

pub fn kind(name: &str) -> &'static Kind {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    find(group, plural).unwrap_or_else(|| panic!("no such resource: {name}"))
}

pub fn defaulted(name: &str, mut object: Value) -> Value {
    kind(name).strategy.default(&mut object);
    object
}

/// Defaults, prepares as for a create, and answers the errors as text.
pub fn errors(name: &str, mut object: Value) -> Vec<String> {
    let strategy = kind(name).strategy;
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    object["metadata"]["uid"] = json!("u-1");
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    let mut errors = strategy.validate(&object);
    errors.extend(strategy.validate_create(&object));
    errors.iter().map(ToString::to_string).collect()
}

pub fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec})
}

pub fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}
