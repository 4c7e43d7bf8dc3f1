//! Whether an APIService's group version can be answered, in upstream's reasons
//! and words. Pure.

use crate::registry::text_at;
use serde_json::{Value, json};
use std::sync::Arc;

/// The `Available` condition of an APIService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Availability {
    pub fn local() -> Self {
        Self {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".into(),
        }
    }

    pub fn passed() -> Self {
        Self {
            status: "True",
            reason: "Passed",
            message: "all checks passed".into(),
        }
    }

    /// Its server was asked for discovery and did not answer well.
    pub fn failed_discovery(why: String) -> Self {
        Self::no("FailedDiscoveryCheck", why)
    }

    pub fn is_available(&self) -> bool {
        self.status == "True"
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self {
            status: "False",
            reason,
            message,
        }
    }
}

/// The Service that an APIService names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRef {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

impl ServiceRef {
    /// `None`: the group version is answered locally.
    pub fn of(api_service: &Value) -> Option<Self> {
        let service = api_service["spec"]["service"].as_object()?;
        let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        Some(Self {
            namespace: text("namespace"),
            name: text("name"),
            port: u16::try_from(port).ok()?,
        })
    }
}

/// What is wrong before its server need be asked; `Ok` when nothing is. `slices`
/// are those of the Service's namespace.
pub fn precheck(wanted: &ServiceRef, service: Option<&Value>, slices: &[Arc<Value>]) -> Result<(), Availability> {
    let ServiceRef { namespace, name, port } = wanted;
    let Some(service) = service else {
        return Err(Availability::no(
            "ServiceNotFound",
            format!("service/{name} in {namespace:?} is not present"),
        ));
    };
    // Others (ExternalName, ...) can only be tried.
    if !matches!(text_at(service, &["spec", "type"]), "" | "ClusterIP") {
        return Ok(());
    }
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let Some(found) = ports.iter().find(|p| p["port"].as_u64() == Some(u64::from(*port))) else {
        return Err(Availability::no(
            "ServicePortError",
            format!("service/{name} in {namespace:?} is not listening on port {port}"),
        ));
    };
    let port_name = text_at(found, &["name"]);
    let own: Vec<&Arc<Value>> = slices
        .iter()
        .filter(|s| text_at(s, &["metadata", "labels", "kubernetes.io/service-name"]) == name)
        .collect();
    if own.is_empty() {
        return Err(Availability::no(
            "EndpointsNotFound",
            format!("cannot find endpointslices for service/{name} in {namespace:?}"),
        ));
    }
    if !own.iter().any(|slice| has_ready(slice, port_name)) {
        return Err(Availability::no(
            "MissingEndpoints",
            format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        ));
    }
    Ok(())
}

fn has_ready(slice: &Value, port_name: &str) -> bool {
    let list = |key: &str| slice[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = |e: &Value| e["conditions"]["ready"].as_bool().unwrap_or(true);
    list("endpoints").iter().any(ready)
        && list("ports")
            .iter()
            .any(|p| text_at(p, &["name"]) == port_name && p["port"].is_u64())
}

/// The status with this condition; `None`: it says so already. The time of the last
/// transition is kept while the condition's status is the same.
pub fn status_with(api_service: &Value, wanted: &Availability, now: &str) -> Option<Value> {
    let conditions = api_service["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let before = conditions.iter().find(|c| c["type"] == "Available");
    let says = |key: &str| before.map_or("", |c| text_at(c, &[key]));
    if (says("status"), says("reason"), says("message")) == (wanted.status, wanted.reason, wanted.message.as_str()) {
        return None;
    }
    let since = match says("lastTransitionTime") {
        since if says("status") == wanted.status && !since.is_empty() => since,
        _ => now,
    };
    let condition = json!({
        "type": "Available", "status": wanted.status, "lastTransitionTime": since,
        "reason": wanted.reason, "message": wanted.message,
    });
    let mut all: Vec<Value> = Vec::new();
    let mut placed = false;
    for old in conditions {
        if old["type"] == "Available" {
            all.push(condition.clone());
            placed = true;
        } else {
            all.push(old);
        }
    }
    if !placed {
        all.push(condition);
    }
    Some(json!({"conditions": all}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> ServiceRef {
        ServiceRef::of(&json!({"spec": {"service": {"namespace": "ns", "name": "svc"}}})).unwrap()
    }

    fn slice(port: &str, ready: Value) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "svc"}}, "ports": [{"name": port, "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
        }))
    }

    #[test]
    fn reasons() {
        let service = json!({"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}});
        let other_port = json!({"spec": {"ports": [{"port": 80}]}});
        let external = json!({"spec": {"type": "ExternalName", "externalName": "x"}});
        let cases = [
            (None, vec![], "ServiceNotFound service/svc in \"ns\" is not present"),
            (
                Some(&other_port),
                vec![],
                "ServicePortError service/svc in \"ns\" is not listening on port 443",
            ),
            (
                Some(&service),
                vec![],
                "EndpointsNotFound cannot find endpointslices for service/svc in \"ns\"",
            ),
            (
                Some(&service),
                vec![slice("other", json!(true))],
                "MissingEndpoints endpointslices for service/svc in \"ns\" have no addresses with port name \"https\"",
            ),
            (
                Some(&service),
                vec![slice("https", json!(false))],
                "MissingEndpoints endpointslices for service/svc in \"ns\" have no addresses with port name \"https\"",
            ),
            (
                Some(&service),
                vec![slice("https", json!(false)), slice("https", json!(null))],
                "",
            ),
            (Some(&external), vec![], ""),
        ];
        for (service, slices, text) in cases {
            let got = match precheck(&wanted(), service, &slices) {
                Ok(()) => String::new(),
                Err(a) => {
                    assert!(!a.is_available());
                    format!("{} {}", a.reason, a.message)
                }
            };
            assert_eq!(got, text);
        }
    }

    #[test]
    fn the_condition_is_written_once_and_dates_its_transition() {
        let mut object = json!({});
        object["status"] = status_with(&object, &Availability::failed_discovery("a".into()), "t1").unwrap();
        assert_eq!(
            status_with(&object, &Availability::failed_discovery("a".into()), "t2"),
            None
        );
        object["status"] = status_with(&object, &Availability::failed_discovery("b".into()), "t2").unwrap();
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "t1");
        object["status"] = status_with(&object, &Availability::passed(), "t3").unwrap();
        assert_eq!(
            object["status"],
            json!({"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": "t3",
                "reason": "Passed", "message": "all checks passed"}]})
        );
    }
}
