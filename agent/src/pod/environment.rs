//! A container's environment: service variables, envFrom, env, and `$(NAME)`
//! expansion. Pure: what is referred to is handed in.

mod downward;
mod file;
mod services;

use super::spec;
pub use downward::{field_value, quoted, resource_value};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Pod, Secret, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects that a pod refers to, as the node's copy holds them.
pub trait Lookup {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
}

/// What only the node knows.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    pub cpu_allocatable_milli: i64,
    pub memory_allocatable_bytes: i64,
    pub storage_allocatable_bytes: i64,
    /// The texts of the files that variables come from, by volume and path.
    pub variable_files: BTreeMap<(String, String), Result<String, String>>,
}

pub fn variables(
    pod: &Pod,
    container: &Container,
    services: &[Arc<Service>],
    lookup: &dyn Lookup,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let mut service_env = services::variables(services, &namespace, links);
    let mut result: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (entries, optional, what) = if let Some(r) = &source.config_map_ref {
            let found = lookup.config_map(&namespace, &r.name);
            let data = found.map(|m| m.data.clone().unwrap_or_default());
            (data, r.optional, format!("configmap {} not found", quoted(&r.name)))
        } else if let Some(r) = &source.secret_ref {
            let found = lookup.secret(&namespace, &r.name);
            let text = |b: &k8s_openapi::ByteString| String::from_utf8_lossy(&b.0).into_owned();
            let data = found.map(|s| s.data.iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect());
            (data, r.optional, format!("secret {} not found", quoted(&r.name)))
        } else {
            continue;
        };
        match entries {
            None if optional.unwrap_or(false) => {}
            None => return Err(what),
            Some(entries) => {
                // Every key of either kind is a valid name since names need not be identifiers.
                for (name, value) in entries {
                    set(&mut result, &mut order, format!("{prefix}{name}"), value);
                }
            }
        }
    }
    for variable in container.env.iter().flatten() {
        // A variable of the pod's replaces a service's, also while it is worked out.
        service_env.remove(&variable.name);
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), None) => expand(value, |name| {
                result.get(name).or_else(|| service_env.get(name)).cloned()
            }),
            (_, Some(source)) => match from_source(pod, container, source, lookup, facts)? {
                Some(value) => value,
                None => continue,
            },
            (None, None) => String::new(),
        };
        set(&mut result, &mut order, variable.name.clone(), value);
    }
    let own = order.into_iter().filter_map(|name| result.remove_entry(&name));
    let mut all: Vec<(String, String)> = own.collect();
    let named: std::collections::BTreeSet<String> = all.iter().map(|(n, _)| n.clone()).collect();
    all.extend(service_env.into_iter().filter(|(name, _)| !named.contains(name)));
    Ok(all)
}

fn set(map: &mut BTreeMap<String, String>, order: &mut Vec<String>, name: String, value: String) {
    if map.insert(name.clone(), value).is_none() {
        order.push(name);
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    lookup: &dyn Lookup,
    facts: &Facts,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, facts).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        let spec = pod.spec.as_ref();
        let target = match (&field.container_name, spec) {
            (Some(name), Some(spec)) if !name.is_empty() => spec::find(spec, name).map_or(container, |f| f.0),
            _ => container,
        };
        return resource_value(pod, target, field, facts).map(Some);
    }
    let missing = |optional: Option<bool>, message: String| {
        if optional.unwrap_or(false) {
            Ok(None)
        } else {
            Err(message)
        }
    };
    if let Some(r) = &source.config_map_key_ref {
        let Some(map) = lookup.config_map(&namespace, &r.name) else {
            return missing(r.optional, format!("configmap {} not found", quoted(&r.name)));
        };
        return match map.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(
                r.optional,
                format!("couldn't find key {} in ConfigMap {namespace}/{}", r.key, r.name),
            ),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let Some(secret) = lookup.secret(&namespace, &r.name) else {
            return missing(r.optional, format!("secret {} not found", quoted(&r.name)));
        };
        return match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None => missing(
                r.optional,
                format!("couldn't find key {} in Secret {namespace}/{}", r.key, r.name),
            ),
        };
    }
    if let Some(r) = &source.file_key_ref {
        return from_file(r, facts);
    }
    Ok(Some(String::new()))
}

fn from_file(wanted: &FileKeySelector, facts: &Facts) -> Result<Option<String>, String> {
    let place = (wanted.volume_name.clone(), wanted.path.clone());
    let optional = wanted.optional.unwrap_or(false);
    let text = match facts.variable_files.get(&place) {
        Some(Ok(text)) => text,
        _ if optional => return Ok(None),
        Some(Err(_)) => return Err("couldn't parse env file".into()),
        None => {
            let volume = quoted(&wanted.volume_name);
            return Err(format!("cannot find the volume {volume} referenced by FileKeyRef"));
        }
    };
    let value = file::value(text, &wanted.key).map_err(|_| "couldn't parse env file")?;
    match value {
        None if !optional => Err(format!(
            "environment variable key {} not found in file {}",
            quoted(&wanted.key),
            quoted(&wanted.path)
        )),
        found => Ok(found),
    }
}

/// `$(NAME)` becomes the value when it is known and stays as it is when not;
/// `$$` is a dollar.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// [`expand`] where every name must be known, as in `subPathExpr`.
pub fn expand_all(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let expanded = expand(text, |name| {
        let found = lookup(name);
        if found.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        found
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(expanded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Objects;
    impl Lookup for Objects {
        fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
            (name == "m")
                .then(|| Arc::new(serde_json::from_value(json!({"data": {"k": "v", "z": "9"}})).expect("valid")))
        }
        fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
            (name == "s").then(|| Arc::new(serde_json::from_value(json!({"data": {"p": "cHc="}})).expect("valid")))
        }
    }

    #[test]
    fn expansion() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("x$", "x$"),
            ("$(A", "$(A"),
            ("$A-$(A)$(A)", "$A-11"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, known), expected, "{text}");
        }
        assert_eq!(expand_all("x-$(A)-$$(B)", known), Ok("x-1-$(B)".into()));
        assert_eq!(expand_all("x-$(B)", known), Err("missing value for \"B\"".into()));
    }

    #[test]
    fn all_sources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c",
                "resources": {"limits": {"cpu": "1500m", "memory": "1Mi"}},
                "envFrom": [{"prefix": "M_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "none", "optional": true}}],
                "env": [
                    {"name": "ONE", "value": "1"},
                    {"name": "TWO", "value": "$(ONE)$(M_k)$(WEB_SERVICE_HOST)"},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Ki"}}},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
                    {"name": "SKIP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "no", "optional": true}}}
                ]}]}
        }))
        .expect("valid");
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 80, "name": "http"}]}
        }))
        .expect("valid");
        let container = &pod.spec.as_ref().expect("spec").containers[0];
        let found = variables(&pod, container, &[Arc::new(service)], &Objects, &Facts::default()).expect("resolves");
        let map: BTreeMap<_, _> = found.iter().cloned().collect();
        for (name, value) in [
            ("M_k", "v"),
            ("TWO", "1v10.43.0.9"),
            ("NAME", "p"),
            ("LABEL", "b"),
            ("CPU", "2"),
            ("MEM", "1024"),
            ("KEY", "pw"),
            ("WEB_SERVICE_PORT_HTTP", "80"),
            ("WEB_PORT_80_TCP", "tcp://10.43.0.9:80"),
        ] {
            assert_eq!(map.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!map.contains_key("SKIP"));
        assert_eq!(found[0].0, "M_k", "own variables come first, in order");
    }

    #[test]
    fn what_is_missing_is_named() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}))
                .expect("valid");
        let error = variables(&Pod::default(), &container, &[], &Objects, &Facts::default()).expect_err("missing");
        assert_eq!(error, "configmap \"gone\" not found");
    }
}
