//! The older Endpoints object, with the same truth as the slices. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{name, namespace};
use crate::pods::{is_finished, is_ready, is_terminating, node_name};

use super::plan::{HEADLESS, addresses, hostname, is_headless, pod_reference, target_port};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one Endpoints object; what is beyond is left out and said so.
const ADDRESSES_MAX: usize = 1000;

/// The Endpoints as they should be, keeping the rest of what exists; none where it already is so.
pub fn reconcile(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: Some(name(&service.metadata).to_string()),
            namespace: Some(namespace(&service.metadata).to_string()),
            ..Default::default()
        },
        subsets: None,
    });
    let (subsets, truncated) = subsets(service, pods);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_string(), "endpoint-controller".to_string());
    if is_headless(service) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    wanted.metadata.labels = Some(labels);
    if truncated {
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_string(), "truncated".to_string());
    } else if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    let same = existing.is_some_and(|existing| {
        existing.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
            && existing.metadata.labels == wanted.metadata.labels
            && existing.metadata.annotations.clone().unwrap_or_default()
                == wanted.metadata.annotations.clone().unwrap_or_default()
    });
    (!same).then_some(wanted)
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let Some(spec) = &service.spec else {
        return (Vec::new(), false);
    };
    let publish = spec.publish_not_ready_addresses.unwrap_or(false);
    let ipv6 = spec
        .ip_families
        .iter()
        .flatten()
        .next()
        .is_some_and(|family| family == "IPv6");
    let service_ports = spec.ports.as_deref().unwrap_or_default();
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let mut count = 0;
    let listed = pods
        .iter()
        .filter(|pod| !is_finished(pod) && (publish || !is_terminating(pod)));
    let (ready, unready): (Vec<&Arc<Pod>>, Vec<_>) = listed.partition(|pod| publish || is_ready(pod));
    // Ready ones first: where not all fit, the others are left out.
    for pod in ready.into_iter().chain(unready) {
        let Some(ip) = addresses(pod, ipv6).into_iter().next() else {
            continue;
        };
        let mut ports: Vec<EndpointPort> = service_ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: target_port(pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && !(service_ports.is_empty() && is_headless(service)) {
            continue;
        }
        count += 1;
        if count > ADDRESSES_MAX {
            break;
        }
        ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
        let address = EndpointAddress {
            ip,
            hostname: hostname(pod, service),
            node_name: node_name(pod).map(ToString::to_string),
            target_ref: Some(pod_reference(pod)),
        };
        let subset = groups.entry(format!("{ports:?}")).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..Default::default()
        });
        let side = if publish || is_ready(pod) {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        side.get_or_insert_default().push(address);
    }
    for subset in groups.values_mut() {
        for side in [&mut subset.addresses, &mut subset.not_ready_addresses]
            .into_iter()
            .flatten()
        {
            side.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    (groups.into_values().collect(), count > ADDRESSES_MAX)
}
