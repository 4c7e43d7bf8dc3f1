//! UDP flows that still go to a backend which is gone.
//!
//! A UDP client keeps its port, so its flow keeps its translation for as long as
//! it sends. When a backend leaves, its flows are forgotten and the next packet
//! is balanced anew. (TCP ends by itself.)

use super::model::{Model, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The address asked; none where it is any of the node's.
    pub frontend: Option<IpAddr>,
    pub port: u16,
    pub backend: IpAddr,
}

/// Pure.
pub fn stale(old: &Model, new: &Model) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for (id, before) in old.services.iter().filter(|(_, s)| s.protocol == Protocol::Udp) {
        let after = new.services.get(id).map_or(&[][..], |s| &s.backends);
        for gone in before.backends.iter().filter(|backend| !after.contains(backend)) {
            let ips = before
                .cluster_ips
                .iter()
                .chain(&before.external_ips)
                .chain(&before.balancer_ips);
            for ip in ips.filter(|ip| ip.is_ipv4() == gone.ip.is_ipv4()) {
                flows.insert(Flow {
                    frontend: Some(*ip),
                    port: before.port,
                    backend: gone.ip,
                });
            }
            if let Some(port) = before.node_port {
                flows.insert(Flow {
                    frontend: None,
                    port,
                    backend: gone.ip,
                });
            }
        }
    }
    for gone in old
        .host_ports
        .difference(&new.host_ports)
        .filter(|p| p.protocol == Protocol::Udp)
    {
        flows.insert(Flow {
            frontend: None,
            port: gone.port,
            backend: gone.backend.ip,
        });
    }
    flows
}

/// Best effort: what cannot be forgotten now, the kernel forgets after its
/// timeout, and the next change tries again for its own.
pub async fn forget(flows: BTreeSet<Flow>) {
    if flows.is_empty() {
        return;
    }
    match tokio::task::spawn_blocking(move || super::conntrack::forget(&flows)).await {
        Ok(Ok(count)) => tracing::debug!(count, "forgot UDP flows of removed backends"),
        Ok(Err(error)) => tracing::warn!(%error, "UDP clients stay with removed backends until their flows time out"),
        // Cancelled with the runtime.
        Err(_) => {}
    }
}
