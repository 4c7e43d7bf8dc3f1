//! Tests of server-side apply, and what they share.

mod applying;
mod cost;
mod properties;
mod sets;
mod tracking;

use super::*;
use crate::schema::lookup_gvk;
use serde_json::json;

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn ty(kind: &str) -> &'static Type {
    ["", "apps", "autoscaling"]
        .iter()
        .find_map(|group| lookup_gvk(group, "v1", kind))
        .expect("a kind")
}

fn tracking(kind: &str) -> Tracking<'static> {
    Tracking {
        ty: ty(kind),
        ignored: &[],
        versions: None,
    }
}

fn who(manager: &'static str, version: &'static str, now: &'static str) -> Writer<'static> {
    Writer {
        manager,
        api_version: version,
        subresource: "",
        now,
    }
}

fn by(manager: &'static str) -> Writer<'static> {
    who(manager, "v1", T1)
}

fn entry<'a>(object: &'a Value, manager: &str) -> &'a Value {
    object["metadata"]["managedFields"]
        .as_array()
        .and_then(|list| list.iter().find(|e| e["manager"] == manager))
        .unwrap_or(&Value::Null)
}

fn fields(object: &Value, manager: &str) -> Value {
    entry(object, manager)["fieldsV1"].clone()
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn created(kind: &str, mut object: Value, who: &Writer<'_>) -> Value {
    track_update(&tracking(kind), None, &mut object, who);
    object["metadata"]["uid"] = "u".into();
    object
}

fn updated(kind: &str, old: &Value, who: &Writer<'_>, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = old.clone();
    change(&mut new);
    track_update(&tracking(kind), Some(old), &mut new, who);
    new
}

fn applied(old: Option<&Value>, config: &Value, manager: &'static str, force: bool) -> Result<Value, crate::ApiError> {
    let kind = config["kind"].as_str().unwrap();
    let version = config["apiVersion"].as_str().unwrap();
    let who = Writer {
        manager,
        api_version: version,
        subresource: "",
        now: T1,
    };
    apply(&tracking(kind), old, config, &who, force)
}

fn set(value: Value) -> FieldSet {
    FieldSet::parse(&value).expect("a field set")
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i:1", "command": ["a", "b"],
                    "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]}}}})
}
