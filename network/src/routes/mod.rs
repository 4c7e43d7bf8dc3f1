//! The way between nodes. `plan` decides from the nodes what routes and tunnel
//! entries must stand (pure); `kernel` makes it so by difference.
//!
//! A node on the same segment is reached by a plain route through its address.
//! Any other is reached through one VXLAN link whose entries are all static:
//! the remote end's MAC is derived from its node's address and its inner address
//! is the first of its pod range, so nothing is learnt, flooded or announced.

pub mod kernel;

use crate::config::{Backend, NetworkConfig};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const LINK: &str = "skiff-vx";
pub const VNI: u32 = 4096;
/// Linux' and flannel's customary port; the IANA one is often taken by hypervisors.
pub const PORT: u16 = 8472;
/// Marks our routes in the kernel's tables (`ip route show proto 83`).
pub const PROTOCOL: u8 = 83;

pub type Mac = [u8; 6];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// The node's own address, on a link both share.
    Node(IpAddr),
    /// The far end's inner address, on our VXLAN link.
    Tunnel(IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub local: IpAddr,
    pub mac: Mac,
    pub address: IpAddr,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Present when some node needs it.
    pub tunnel: Option<Tunnel>,
    pub routes: BTreeMap<IpNet, Via>,
    /// Inner address to MAC, on the tunnel.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// MAC to the node that has it, on the tunnel.
    pub forwarding: BTreeMap<Mac, IpAddr>,
    /// Nodes that cannot be reached, and why.
    pub unreachable: BTreeMap<String, String>,
}

/// `segments`: the ranges of this node's own links.
pub fn plan(config: &NetworkConfig, nodes: &BTreeMap<String, Arc<Node>>, segments: &[IpNet]) -> Plan {
    let mut plan = Plan::default();
    for (name, node) in nodes.iter().filter(|(name, _)| **name != config.node_name) {
        let ranges = pod_cidrs(node);
        // Not set up yet: its next update brings the rest.
        let Some(address) = internal_ip(node, config.node_ip.is_ipv4()) else {
            continue;
        };
        if address == config.node_ip {
            plan.unreachable
                .insert(name.clone(), format!("it claims this node's own address {address}"));
            continue;
        }
        for range in ranges {
            if range.contains(&config.pod_cidr) || config.pod_cidr.contains(&range) {
                plan.unreachable
                    .insert(name.clone(), format!("its pod range {range} is ours"));
                continue;
            }
            let shared = segments
                .iter()
                .any(|segment| segment.contains(&address) && segment.contains(&config.node_ip));
            match config.backend {
                Backend::Direct | Backend::Auto if shared => {
                    plan.routes.insert(range, Via::Node(address));
                }
                Backend::Direct => {
                    let reason = format!("its address {address} is on no segment of this node; use VXLAN");
                    plan.unreachable.insert(name.clone(), reason);
                }
                Backend::Auto | Backend::Vxlan => add_tunnel(&mut plan, config, range, address),
            }
        }
    }
    plan
}

fn add_tunnel(plan: &mut Plan, config: &NetworkConfig, range: IpNet, node: IpAddr) {
    let Some(inner) = inner_address(range) else { return };
    let Some(own) = inner_address(config.pod_cidr) else {
        return;
    };
    plan.tunnel = Some(Tunnel {
        local: config.node_ip,
        mac: mac(config.node_ip),
        address: own,
    });
    plan.routes.insert(range, Via::Tunnel(inner));
    plan.neighbours.insert(inner, mac(node));
    plan.forwarding.insert(mac(node), node);
}

/// The first address of a pod range, which the CNI plugin never gives to a pod.
fn inner_address(range: IpNet) -> Option<IpAddr> {
    range.hosts().next().map(|first| match (range.trunc(), first) {
        // For IPv6 `hosts` begins with the network's own address.
        (IpNet::V6(net), _) => IpAddr::V6((u128::from(net.network()) + 1).into()),
        (IpNet::V4(_), first) => first,
    })
}

/// Locally administered; unique among nodes because their addresses are.
fn mac(node: IpAddr) -> Mac {
    match node {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x0e, 0x53, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let hash = v6.octets().iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
            });
            let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
            [0x0e, a, b, c, d, e]
        }
    }
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed: Vec<IpNet> = spec
        .pod_cidrs
        .iter()
        .flatten()
        .filter_map(|c| c.parse::<IpNet>().ok())
        .map(|c| c.trunc())
        .collect();
    if listed.is_empty() {
        return spec
            .pod_cidr
            .iter()
            .filter_map(|c| c.parse::<IpNet>().ok())
            .map(|c| c.trunc())
            .collect();
    }
    listed
}

fn internal_ip(node: &Node, v4: bool) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .filter(|a| a.type_ == "InternalIP")
        .filter_map(|a| a.address.parse::<IpAddr>().ok())
        .find(|ip| ip.is_ipv4() == v4)
}
