//! The downward API: what a pod may be told of itself. Pure.

use super::Facts;
use crate::pod::resources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// The fields that the downward API knows.
pub fn field_value(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let pod_spec = pod.spec.as_ref();
    let keyed = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix("']"))
            .map(str::to_owned)
    };
    let one = |map: Option<&BTreeMap<String, String>>, key: &str| map.and_then(|m| m.get(key)).cloned();
    if let Some(key) = keyed("metadata.labels['") {
        return Ok(one(meta.labels.as_ref(), &key).unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Ok(one(meta.annotations.as_ref(), &key).unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => pod_spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// `key="escaped value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", quoted(v)))
        .collect();
    lines.join("\n")
}

/// As Go's `%q` writes a string; programs in every language parse these files by it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') || invisible(c) => {
                let code = u32::from(c);
                if code > 0xffff {
                    out.push_str(&format!("\\U{code:08x}"));
                } else {
                    out.push_str(&format!("\\u{code:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters without a shape of their own that people do paste into annotations.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A container's request or limit in units of the divisor, rounded up. A limit that
/// is not set is the pod's own, or else what the node can allocate.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let found = container.resources.as_ref();
    let limits = found.and_then(|r| r.limits.as_ref());
    let requests = found.and_then(|r| r.requests.as_ref());
    let pod_limits = pod.spec.as_ref().and_then(|s| s.resources.as_ref()?.limits.as_ref());
    let of = |map: Option<&BTreeMap<String, _>>, name: &str| {
        let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = map?.get(name)?;
        resources::milli(&quantity.0)
    };
    // A limit of nothing is as none.
    let limit = |name: &str, node: i64| {
        let own = of(limits, name).filter(|v| *v > 0);
        own.or_else(|| of(pod_limits, name).filter(|v| *v > 0))
            .unwrap_or(i128::from(node))
    };
    // The API copies limits to requests; static pods have not passed it.
    let request = |name: &str| of(requests, name).or_else(|| of(limits, name)).unwrap_or(0);
    let divisor = match field.divisor.as_ref().map_or("1", |d| d.0.as_str()) {
        "" | "0" => 1_000,
        text => resources::milli(text).filter(|d| *d > 0).ok_or("invalid divisor")?,
    };
    // Every value in thousandths, like the divisor.
    let value: i128 = match field.resource.as_str() {
        "limits.cpu" => limit("cpu", facts.cpu_allocatable_milli),
        "limits.memory" => limit("memory", facts.memory_allocatable_bytes.saturating_mul(1_000)),
        "limits.ephemeral-storage" => limit(
            "ephemeral-storage",
            facts.storage_allocatable_bytes.saturating_mul(1_000),
        ),
        "requests.cpu" => request("cpu"),
        "requests.memory" => request("memory"),
        "requests.ephemeral-storage" => request("ephemeral-storage"),
        name => match name.split_once('.') {
            Some(("limits", huge)) if huge.starts_with("hugepages-") => of(limits, huge).unwrap_or(0),
            Some(("requests", huge)) if huge.starts_with("hugepages-") => request(huge),
            _ => return Err(format!("unsupported container resource : {name}")),
        },
    };
    Ok((value / divisor + i128::from(value % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quotes_as_go_does() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("it's \"so\"\\", r#""it's \"so\"\\""#),
            ("a\nb\tc\r\u{0}\u{7f}", r#""a\nb\tc\r\x00\x7f""#),
            ("grün 日本 🙂", "\"grün 日本 🙂\""),
            ("\u{a0}\u{200b}\u{e0001}", "\"\\u00a0\\u200b\u{e0001}\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn resources_round_up_and_default() {
        let facts = Facts {
            cpu_allocatable_milli: 4_000,
            memory_allocatable_bytes: 8 << 30,
            storage_allocatable_bytes: 10 << 30,
            ..Facts::default()
        };
        let full = json!({"limits": {"cpu": "1250m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m", "memory": "32Mi", "ephemeral-storage": "1Gi"}});
        for (resources, pod_level, resource, divisor, expected) in [
            (full.clone(), json!({}), "limits.cpu", "", "2"),
            (full.clone(), json!({}), "limits.cpu", "1m", "1250"),
            (full.clone(), json!({}), "requests.cpu", "1", "1"),
            (full.clone(), json!({}), "requests.cpu", "1m", "250"),
            (full.clone(), json!({}), "limits.memory", "1Mi", "64"),
            (full.clone(), json!({}), "requests.memory", "", "33554432"),
            (full.clone(), json!({}), "requests.ephemeral-storage", "1Mi", "1024"),
            (full.clone(), json!({}), "limits.ephemeral-storage", "1Gi", "10"),
            (full.clone(), json!({}), "limits.hugepages-2Mi", "1Mi", "4"),
            (json!({}), json!({}), "limits.cpu", "", "4"),
            (json!({}), json!({}), "limits.memory", "1Gi", "8"),
            (json!({}), json!({}), "requests.memory", "", "0"),
            (
                json!({}),
                json!({"limits": {"cpu": "2", "memory": "1Gi"}}),
                "limits.cpu",
                "",
                "2",
            ),
            (
                json!({}),
                json!({"limits": {"memory": "1Gi"}}),
                "limits.memory",
                "1Mi",
                "1024",
            ),
            (
                json!({"limits": {"cpu": "100m"}}),
                json!({}),
                "requests.cpu",
                "1m",
                "100",
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": {"resources": pod_level,
                "containers": [{"name": "c", "resources": resources}]}}))
            .expect("valid");
            let field = serde_json::from_value(json!({"resource": resource, "divisor": divisor})).expect("valid");
            let container = &pod.spec.as_ref().expect("spec").containers[0];
            let found = resource_value(&pod, container, &field, &facts);
            assert_eq!(found.as_deref(), Ok(expected), "{resource} {divisor} of {resources}");
        }
        let field = serde_json::from_value(json!({"resource": "limits.gpu"})).expect("valid");
        let found = resource_value(&Pod::default(), &Container::default(), &field, &facts);
        assert_eq!(found, Err("unsupported container resource : limits.gpu".into()));
    }
}
