//! Rows of networking.k8s.io.

pub(crate) mod address;
mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use crate::check::{Errors, Path};
use crate::contract::Kind;
use crate::names;
use crate::row::{kind, status};
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const GROUP: &str = "networking.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            short_names: &["ing"],
            subresources: const { &[status(GROUP, "v1", "Ingress")] },
            columns: ingress::COLUMNS,
            strategy: &ingress::STRATEGY,
            ..kind!(GROUP, V1, "Ingress", "ingresses", "ingress", true)
        },
        Kind {
            columns: ingress_class::COLUMNS,
            strategy: &ingress_class::STRATEGY,
            ..kind!(GROUP, V1, "IngressClass", "ingressclasses", "ingressclass", false)
        },
        Kind {
            short_names: &["ip"],
            columns: ip_address::COLUMNS,
            strategy: &ip_address::STRATEGY,
            ..kind!(GROUP, V1, "IPAddress", "ipaddresses", "ipaddress", false)
        },
        Kind {
            short_names: &["netpol"],
            columns: network_policy::COLUMNS,
            strategy: &network_policy::STRATEGY,
            ..kind!(GROUP, V1, "NetworkPolicy", "networkpolicies", "networkpolicy", true)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ServiceCIDR")] },
            columns: service_cidr::COLUMNS,
            strategy: &service_cidr::STRATEGY,
            ..kind!(GROUP, V1, "ServiceCIDR", "servicecidrs", "servicecidr", false)
        },
    ]
}

/// A reference to an object of any kind: what holds parameters, what is a backend.
fn typed_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = reference.at("apiGroup").as_str() {
        errors.all(&path.of("apiGroup"), group, names::dns_subdomain(group));
    }
    for key in ["kind", "name"] {
        errors.text_required(reference, path, key);
        errors.name_at(reference, path, key, names::path_segment);
    }
}
