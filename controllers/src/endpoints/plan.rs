//! Which endpoints a Service has, and the fewest changes that bring its EndpointSlices there. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::key::{controller_reference, name, namespace};
use crate::pods::{is_finished, is_ready, is_terminating, node_name};
use crate::selector::Labels;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in one slice; upstream's default.
pub const SLICE_MAX: usize = 100;

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Box<ObjectMeta>),
}

/// Endpoints that share an address family and a list of ports.
type Groups = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The port number a Service port means on this pod; none where the pod has no port of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(wanted)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec
                .init_containers
                .iter()
                .flat_map(|all| all.iter())
                .filter(|container| container.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|container| container.ports.iter().flatten())
                .find(|candidate| {
                    candidate.name.as_deref() == Some(wanted)
                        && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|candidate| candidate.container_port)
        }
    }
}

/// The pod's addresses of one family.
pub fn addresses(pod: &Pod, ipv6: bool) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut all: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if all.is_empty() {
        all.extend(status.pod_ip.clone());
    }
    all.retain(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == ipv6));
    all
}

pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_string()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The name under which DNS publishes this pod of a headless Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == Some(name(&service.metadata))).then_some(hostname)
}

fn endpoint(pod: &Pod, service: &Service, zone: Option<&str>, addresses: Vec<String>) -> Endpoint {
    let spec = service.spec.as_ref();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let (serving, terminating) = (is_ready(pod), is_terminating(pod));
    let zones = || zone.map(|zone| vec![ForZone { name: zone.to_string() }]);
    let nodes = || node_name(pod).map(|node| vec![ForNode { name: node.to_string() }]);
    let ready = publish || serving && !terminating;
    let hints = match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") if ready => zones().map(|zones| EndpointHints {
            for_zones: Some(zones),
            for_nodes: None,
        }),
        Some("PreferSameNode") if ready => Some(EndpointHints {
            for_zones: zones(),
            for_nodes: nodes(),
        }),
        _ => None,
    };
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: node_name(pod).map(ToString::to_string),
        zone: zone.map(ToString::to_string),
        target_ref: Some(pod_reference(pod)),
        hints,
        ..Default::default()
    }
}

fn desired(service: &Service, pods: &[Arc<Pod>], nodes: &HashMap<String, Arc<Node>>, ipv6: bool) -> Groups {
    let mut groups = Groups::new();
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let addresses = addresses(pod, ipv6);
        if addresses.is_empty() {
            continue;
        }
        let ports: Vec<EndpointPort> = ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: Some(target_port(pod, port)?),
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        let zone = node_name(pod)
            .and_then(|node| nodes.get(node))
            .and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).map(String::as_str));
        let made = endpoint(pod, service, zone, addresses);
        groups
            .entry(ports_key(&ports))
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(made);
    }
    groups
}

/// Orders and compares lists of ports regardless of their order.
fn ports_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}/{}/{}/{}",
                port.name.as_deref().unwrap_or(""),
                port.protocol.as_deref().unwrap_or("TCP"),
                port.port.unwrap_or(0),
                port.app_protocol.as_deref().unwrap_or("")
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

fn identity(endpoint: &Endpoint) -> (String, Vec<String>) {
    let uid = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.clone())
        .unwrap_or_default();
    (uid, endpoint.addresses.clone())
}

/// Labels of a slice: the Service's own, and who it is for.
pub fn slice_labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_string(), name(&service.metadata).to_string());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    labels
}

fn families(service: &Service) -> Vec<bool> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    if !listed.is_empty() {
        return listed.iter().map(|family| family == "IPv6").collect();
    }
    let ip = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
    vec![ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())]
}

pub fn reconcile(
    service: &Service,
    pods: &[Arc<Pod>],
    nodes: &HashMap<String, Arc<Node>>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut actions = Vec::new();
    let families = families(service);
    let family_name = |ipv6: bool| if ipv6 { "IPv6" } else { "IPv4" };
    for slice in existing {
        if !families.iter().any(|ipv6| family_name(*ipv6) == slice.address_type) {
            actions.push(Action::Delete(Box::new(slice.metadata.clone())));
        }
    }
    for ipv6 in families {
        let kind = family_name(ipv6);
        let slices: Vec<&EndpointSlice> = existing
            .iter()
            .map(AsRef::as_ref)
            .filter(|slice| slice.address_type == kind)
            .collect();
        reconcile_family(
            service,
            kind,
            desired(service, pods, nodes, ipv6),
            &slices,
            &mut actions,
        );
    }
    actions
}

fn reconcile_family(
    service: &Service,
    kind: &str,
    mut groups: Groups,
    existing: &[&EndpointSlice],
    actions: &mut Vec<Action>,
) {
    // A Service without endpoints keeps one empty slice, so that readers see that it has been looked at.
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    for slice in existing {
        let key = ports_key(slice.ports.as_deref().unwrap_or_default());
        if !groups.contains_key(&key) {
            actions.push(Action::Delete(Box::new(slice.metadata.clone())));
        }
    }
    for (key, (ports, endpoints)) in groups {
        let slices: Vec<&EndpointSlice> = existing
            .iter()
            .copied()
            .filter(|slice| ports_key(slice.ports.as_deref().unwrap_or_default()) == key)
            .collect();
        reconcile_group(service, kind, ports, endpoints, &slices, actions);
    }
}

/// Keeps endpoints where they are, fills slices that change anyway, then those with room, then new ones.
fn reconcile_group(
    service: &Service,
    kind: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    existing: &[&EndpointSlice],
    actions: &mut Vec<Action>,
) {
    let labels = slice_labels(service);
    let wants_placeholder = endpoints.is_empty();
    let mut wanted: BTreeMap<_, Endpoint> = endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    let mut slices: Vec<(EndpointSlice, bool)> = Vec::new();
    for slice in existing {
        let before = slice.endpoints.clone().unwrap_or_default();
        let kept: Vec<Endpoint> = before
            .iter()
            .filter_map(|endpoint| wanted.remove(&identity(endpoint)))
            .collect();
        let changed = kept != before || slice.metadata.labels.as_ref() != Some(&labels);
        let mut slice = EndpointSlice::clone(slice);
        slice.endpoints = Some(kept);
        slice.metadata.labels = Some(labels.clone());
        slices.push((slice, changed));
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    // Changed slices first, then the fullest, so that few slices are touched.
    let mut order: Vec<usize> = (0..slices.len()).collect();
    let length = |slice: &EndpointSlice| -> usize { slice.endpoints.as_ref().map_or(0, Vec::len) };
    order.sort_by_key(|&index| (!slices[index].1, usize::MAX - length(&slices[index].0)));
    for index in order {
        let room = SLICE_MAX.saturating_sub(length(&slices[index].0)).min(rest.len());
        if room > 0 {
            let (slice, changed) = &mut slices[index];
            slice.endpoints.get_or_insert_default().extend(rest.drain(..room));
            *changed = true;
        }
    }
    let mut placeholder = wants_placeholder;
    for (slice, changed) in slices {
        if length(&slice) == 0 && !std::mem::take(&mut placeholder) {
            actions.push(Action::Delete(Box::new(slice.metadata)));
        } else if changed {
            actions.push(Action::Update(Box::new(slice)));
        }
    }
    let mut fresh: Vec<Vec<Endpoint>> = rest.chunks(SLICE_MAX).map(<[Endpoint]>::to_vec).collect();
    if placeholder {
        fresh.push(Vec::new());
    }
    for endpoints in fresh {
        actions.push(Action::Create(Box::new(EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", name(&service.metadata))),
                namespace: Some(namespace(&service.metadata).to_string()),
                labels: Some(labels.clone()),
                owner_references: Some(vec![controller_reference("v1", "Service", &service.metadata)]),
                ..Default::default()
            },
            address_type: kind.to_string(),
            ports: Some(ports.clone()),
            endpoints: Some(endpoints),
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::pod;
    use k8s_openapi::api::core::v1::{PodIP, ServiceSpec};

    fn service() -> Service {
        Service {
            metadata: ObjectMeta {
                name: Some("web".to_string()),
                namespace: Some("default".to_string()),
                uid: Some("svc".to_string()),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                ip_families: Some(vec!["IPv4".to_string()]),
                ports: Some(vec![ServicePort {
                    port: 80,
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            status: None,
        }
    }

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|index| {
                let mut made = pod(&format!("p{index}"), "Running", Some("n"), Some(1));
                let ip = format!("10.42.{}.{}", index / 250, index % 250 + 1);
                made.status.get_or_insert_default().pod_ips = Some(vec![PodIP { ip }]);
                Arc::new(made)
            })
            .collect()
    }

    fn apply(slices: &mut Vec<Arc<EndpointSlice>>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create(mut slice) => {
                    slice.metadata.name = Some(format!("s{}", slices.len()));
                    slices.push(Arc::new(*slice));
                }
                Action::Update(slice) => {
                    let found = slices
                        .iter_mut()
                        .find(|known| known.metadata.name == slice.metadata.name);
                    *found.expect("an updated slice exists") = Arc::new(*slice);
                }
                Action::Delete(meta) => slices.retain(|known| known.metadata.name != meta.name),
            }
        }
    }

    #[test]
    fn settles_and_changes_little() {
        let (service, nodes) = (service(), HashMap::new());
        let mut slices = Vec::new();
        for count in [0, 3, 250, 249, 120, 0, 5] {
            let pods = pods(count);
            let actions = reconcile(&service, &pods, &nodes, &slices);
            apply(&mut slices, actions);
            assert_eq!(
                reconcile(&service, &pods, &nodes, &slices),
                [],
                "{count} pods: acting settles it"
            );
            let listed: usize = slices
                .iter()
                .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
                .sum();
            assert_eq!(listed, count);
            assert!(
                !slices.is_empty()
                    && slices
                        .iter()
                        .all(|slice| slice.endpoints.as_ref().map_or(0, Vec::len) <= SLICE_MAX)
            );
        }
        let before = pods(101);
        let actions = reconcile(&service, &before, &nodes, &slices);
        apply(&mut slices, actions);
        let one_less = &before[1..];
        assert_eq!(
            reconcile(&service, one_less, &nodes, &slices).len(),
            1,
            "one pod less touches one slice"
        );
    }

    #[test]
    fn conditions_follow_readiness_and_deletion() {
        let service = service();
        let mut terminating = pod("a", "Running", Some("n"), Some(1));
        terminating.metadata.deletion_timestamp = Some(crate::key::time(crate::pods::testing::at(5)));
        let conditions = endpoint(&terminating, &service, None, vec![]).conditions.expect("set");
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
        let unready = pod("b", "Running", Some("n"), None);
        let conditions = endpoint(&unready, &service, None, vec![]).conditions.expect("set");
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(false), Some(false))
        );
        let mut published = service.clone();
        published.spec.get_or_insert_default().publish_not_ready_addresses = Some(true);
        let conditions = endpoint(&unready, &published, None, vec![]).conditions.expect("set");
        assert_eq!((conditions.ready, conditions.serving), (Some(true), Some(false)));
    }
}
