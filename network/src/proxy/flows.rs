//! UDP flows that still go to a backend which is gone.
//!
//! A UDP client keeps its port, so its flow keeps its translation for as long as
//! it sends. When a backend leaves, its flows are forgotten and the next packet
//! is balanced anew. (TCP ends by itself.) Forgetting goes through the
//! `conntrack` program; without it such clients wait for the kernel's timeout,
//! which is said once in the log.

use super::model::{Model, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::process::Command;

/// More than this at once and one pass over everything UDP of the backends
/// would be cheaper; the rest times out.
const FLOWS_MAX: usize = 256;

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

pub async fn forget(flows: &BTreeSet<Flow>) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    for flow in flows.iter().take(FLOWS_MAX) {
        let mut command = Command::new("conntrack");
        command.args([
            "-D",
            "-p",
            "udp",
            "--dport",
            &flow.port.to_string(),
            "--dst-nat",
            &flow.backend.to_string(),
        ]);
        command.args(["-f", if flow.backend.is_ipv4() { "ipv4" } else { "ipv6" }]);
        if let Some(ip) = flow.frontend {
            command.args(["--orig-dst", &ip.to_string()]);
        }
        // Exit code 1 only says that no flow matched.
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        if let Err(error) = status {
            if !WARNED.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "install conntrack so that UDP clients leave removed backends at once");
            }
            return;
        }
    }
}
