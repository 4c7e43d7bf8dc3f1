//! Where a passed-on request goes and what is asked there. Pure.

use crate::registry::text_at;
use serde_json::Value;
use skiff_api::ApiError;
use std::sync::Arc;
use url::form_urlencoded;

/// Where agents listen when their Node does not say, as upstream.
const AGENT_PORT: u16 = 10250;

/// `[scheme:]name[:port]`, as in `services/https:web:443/proxy`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub scheme: &'a str,
    pub name: &'a str,
    pub port: &'a str,
}

impl<'a> Place<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let place = match parts.as_slice() {
            [name] => Place {
                scheme: "http",
                name,
                port: "",
            },
            [name, port] => Place {
                scheme: "http",
                name,
                port,
            },
            [scheme, name, port] => Place {
                scheme: if scheme.is_empty() { "http" } else { scheme },
                name,
                port,
            },
            _ => return None,
        };
        (!place.name.is_empty() && matches!(place.scheme, "http" | "https")).then_some(place)
    }
}

/// Path and query at the agent for a pod's subresource. `None`: the pod has no
/// node and its logs are empty.
pub(super) fn agent_path(sub: &str, pod: &Value, query: &str) -> Result<Option<String>, ApiError> {
    let name = text_at(pod, &["metadata", "name"]);
    let namespace = text_at(pod, &["metadata", "namespace"]);
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let assigned = !text_at(pod, &["spec", "nodeName"]).is_empty();
    if sub == "portforward" {
        if !assigned {
            return Err(no_host(name));
        }
        let ports = pairs
            .iter()
            .filter(|(k, _)| k == "ports")
            .flat_map(|(_, v)| v.split(','))
            .map(|p| ("port", p));
        return Ok(Some(with_query(format!("/portForward/{namespace}/{name}"), ports)));
    }
    let asked = pairs
        .iter()
        .find(|(k, _)| k == "container")
        .map_or("", |(_, v)| v.as_str());
    let container = container(pod, asked)?;
    if !assigned {
        return if sub == "log" { Ok(None) } else { Err(no_host(name)) };
    }
    if sub == "log" {
        let kept = pairs
            .iter()
            .filter(|(k, _)| LOG_OPTIONS.contains(&k.as_str()))
            .map(|(k, v)| match k.as_str() {
                "follow" | "previous" | "timestamps" => (k.as_str(), if truth(v) { "true" } else { "false" }),
                key => (key, v.as_str()),
            });
        return Ok(Some(with_query(
            format!("/containerLogs/{namespace}/{name}/{container}"),
            kept,
        )));
    }
    let options = pairs.iter().filter_map(|(key, value)| match key.as_str() {
        "stdin" if truth(value) => Some(("input", "1")),
        "stdout" if truth(value) => Some(("output", "1")),
        "stderr" if truth(value) => Some(("error", "1")),
        "tty" if truth(value) => Some(("tty", "1")),
        "command" if sub == "exec" => Some(("command", value.as_str())),
        _ => None,
    });
    Ok(Some(with_query(
        format!("/{sub}/{namespace}/{name}/{container}"),
        options,
    )))
}

const LOG_OPTIONS: [&str; 8] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

/// Logs that are followed are flushed as they come.
pub(super) fn wants_stream(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(k, v)| k == "follow" && truth(&v))
}

/// As upstream reads a parameter: whatever is there and not `false` or `0`.
fn truth(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn no_host(name: &str) -> ApiError {
    ApiError::bad_request(format!("pod {name} does not have a host assigned"))
}

fn with_query<'a>(path: String, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// The container that is meant, in upstream's words if it is not clear.
fn container(pod: &Value, asked: &str) -> Result<String, ApiError> {
    let names = |key: &str| -> Vec<&str> {
        pod["spec"][key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect()
    };
    let (main, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let pod_name = text_at(pod, &["metadata", "name"]);
    if !asked.is_empty() {
        let known = [&main, &init, &ephemeral].iter().any(|list| list.contains(&asked));
        return if known {
            Ok(asked.to_string())
        } else {
            Err(ApiError::bad_request(format!(
                "container {asked} is not valid for pod {pod_name}"
            )))
        };
    }
    if let [only] = main.as_slice() {
        return Ok((*only).to_string());
    }
    let mut text = format!(
        "a container name must be specified for pod {pod_name}, choose one of: [{}]",
        main.join(" ")
    );
    if !init.is_empty() {
        text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    if !ephemeral.is_empty() {
        text.push_str(&format!(
            " or one of the ephemeral containers: [{}]",
            ephemeral.join(" ")
        ));
    }
    Err(ApiError::bad_request(text))
}

/// Where a node's agent listens.
pub(super) fn agent_address(node: &Value, port: Option<&str>) -> Result<(String, u16), ApiError> {
    let name = text_at(node, &["metadata", "name"]);
    let addresses = node["status"]["addresses"].as_array();
    let host = ["InternalIP", "ExternalIP", "Hostname"]
        .iter()
        .find_map(|kind| addresses?.iter().find(|a| a["type"] == *kind)?["address"].as_str())
        .ok_or_else(|| ApiError::internal(format!("node {name} has reported no address yet")))?;
    let told = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        .as_u64()
        .and_then(|p| u16::try_from(p).ok());
    let port = match port {
        Some(text) => text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid port {text:?} of node {name}")))?,
        None => told.filter(|p| *p > 0).unwrap_or(AGENT_PORT),
    };
    Ok((host.to_string(), port))
}

pub(super) fn pod_address(pod: &Value, place: &Place<'_>) -> Result<(String, u16), ApiError> {
    let ip = text_at(pod, &["status", "podIP"]);
    if ip.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let declared = || {
        pod["spec"]["containers"]
            .as_array()?
            .iter()
            .flat_map(|c| c["ports"].as_array().into_iter().flatten())
            .find_map(|p| p["containerPort"].as_u64())
    };
    let port = match place.port {
        "" => declared()
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(if place.scheme == "https" { 443 } else { 80 }),
        text => text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid port {text:?}")))?,
    };
    Ok((ip.to_string(), port))
}

/// A ready endpoint of a Service's port, for callers that know both by name.
pub(crate) fn endpoint_of(
    service: &Value,
    slices: &[Arc<Value>],
    name: &str,
    port: &str,
    seed: u64,
) -> Result<(String, u16), ApiError> {
    let place = Place {
        scheme: "https",
        name,
        port,
    };
    service_address(service, slices, &place, seed)
}

/// A ready endpoint of the Service's port that is named or numbered.
pub(super) fn service_address(
    service: &Value,
    slices: &[Arc<Value>],
    place: &Place<'_>,
    seed: u64,
) -> Result<(String, u16), ApiError> {
    let none = || ApiError::unavailable(format!("no endpoints available for service {:?}", place.name));
    let mut found = service_addresses(service, slices, place)?;
    let count = u64::try_from(found.len()).unwrap_or(0);
    let index = usize::try_from(seed.checked_rem(count).ok_or_else(none)?).unwrap_or(0);
    Ok(found.swap_remove(index))
}

/// All ready endpoints of the Service's port, sorted.
pub(crate) fn service_addresses(
    service: &Value,
    slices: &[Arc<Value>],
    place: &Place<'_>,
) -> Result<Vec<(String, u16)>, ApiError> {
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let wanted = match place.port {
        "" => match ports {
            [only] => text_at(only, &["name"]),
            _ => ports
                .iter()
                .map(|p| text_at(p, &["name"]))
                .find(|n| n.is_empty())
                .unwrap_or_else(|| ports.first().map_or("", |p| text_at(p, &["name"]))),
        },
        text => {
            let number = text.parse::<u64>().ok();
            let found = ports
                .iter()
                .find(|p| text_at(p, &["name"]) == text || number.is_some_and(|n| p["port"].as_u64() == Some(n)));
            text_at(
                found.ok_or_else(|| {
                    ApiError::unavailable(format!("no service port {text:?} found for service {:?}", place.name))
                })?,
                &["name"],
            )
        }
    };
    let mut found = Vec::new();
    for slice in slices
        .iter()
        .filter(|s| text_at(s, &["metadata", "labels", "kubernetes.io/service-name"]) == place.name)
    {
        let port = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| text_at(p, &["name"]) == wanted);
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"].as_bool().unwrap_or(true)
                && let Some(address) = endpoint["addresses"][0].as_str()
            {
                found.push((address.to_string(), port));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places() {
        assert_eq!(
            Place::parse("https:web:443"),
            Some(Place {
                scheme: "https",
                name: "web",
                port: "443"
            })
        );
        assert_eq!(
            Place::parse("web"),
            Some(Place {
                scheme: "http",
                name: "web",
                port: ""
            })
        );
        assert_eq!(Place::parse("ftp:web:1"), None);
        assert_eq!(Place::parse(""), None);
    }

    #[test]
    fn paths_at_the_agent() {
        let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let free = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "a"}]}});
        let path = |sub, pod, query| agent_path(sub, pod, query).map_err(|e| e.message);
        assert_eq!(
            path("log", &pod, "follow=true&x=y").unwrap().unwrap(),
            "/containerLogs/d/p/a?follow=true"
        );
        assert_eq!(
            path("exec", &pod, "command=ls&command=-l+x&stdin=true&stdout=true&tty=false")
                .unwrap()
                .unwrap(),
            "/exec/d/p/a?command=ls&command=-l+x&input=1&output=1"
        );
        assert_eq!(
            path("portforward", &pod, "ports=80").unwrap().unwrap(),
            "/portForward/d/p?port=80"
        );
        assert_eq!(path("log", &free, ""), Ok(None));
        assert_eq!(
            path("exec", &free, "").unwrap_err(),
            "pod p does not have a host assigned"
        );
        assert_eq!(
            path("log", &two, "").unwrap_err(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            path("log", &pod, "container=z").unwrap_err(),
            "container z is not valid for pod p"
        );
    }

    #[test]
    fn services_lead_to_ready_endpoints() {
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
        let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"]}]});
        let place = Place::parse("web:80").unwrap();
        assert_eq!(
            service_address(&service, &[Arc::new(slice)], &place, 7).unwrap(),
            ("10.0.0.2".into(), 8080)
        );
        assert_eq!(service_address(&service, &[], &place, 7).unwrap_err().code, 503);
    }
}
