//! From the model to the nftables rules of one address family. Pure.
//!
//! ```text
//! prerouting, output -> services: daddr.proto.port  vmap @services  -> int-H | ext-H | lb-H
//!                                 (local) proto.port    map @hostports -> dnat
//!                                 (local) proto.port   vmap @nodeports -> ext-H
//! int-H, ext-H: mark for masquerade, policy -> svc-H (all backends) | loc-H (this node's)
//! svc-H, loc-H: one dnat to a random backend; with affinity, the client's own backend first
//! postrouting: masquerade the marked, the hairpins, loopback, and what leaves the cluster
//! ```
//!
//! A packet passes a fixed number of lookups whatever the number of Services. A
//! change of one Service touches its own chains and elements. `H` is a hash of
//! the Service port's name, so chains keep their names as backends change.

use super::model::{Backend, Model, Protocol, ServicePort};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// The bit of the packet mark that asks postrouting for masquerade: kube-proxy's.
pub const MASQUERADE_MARK: u32 = 0x4000;
/// The bit by which a table of somebody else may know the cluster's forwarded packets.
pub const FORWARD_MARK: u32 = 0x8000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn keyword(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    pub fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    pub fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Family::V4)
    }

    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.0/8",
            Family::V6 => "::1",
        }
    }

    fn multicast(self) -> &'static str {
        match self {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        }
    }
}

/// The part of the configuration that rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub family: Family,
    /// This node's own range.
    pub pod_cidrs: Vec<IpNet>,
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: Option<IpAddr>,
}

impl Site {
    fn of_family(&self, nets: &[IpNet]) -> Vec<String> {
        nets.iter()
            .filter(|net| self.family.has(net.addr()))
            .map(|net| net.trunc().to_string())
            .collect()
    }
}

/// Names of the maps and sets with elements, and the order in which they are filled.
pub const CONTAINERS: [&str; 8] = [
    "services",
    "nodeports",
    "hostports",
    "hostports_at",
    "hairpin",
    "reject_services",
    "reject_nodeports",
    "cluster_ips",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub family: Family,
    /// Declarations and base chains: what only the configuration changes.
    pub fixed: String,
    /// Affinity sets and their timeouts in seconds.
    pub sets: BTreeMap<String, u32>,
    pub chains: BTreeMap<String, Vec<String>>,
    /// Container to key to value; the value is empty in a set.
    pub elements: BTreeMap<&'static str, BTreeMap<String, String>>,
}

pub fn desired(model: &Model, site: &Site) -> Ruleset {
    let mut rules = Ruleset {
        family: site.family,
        fixed: fixed(site),
        sets: BTreeMap::new(),
        chains: BTreeMap::new(),
        elements: CONTAINERS.iter().map(|name| (*name, BTreeMap::new())).collect(),
    };
    for (id, service) in &model.services {
        add_service(&mut rules, site, id, service);
    }
    for port in model.host_ports.iter().filter(|port| site.family.has(port.backend.ip)) {
        let value = pair(site.family, port.backend);
        match port.host_ip {
            Some(ip) => rules.put(
                "hostports_at",
                format!("{ip} . {} . {}", port.protocol, port.port),
                value,
            ),
            None => rules.put("hostports", format!("{} . {}", port.protocol, port.port), value),
        }
        rules.put("hairpin", format!("{0} . {0}", port.backend.ip), String::new());
    }
    rules
}

impl Ruleset {
    fn put(&mut self, container: &'static str, key: String, value: String) {
        // Two claims on one key (say two pods with one hostPort during a
        // replacement): the first in order stands, the same on every node.
        self.elements.entry(container).or_default().entry(key).or_insert(value);
    }
}

fn add_service(rules: &mut Ruleset, site: &Site, id: &str, service: &ServicePort) {
    let family = site.family;
    let of_family = |backends: &[Backend]| -> Vec<Backend> {
        backends
            .iter()
            .copied()
            .filter(|backend| family.has(backend.ip))
            .collect()
    };
    let ips = |ips: &[IpAddr]| -> BTreeSet<IpAddr> { ips.iter().copied().filter(|ip| family.has(*ip)).collect() };
    let (cluster, external, balancer) = (
        ips(&service.cluster_ips),
        ips(&service.external_ips),
        ips(&service.balancer_ips),
    );
    // A Service has a node port in the families it has addresses in.
    let node_port = service.node_port.filter(|_| !cluster.is_empty());
    let (all, local) = (of_family(&service.backends), of_family(&service.local_backends));
    let at = |ip: &IpAddr| format!("{ip} . {} . {}", service.protocol, service.port);
    // Addresses in ranges that were added later (ServiceCIDR) are refused one by one.
    let in_range = |ip: &IpAddr| site.service_cidrs.iter().any(|range| range.contains(ip));
    for ip in cluster.iter().filter(|ip| !in_range(ip)) {
        rules.put("cluster_ips", ip.to_string(), String::new());
    }
    if all.is_empty() {
        // Cluster addresses need no entry here: whatever goes to them and was not
        // translated is rejected.
        for ip in external.iter().chain(&balancer) {
            rules.put("reject_services", at(ip), String::new());
        }
        if let Some(port) = node_port {
            rules.put(
                "reject_nodeports",
                format!("{} . {port}", service.protocol),
                String::new(),
            );
        }
        return;
    }
    let hash = format!("{:016x}", fnv(id));
    let from_outside = !(external.is_empty() && balancer.is_empty() && node_port.is_none());
    let (svc, loc) = (format!("svc-{hash}"), format!("loc-{hash}"));
    add_balancing(rules, &svc, id, service, &all);
    if !local.is_empty() && (service.internal_local || (service.external_local && from_outside)) {
        add_balancing(rules, &loc, id, service, &local);
    }
    for backend in &local {
        rules.put("hairpin", format!("{0} . {0}", backend.ip), String::new());
    }

    let internal = if service.internal_local && local.is_empty() {
        "drop".to_owned()
    } else {
        let target = if service.internal_local { &loc } else { &svc };
        let chain = format!("int-{hash}");
        let pods = site.of_family(&site.cluster_cidrs).join(", ");
        let mark = format!("{} saddr != {{ {pods} }} {}", family.keyword(), mark());
        let marks = (!pods.is_empty()).then_some(mark).into_iter();
        rules
            .chains
            .insert(chain.clone(), marks.chain([format!("goto {target}")]).collect());
        format!("goto {chain}")
    };
    for ip in &cluster {
        rules.put("services", at(ip), internal.clone());
    }
    if !from_outside {
        return;
    }
    let ext = format!("ext-{hash}");
    rules.chains.insert(
        ext.clone(),
        external_rules(site, service.external_local, &svc, (!local.is_empty()).then_some(&loc)),
    );
    for ip in &external {
        rules.put("services", at(ip), format!("goto {ext}"));
    }
    let ranges: Vec<&str> = service
        .source_ranges
        .iter()
        .filter(|range| range.parse::<IpNet>().is_ok_and(|net| family.has(net.addr())))
        .map(String::as_str)
        .collect();
    let mut entry = ext.clone();
    if !service.source_ranges.is_empty() && !balancer.is_empty() {
        entry = format!("lb-{hash}");
        let refuse = if ranges.is_empty() {
            vec!["drop".to_owned()]
        } else {
            vec![
                format!("{} saddr != {{ {} }} drop", family.keyword(), ranges.join(", ")),
                format!("goto {ext}"),
            ]
        };
        rules.chains.insert(entry.clone(), refuse);
    }
    for ip in &balancer {
        rules.put("services", at(ip), format!("goto {entry}"));
    }
    if let Some(port) = node_port {
        rules.put(
            "nodeports",
            format!("{} . {port}", service.protocol),
            format!("goto {ext}"),
        );
    }
}

/// `externalTrafficPolicy: Local` keeps the client's address and this node's
/// backends; only what starts inside the cluster is balanced over all.
fn external_rules(site: &Site, local_only: bool, svc: &str, loc: Option<&String>) -> Vec<String> {
    if !local_only {
        return vec![mark(), format!("goto {svc}")];
    }
    let mut rules = Vec::new();
    let pods = site.of_family(&site.pod_cidrs).join(", ");
    if !pods.is_empty() {
        rules.push(format!("{} saddr {{ {pods} }} goto {svc}", site.family.keyword()));
    }
    rules.push(format!("fib saddr type local {}", mark()));
    rules.push(format!("fib saddr type local goto {svc}"));
    rules.push(loc.map_or_else(|| "drop".to_owned(), |loc| format!("goto {loc}")));
    rules
}

fn add_balancing(rules: &mut Ruleset, chain: &str, id: &str, service: &ServicePort, backends: &[Backend]) {
    let family = rules.family;
    let (keyword, protocol) = (family.keyword(), service.protocol);
    let Some(seconds) = service.affinity else {
        rules
            .chains
            .insert(chain.to_owned(), vec![balance(family, protocol, backends)]);
        return;
    };
    let (mut body, mut choices) = (Vec::new(), String::new());
    for (i, backend) in backends.iter().enumerate() {
        let hash = format!("{:016x}", fnv(&format!("{id} {} {}", backend.ip, backend.port)));
        let (set, target) = (format!("aff-{hash}"), format!("ep-{hash}"));
        body.push(format!("{keyword} saddr @{set} goto {target}"));
        let _ = write!(choices, "{}{i} : goto {target}", if i == 0 { "" } else { ", " });
        let remember = format!("update @{set} {{ {keyword} saddr }}");
        rules.chains.insert(
            target,
            vec![remember, balance(family, protocol, std::slice::from_ref(backend))],
        );
        rules.sets.insert(set, seconds);
    }
    body.push(format!("numgen random mod {} vmap {{ {choices} }}", backends.len()));
    rules.chains.insert(chain.to_owned(), body);
}

fn balance(family: Family, protocol: Protocol, backends: &[Backend]) -> String {
    let keyword = family.keyword();
    if let [only] = backends {
        let ip = if only.ip.is_ipv6() {
            format!("[{}]", only.ip)
        } else {
            only.ip.to_string()
        };
        return format!("meta l4proto {protocol} dnat {keyword} to {ip}:{}", only.port);
    }
    let choices: Vec<String> = backends
        .iter()
        .enumerate()
        .map(|(i, backend)| format!("{i} : {}", pair(family, *backend)))
        .collect();
    let (count, choices) = (backends.len(), choices.join(", "));
    format!("meta l4proto {protocol} dnat {keyword} to numgen random mod {count} map {{ {choices} }}")
}

fn pair(_: Family, backend: Backend) -> String {
    format!("{} . {}", backend.ip, backend.port)
}

fn mark() -> String {
    format!("meta mark set meta mark | {MASQUERADE_MARK:#x}")
}

fn fixed(site: &Site) -> String {
    let (k, address) = (site.family.keyword(), site.family.address_type());
    let own = site.of_family(&site.pod_cidrs).join(", ");
    let mut inside = site.of_family(&site.cluster_cidrs);
    inside.push(site.family.multicast().to_owned());
    let inside = inside.join(", ");
    let pods = site.of_family(&site.cluster_cidrs).join(", ");
    let known: String = ["saddr", "daddr"]
        .iter()
        .filter(|_| !pods.is_empty())
        .map(|side| format!("    {k} {side} {{ {pods} }} meta mark set meta mark | {FORWARD_MARK:#x}\n"))
        .collect();
    let services = site.of_family(&site.service_cidrs).join(", ");
    let dns = site
        .cluster_dns
        .filter(|ip| site.family.has(*ip))
        .map(|ip| ip.to_string());
    let skip_dns = dns
        .as_ref()
        .map(|ip| format!("    {k} daddr {ip} return\n"))
        .unwrap_or_default();
    let refuse_services = if services.is_empty() {
        String::new()
    } else {
        format!("{skip_dns}    {k} daddr {{ {services} }} goto refuse\n")
    };
    let leave = if own.is_empty() {
        String::new()
    } else {
        format!("    {k} saddr {{ {own} }} {k} daddr != {{ {inside} }} masquerade fully-random\n")
    };
    let (loopback, clear) = (site.family.loopback(), !MASQUERADE_MARK);
    let mark = MASQUERADE_MARK;
    let body = format!(
        "  map services {{ type {address} . inet_proto . inet_service : verdict; }}
  map nodeports {{ type inet_proto . inet_service : verdict; }}
  map hostports {{ type inet_proto . inet_service : {address} . inet_service; }}
  map hostports_at {{ type {address} . inet_proto . inet_service : {address} . inet_service; }}
  set hairpin {{ type {address} . {address}; }}
  set reject_services {{ type {address} . inet_proto . inet_service; }}
  set reject_nodeports {{ type inet_proto . inet_service; }}
  set cluster_ips {{ type {address}; }}
  chain services {{
{skip_dns}    {k} daddr . meta l4proto . th dport vmap @services
    fib daddr type != local return
    meta l4proto {{ tcp, udp, sctp }} dnat {k} to {k} daddr . meta l4proto . th dport map @hostports_at
    meta l4proto {{ tcp, udp, sctp }} dnat {k} to meta l4proto . th dport map @hostports
    meta l4proto . th dport vmap @nodeports
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain refuse_services {{
    {k} daddr . meta l4proto . th dport @reject_services goto refuse
    {k} daddr @cluster_ips goto refuse
{refuse_services}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }}
  chain nat_output {{
    type nat hook output priority -100; policy accept;
    jump services
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & {mark:#x} != 0 meta mark set meta mark & {clear:#x} masquerade fully-random
    {k} saddr . {k} daddr @hairpin masquerade fully-random
    ct status dnat {k} saddr {loopback} masquerade fully-random
{leave}  }}
  chain forward {{
    type filter hook forward priority filter - 1; policy accept;
{known}    ct state established,related accept
    jump refuse_services
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    iifname != \"lo\" {k} daddr {loopback} drop
    {k} daddr . meta l4proto . th dport @reject_services goto refuse
    fib daddr type local meta l4proto . th dport @reject_nodeports goto refuse
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    ct state established,related accept
    jump refuse_services
    fib daddr type local meta l4proto . th dport @reject_nodeports goto refuse
  }}
"
    );
    body
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
