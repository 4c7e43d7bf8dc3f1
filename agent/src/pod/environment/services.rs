//! The variables that tell of Services, as Docker's links once did. Pure.

use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Those of the pod's namespace where links are wanted, and always of
/// `default/kubernetes`, unless the namespace has a Service of that name itself.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let own = |service: &Service| service.metadata.namespace.as_deref().unwrap_or_default() == namespace;
    let master = |service: &Service| {
        let meta = &service.metadata;
        meta.namespace.as_deref() == Some("default") && meta.name.as_deref() == Some("kubernetes")
    };
    let mut named: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if has_address(service) && (links && own(service) || master(service) && !named.contains_key(name)) {
            named.insert(name, service);
        }
    }
    let mut all = BTreeMap::new();
    for (name, service) in named {
        of_one(name, service, &mut all);
    }
    all
}

fn address(service: &Service) -> &str {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default()
}

fn has_address(service: &Service) -> bool {
    !matches!(address(service), "" | "None")
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn of_one(name: &str, service: &Service, all: &mut BTreeMap<String, String>) {
    let (ip, prefix) = (address(service), upper(name));
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    for (index, port) in ports.enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let number = port.port;
        let url = format!("{lower}://{host}:{number}");
        if index == 0 {
            all.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
            all.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            all.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            all.insert(format!("{prefix}_SERVICE_PORT_{}", upper(name)), number.to_string());
        }
        let long = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.insert(long.clone(), url);
        all.insert(format!("{long}_PROTO"), lower);
        all.insert(format!("{long}_PORT"), number.to_string());
        all.insert(format!("{long}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        let service = json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"port": 80, "name": "my-web"}, {"port": 53, "protocol": "UDP"}]}});
        Arc::new(serde_json::from_value(service).expect("valid"))
    }

    #[test]
    fn which_services_are_told_of() {
        let all = [
            service("n", "kubernetes", "10.0.0.9"),
            service("default", "kubernetes", "10.0.0.1"),
            service("n", "my-db", "fd00::1"),
            service("n", "headless", "None"),
            service("other", "far", "10.0.0.3"),
        ];
        for (namespace, links, name, expected) in [
            ("n", true, "KUBERNETES_SERVICE_HOST", Some("10.0.0.9")),
            ("n", false, "KUBERNETES_SERVICE_HOST", Some("10.0.0.1")),
            ("m", true, "KUBERNETES_SERVICE_HOST", Some("10.0.0.1")),
            ("n", true, "MY_DB_SERVICE_HOST", Some("fd00::1")),
            ("n", true, "MY_DB_PORT", Some("tcp://[fd00::1]:80")),
            ("n", true, "MY_DB_SERVICE_PORT_MY_WEB", Some("80")),
            ("n", true, "MY_DB_PORT_53_UDP_PROTO", Some("udp")),
            ("n", false, "MY_DB_SERVICE_HOST", None),
            ("n", true, "HEADLESS_SERVICE_HOST", None),
            ("n", true, "FAR_SERVICE_HOST", None),
        ] {
            let found = variables(&all, namespace, links);
            assert_eq!(
                found.get(name).map(String::as_str),
                expected,
                "{namespace} {links} {name}"
            );
        }
    }
}
