//! Selectors of devices (dynamic resource allocation): the environment they compile in,
//! and a device as they see it.

use crate::containers::{Map, OwnedMap};
use crate::decl::{DeclType, Field, ObjectType};
use crate::env::Env;
use crate::error::EvalError;
use crate::types::{QUANTITY, Type};
use crate::value::{Opaque, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest selector, in bytes.
pub const DEVICE_SELECTOR_BYTES_MAX: usize = 10 * 1024;
/// The most that one evaluation of a selector may cost, and may be estimated to cost.
pub const DEVICE_SELECTOR_COST_MAX: u64 = 1_000_000;

/// Bounds of what a slice may say of a device: attributes and capacities in all, and the
/// characters of a domain and of a text.
const ATTRIBUTES_MAX: u64 = 32;
const DOMAIN_CHARS_MAX: u64 = 63;

impl Env {
    /// `device`, with `driver`, `attributes` and `capacity` (by domain, then by name) and
    /// `allowMultipleAllocations`.
    pub fn for_devices() -> Self {
        let field = |name: &str, decl: DeclType| Field {
            name: name.to_string(),
            decl,
            required: true,
        };
        let by_domain = |of: DeclType| DeclType::map(DeclType::map(of, Some(ATTRIBUTES_MAX)), Some(ATTRIBUTES_MAX));
        let device = ObjectType::new(
            "kubernetes.DRADevice",
            [
                field("driver", DeclType::string(Some(DOMAIN_CHARS_MAX))),
                field("attributes", by_domain(DeclType::scalar(Type::Dyn))),
                field("capacity", by_domain(DeclType::scalar(Type::Opaque(QUANTITY)))),
                field("allowMultipleAllocations", DeclType::scalar(Type::Bool)),
            ],
        );
        Self::new().variable("device", DeclType::object(device))
    }
}

/// `device` of a device in a ResourceSlice, given its `driver` and its JSON (attributes,
/// capacity). Names without a domain are of the driver's.
pub fn device_value<'a>(driver: &'a str, device: &'a Json) -> Result<Value<'a>, EvalError> {
    let part = |name: &str, read: fn(&'a Json) -> Option<Value<'a>>| by_domain(driver, device.get(name), read);
    let shared = device.get("allowMultipleAllocations").and_then(Json::as_bool);
    let mut made = OwnedMap::default();
    for (name, value) in [
        ("driver", Value::from(driver)),
        ("attributes", part("attributes", attribute)?),
        ("capacity", part("capacity", capacity)?),
        ("allowMultipleAllocations", Value::Bool(shared.unwrap_or(false))),
    ] {
        made.insert(Value::from(name), value)?;
    }
    Ok(Value::Map(Map::Owned(Arc::new(made))))
}

fn by_domain<'a>(
    driver: &'a str,
    entries: Option<&'a Json>,
    read: fn(&'a Json) -> Option<Value<'a>>,
) -> Result<Value<'a>, EvalError> {
    let mut domains: BTreeMap<&str, OwnedMap<'a>> = BTreeMap::new();
    for (name, entry) in entries.and_then(Json::as_object).into_iter().flatten() {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        if let Some(value) = read(entry) {
            domains.entry(domain).or_default().insert(Value::from(name), value)?;
        }
    }
    // A domain of which the device says nothing is an empty one.
    let mut made = OwnedMap::or_else(Value::Map(Map::Owned(Arc::default())));
    for (domain, entries) in domains {
        made.insert(Value::from(domain), Value::Map(Map::Owned(Arc::new(entries))))?;
    }
    Ok(Value::Map(Map::Owned(Arc::new(made))))
}

/// One of `int`, `bool`, `string` and `version`.
fn attribute(entry: &Json) -> Option<Value<'_>> {
    let (kind, value) = entry.as_object()?.iter().next()?;
    match kind.as_str() {
        "int" => value.as_i64().map(Value::Int),
        "bool" => value.as_bool().map(Value::Bool),
        "string" => value.as_str().map(Value::from),
        "version" => {
            let version = semver::Version::parse(value.as_str()?).ok()?;
            Some(Value::Opaque(Opaque::Semver(Arc::new(version))))
        }
        _ => None,
    }
}

fn capacity(entry: &Json) -> Option<Value<'_>> {
    let quantity = entry.get("value")?.as_str()?.parse().ok()?;
    Some(Value::Opaque(Opaque::Quantity(Arc::new(quantity))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bindings, Limits};
    use serde_json::json;

    #[test]
    fn selects_devices() {
        let env = Env::for_devices();
        let device = json!({
            "attributes": {
                "model": {"string": "A100"}, "example.com/slots": {"int": 4}, "ready": {"bool": true},
                "driverVersion": {"version": "1.2.3"},
            },
            "capacity": {"memory": {"value": "40Gi"}},
        });
        for (source, want) in [
            ("device.driver == 'gpu.example.com'", Ok(true)),
            ("device.attributes['gpu.example.com'].model == 'A100'", Ok(true)),
            ("device.attributes['example.com'].slots > 4", Ok(false)),
            (
                "device.attributes['gpu.example.com'].ready && !device.allowMultipleAllocations",
                Ok(true),
            ),
            (
                "device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.0.0'))",
                Ok(true),
            ),
            (
                "device.capacity['gpu.example.com'].memory.compareTo(quantity('30Gi')) >= 0",
                Ok(true),
            ),
            (
                "device.attributes['gpu.example.com'].gone == 1",
                Err("no such key: gone"),
            ),
            ("device.attributes['elsewhere.io'].gone == 1", Err("no such key: gone")),
            ("has(device.attributes['elsewhere.io'].gone)", Ok(false)),
            ("'elsewhere.io' in device.attributes", Ok(false)),
            ("'example.com' in device.attributes", Ok(true)),
        ] {
            let program = env.compile(source).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(*program.output(), Type::Bool, "{source}");
            assert!(program.cost().max < DEVICE_SELECTOR_COST_MAX, "{source}");
            let mut bindings = Bindings::new();
            bindings.set("device", device_value("gpu.example.com", &device).expect("a device"));
            let value = program.evaluate(&bindings, Limits::default()).value;
            let got = value
                .map(|value| value.as_bool() == Some(true))
                .map_err(|error| error.to_string());
            assert_eq!(got, want.map_err(str::to_string), "{source}");
        }
        assert!(env.compile("device.model == 'x'").is_err());
    }
}
