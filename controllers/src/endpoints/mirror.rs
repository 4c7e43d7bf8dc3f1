//! EndpointSlices for Endpoints that somebody wrote by hand, for Services without a selector. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{controller_reference, name, namespace};

use super::plan::{Action, MANAGED_BY, SERVICE_NAME};

pub const MIRRORER: &str = "endpointslicemirroring-controller.k8s.io";
pub const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored; upstream's limit.
const ADDRESSES_MAX: usize = 1000;

/// Whether these Endpoints are to be mirrored at all, given that their Service has no selector.
pub fn wanted(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP))
        .map(String::as_str)
        == Some("true");
    let elects = meta
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(LEADER));
    meta.deletion_timestamp.is_none() && !skipped && !elects
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten();
    ports
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..Default::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

/// The slices that say what the Endpoints say, by address family and ports.
fn slices(endpoints: &Endpoints) -> BTreeMap<(&'static str, String), EndpointSlice> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_string(), name(&endpoints.metadata).to_string());
    labels.insert(MANAGED_BY.to_string(), MIRRORER.to_string());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.remove(TRIGGER);
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", name(&endpoints.metadata))),
        namespace: Some(namespace(&endpoints.metadata).to_string()),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![controller_reference("v1", "Endpoints", &endpoints.metadata)]),
        ..Default::default()
    };
    let mut slices = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let ports = ports(subset);
        for (address, ready) in ready.chain(unready).take(ADDRESSES_MAX) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let slice = slices
                .entry((family, format!("{ports:?}")))
                .or_insert_with(|| EndpointSlice {
                    metadata: metadata.clone(),
                    address_type: family.to_string(),
                    endpoints: None,
                    ports: Some(ports.clone()),
                });
            slice.endpoints.get_or_insert_default().push(endpoint(address, ready));
        }
    }
    slices
}

/// What makes the `existing` mirrors of these Endpoints right; without Endpoints all of them go.
pub fn reconcile(endpoints: Option<&Endpoints>, existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut wanted = endpoints.map(slices).unwrap_or_default();
    let mut actions = Vec::new();
    for known in existing {
        let ports = known.ports.clone().unwrap_or_default();
        let family = if known.address_type == "IPv6" { "IPv6" } else { "IPv4" };
        let Some(slice) = wanted.remove(&(family, format!("{ports:?}"))) else {
            actions.push(Action::Delete(Box::new(known.metadata.clone())));
            continue;
        };
        let same = known.endpoints == slice.endpoints
            && known.metadata.labels == slice.metadata.labels
            && known.metadata.annotations.clone().unwrap_or_default()
                == slice.metadata.annotations.clone().unwrap_or_default();
        if !same {
            let mut updated = EndpointSlice::clone(known);
            updated.endpoints = slice.endpoints;
            updated.metadata.labels = slice.metadata.labels;
            updated.metadata.annotations = slice.metadata.annotations;
            actions.push(Action::Update(Box::new(updated)));
        }
    }
    actions.extend(wanted.into_values().map(|slice| Action::Create(Box::new(slice))));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(ip: &str) -> Endpoints {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"a": "b"}},
            "subsets": [{
                "addresses": [{"ip": ip}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.1.1.2"}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            }],
        }))
        .expect("endpoints")
    }

    #[test]
    fn slices_follow_the_endpoints_and_settle() {
        let created: Vec<Arc<EndpointSlice>> = reconcile(Some(&endpoints("10.1.1.1")), &[])
            .into_iter()
            .map(|action| match action {
                Action::Create(slice) => Arc::new(*slice),
                other => panic!("{other:?}"),
            })
            .collect();
        let families: Vec<_> = created
            .iter()
            .map(|slice| {
                (
                    slice.address_type.as_str(),
                    slice.endpoints.as_ref().map_or(0, Vec::len),
                )
            })
            .collect();
        assert_eq!(families, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(reconcile(Some(&endpoints("10.1.1.1")), &created), []);
        let changed = reconcile(Some(&endpoints("10.1.1.9")), &created);
        assert!(
            matches!(&changed[..], [Action::Update(slice)] if slice.endpoints.as_ref().expect("endpoints")[0].addresses == ["10.1.1.9"])
        );
        assert_eq!(reconcile(None, &created).len(), 2);
    }
}
