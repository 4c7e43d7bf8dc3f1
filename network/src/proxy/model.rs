//! What the proxy has to do, read out of the cluster's tables: each port of each
//! Service with its frontends and the backends that may be used now, and this
//! node's host ports. Pure.
//!
//! Choice of backends follows kube-proxy: ready ones; when none is ready, those
//! that are terminating but still serving (KEP-1669), for the node's own
//! backends separately where a policy is `Local`.

use crate::view::ClusterView;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort as ApiPort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The label by which a slice names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// A Service with this label is somebody else's to proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Kubernetes' default of `clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10800;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn parse(name: Option<&str>) -> Option<Protocol> {
        match name {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    pub ip: IpAddr,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub protocol: Protocol,
    pub port: u16,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub balancer_ips: Vec<IpAddr>,
    /// Who may come through `balancer_ips`; empty is everybody.
    pub source_ranges: Vec<String>,
    pub node_port: Option<u16>,
    /// Seconds for which a client stays with its backend.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub backends: Vec<Backend>,
    pub local_backends: Vec<Backend>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Protocol,
    /// One address of the node, or all.
    pub host_ip: Option<IpAddr>,
    pub port: u16,
    pub backend: Backend,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// By `namespace/name:port/protocol`.
    pub services: BTreeMap<String, ServicePort>,
    pub host_ports: BTreeSet<HostPort>,
}

pub fn read(view: &ClusterView, node: &str, cluster_dns: IpAddr) -> Model {
    let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for ((namespace, _), slice) in &view.endpoint_slices {
        if let Some(service) = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME))
        {
            slices.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut model = Model::default();
    for ((namespace, name), service) in &view.services {
        let slices = slices
            .get(&(namespace.as_str(), name.as_str()))
            .map_or(&[][..], Vec::as_slice);
        read_service(
            &mut model,
            &format!("{namespace}/{name}"),
            service,
            slices,
            node,
            cluster_dns,
        );
    }
    model.host_ports = view.pods.values().flat_map(|pod| host_ports(pod)).collect();
    model
}

fn read_service(
    model: &mut Model,
    key: &str,
    service: &Service,
    slices: &[&EndpointSlice],
    node: &str,
    cluster_dns: IpAddr,
) {
    let Some(spec) = &service.spec else { return };
    let elsewhere = service
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(PROXY_NAME));
    if spec.type_.as_deref() == Some("ExternalName") || elsewhere {
        return;
    }
    // `clusterIP` alone is what very old writers set; "None" does not parse.
    let cluster_ips = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => parse_ips(ips),
        _ => parse_ips(spec.cluster_ip.as_slice()),
    };
    // Every node answers at the cluster DNS address itself.
    if cluster_ips.is_empty() || cluster_ips.contains(&cluster_dns) {
        return;
    }
    let balancer_ips = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect::<Vec<IpAddr>>();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec
            .session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref());
        config
            .and_then(|client| u32::try_from(client.timeout_seconds?).ok())
            .unwrap_or(AFFINITY_SECONDS)
    });
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port)) else {
            continue;
        };
        let found = backends(slices, port, node);
        let entry = ServicePort {
            protocol,
            port: number,
            cluster_ips: cluster_ips.clone(),
            external_ips: parse_ips(spec.external_ips.as_deref().unwrap_or_default()),
            balancer_ips: balancer_ips.clone(),
            // Validated here because the text goes into a rule.
            source_ranges: ranges
                .clone()
                .filter_map(|r| Some(r.trim().parse::<ipnet::IpNet>().ok()?.to_string()))
                .collect(),
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0),
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            backends: found.usable(|_| true),
            local_backends: found.usable(|local| local),
        };
        model.services.insert(
            format!("{key}:{}/{protocol}", port.name.as_deref().unwrap_or_default()),
            entry,
        );
    }
}

fn parse_ips(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[derive(Default)]
struct Found {
    /// Backend to (is on this node).
    ready: BTreeMap<Backend, bool>,
    draining: BTreeMap<Backend, bool>,
}

impl Found {
    fn usable(&self, wanted: impl Fn(bool) -> bool) -> Vec<Backend> {
        let pick = |set: &BTreeMap<Backend, bool>| -> Vec<Backend> {
            set.iter()
                .filter(|(_, local)| wanted(**local))
                .map(|(backend, _)| *backend)
                .collect()
        };
        let ready = pick(&self.ready);
        if ready.is_empty() { pick(&self.draining) } else { ready }
    }
}

fn backends(slices: &[&EndpointSlice], port: &ApiPort, node: &str) -> Found {
    let mut found = Found::default();
    for slice in slices {
        let named = |p: &&k8s_openapi::api::discovery::v1::EndpointPort| {
            p.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                && p.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
        };
        let number = slice.ports.iter().flatten().find(named).and_then(|p| p.port);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let into = match usability(endpoint) {
                Usability::Ready => &mut found.ready,
                Usability::Draining => &mut found.draining,
                Usability::No => continue,
            };
            let local = endpoint.node_name.as_deref() == Some(node);
            // A slice's addresses beyond the first are fungible; the first is the one to use.
            if let Some(Ok(ip)) = endpoint.addresses.first().map(|address| address.parse()) {
                into.insert(Backend { ip, port: number }, local);
            }
        }
    }
    found
}

enum Usability {
    Ready,
    Draining,
    No,
}

fn usability(endpoint: &Endpoint) -> Usability {
    let Some(conditions) = &endpoint.conditions else {
        return Usability::Ready;
    };
    // Absent means ready; serving defaults to ready, terminating to false.
    let ready = conditions.ready.unwrap_or(true);
    if ready {
        Usability::Ready
    } else if conditions.serving.unwrap_or(ready) && conditions.terminating.unwrap_or(false) {
        Usability::Draining
    } else {
        Usability::No
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
        return Vec::new();
    };
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if over || spec.host_network == Some(true) {
        return Vec::new();
    }
    let mut ips: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    if ips.is_empty() {
        ips.extend(status.pod_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut found = Vec::new();
    for port in spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
    {
        let number = |p: i32| u16::try_from(p).ok().filter(|p| *p > 0);
        let (Some(host), Some(inner), Some(protocol)) = (
            port.host_port.and_then(number),
            number(port.container_port),
            Protocol::parse(port.protocol.as_deref()),
        ) else {
            continue;
        };
        let asked = port.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        let host_ip = asked.filter(|ip| !ip.is_unspecified());
        for ip in ips
            .iter()
            .filter(|ip| asked.is_none_or(|asked| asked.is_ipv4() == ip.is_ipv4()))
        {
            found.push(HostPort {
                protocol,
                host_ip,
                port: host,
                backend: Backend { ip: *ip, port: inner },
            });
        }
    }
    found
}
