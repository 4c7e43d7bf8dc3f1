//! Rows of networking.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "networking.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            short_names: &["ing"],
            subresources: const { &[status(GROUP, "v1", "Ingress")] },
            columns: strategy::ingress::COLUMNS,
            strategy: &strategy::ingress::STRATEGY,
            ..kind!(GROUP, V1, "Ingress", "ingresses", "ingress", true)
        },
        Kind {
            columns: strategy::ingress_class::COLUMNS,
            strategy: &strategy::ingress_class::STRATEGY,
            ..kind!(GROUP, V1, "IngressClass", "ingressclasses", "ingressclass", false)
        },
        Kind {
            short_names: &["ip"],
            columns: strategy::ip_address::COLUMNS,
            strategy: &strategy::ip_address::STRATEGY,
            ..kind!(GROUP, V1, "IPAddress", "ipaddresses", "ipaddress", false)
        },
        Kind {
            short_names: &["netpol"],
            columns: strategy::network_policy::COLUMNS,
            strategy: &strategy::network_policy::STRATEGY,
            ..kind!(GROUP, V1, "NetworkPolicy", "networkpolicies", "networkpolicy", true)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ServiceCIDR")] },
            columns: strategy::service_cidr::COLUMNS,
            strategy: &strategy::service_cidr::STRATEGY,
            ..kind!(GROUP, V1, "ServiceCIDR", "servicecidrs", "servicecidr", false)
        },
    ]
}
