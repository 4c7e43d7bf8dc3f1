//! Rows of networking.k8s.io.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "networking.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            short_names: &["ing"],
            subresources: const { &[status(GROUP, "v1", "Ingress")] },
            // ingress
            ..kind!(GROUP, V1, "Ingress", "ingresses", "ingress", true)
        },
        Kind {
            // ingress_class
            ..kind!(GROUP, V1, "IngressClass", "ingressclasses", "ingressclass", false)
        },
        Kind {
            short_names: &["ip"],
            // ip_address
            ..kind!(GROUP, V1, "IPAddress", "ipaddresses", "ipaddress", false)
        },
        Kind {
            short_names: &["netpol"],
            // network_policy
            ..kind!(GROUP, V1, "NetworkPolicy", "networkpolicies", "networkpolicy", true)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ServiceCIDR")] },
            // servicecidr
            ..kind!(GROUP, V1, "ServiceCIDR", "servicecidrs", "servicecidr", false)
        },
    ]
}
