//! Which addresses and node ports a Service gets. Pure: what is taken and the
//! seed are arguments. Rules: <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>.

use crate::registry::text_at;
use ipnet::IpNet;
use serde_json::{Value, json};
use skiff_api::{ApiError, FieldError};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses tried before a range counts as full; a linear walk from a random
/// start finds a free one at once unless the range is nearly exhausted.
const PROBES_MAX: u64 = 1 << 16;

/// What a Service holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub addresses: BTreeSet<IpAddr>,
    pub ports: BTreeSet<u16>,
}

impl Given {
    pub fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let mut addresses: BTreeSet<IpAddr> = spec["clusterIPs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| ip.as_str()?.parse().ok())
            .collect();
        addresses.extend(spec["clusterIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()));
        let mut ports: BTreeSet<u16> = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|p| port(&p["nodePort"]))
            .collect();
        ports.extend(port(&spec["healthCheckNodePort"]));
        Self { addresses, ports }
    }
}

/// What there is to give.
pub(super) struct Pool<'a> {
    /// The configured networks: they say which families there are.
    pub cidrs: &'a [IpNet],
    /// Every network that addresses can be taken from.
    pub ranges: &'a [IpNet],
    pub node_ports: (u16, u16),
    pub address_taken: &'a dyn Fn(IpAddr) -> bool,
    pub port_taken: &'a dyn Fn(u16) -> bool,
    pub seed: u64,
}

/// Why a Service does not get what it asks for.
enum Refusal {
    Field(FieldError),
    /// Nothing is left; the text says of what.
    Exhausted(&'static str),
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)
}

/// Completes the Service and returns what it holds then.
pub(super) fn allocate(
    service: &mut Value,
    old: Option<&Value>,
    before: &Given,
    pool: &Pool<'_>,
) -> Result<Given, ApiError> {
    let name = text_at(service, &["metadata", "name"]).to_string();
    let kind = match text_at(service, &["spec", "type"]) {
        "" => "ClusterIP".to_string(),
        kind => kind.to_string(),
    };
    if !service["spec"].is_object() {
        return Ok(Given::default());
    }
    if kind == "ExternalName" {
        if let Some(spec) = service["spec"].as_object_mut() {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                spec.remove(key);
            }
        }
        return Ok(Given::default());
    }
    let result = addresses(service, old, before, pool).and_then(|()| node_ports(service, old, before, pool, &kind));
    result.map_err(|refusal| match refusal {
        Refusal::Field(error) => ApiError::invalid("", "Service", &name, &[error]),
        Refusal::Exhausted(what) => ApiError::internal(format!("failed to allocate a {what}: range is full")),
    })?;
    Ok(Given::of(service))
}

fn addresses(service: &mut Value, old: Option<&Value>, before: &Given, pool: &Pool<'_>) -> Result<(), Refusal> {
    let spec = &mut service["spec"];
    if text_at(spec, &["clusterIP"]).is_empty()
        && spec["clusterIPs"].as_array().is_none_or(Vec::is_empty)
        && let Some(old) = old
        && !text_at(old, &["spec", "clusterIP"]).is_empty()
    {
        spec["clusterIP"] = old["spec"]["clusterIP"].clone();
        spec["clusterIPs"] = old["spec"]["clusterIPs"].clone();
    }
    let families = wanted_families(spec, pool.cidrs)?;
    let family_texts: Vec<&str> = families.iter().map(|net| family(net)).collect();
    let headless = text_at(spec, &["clusterIP"]) == "None" || spec["clusterIPs"][0] == "None";
    let mut ips: Vec<IpAddr> = Vec::new();
    if headless {
        spec["clusterIP"] = "None".into();
        spec["clusterIPs"] = json!(["None"]);
    } else {
        let mut given: Vec<String> = spec["clusterIPs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect();
        if given.is_empty() {
            given.extend(Some(text_at(spec, &["clusterIP"]).to_string()).filter(|ip| !ip.is_empty()));
        }
        for (i, net) in families.iter().enumerate() {
            ips.push(match given.get(i) {
                Some(text) => explicit(text, net, before, pool, &given)?,
                None => free_address(net, pool, &ips)?,
            });
        }
        spec["clusterIP"] = ips[0].to_string().into();
        spec["clusterIPs"] = ips.iter().map(|ip| Value::from(ip.to_string())).collect();
    }
    spec["ipFamilies"] = json!(family_texts);
    if text_at(spec, &["ipFamilyPolicy"]).is_empty() {
        spec["ipFamilyPolicy"] = if families.len() > 1 {
            "RequireDualStack"
        } else {
            "SingleStack"
        }
        .into();
    }
    Ok(())
}

fn family(net: &IpNet) -> &'static str {
    if matches!(net, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
}

/// One network per family that the Service has, in its order.
fn wanted_families<'a>(spec: &Value, cidrs: &'a [IpNet]) -> Result<Vec<&'a IpNet>, FieldError> {
    let mut wanted: Vec<&IpNet> = Vec::new();
    for (i, asked) in spec["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let found = cidrs.iter().find(|net| family(net) == asked);
        wanted.push(found.ok_or_else(|| {
            FieldError::invalid(
                format!("spec.ipFamilies[{i}]"),
                &asked.into(),
                "not configured on this cluster",
            )
        })?);
    }
    let first = spec["clusterIPs"][0]
        .as_str()
        .or(spec["clusterIP"].as_str())
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    if wanted.is_empty()
        && let Some(ip) = first
    {
        wanted.extend(cidrs.iter().find(|net| matches!(net, IpNet::V4(_)) == ip.is_ipv4()));
    }
    if wanted.is_empty() {
        wanted.extend(cidrs.first());
    }
    let policy = text_at(spec, &["ipFamilyPolicy"]);
    if policy == "RequireDualStack" && cidrs.len() < 2 {
        return Err(FieldError::invalid(
            "spec.ipFamilyPolicy",
            &policy.into(),
            "this cluster is not configured for dual-stack services",
        ));
    }
    if matches!(policy, "RequireDualStack" | "PreferDualStack") {
        let more: Vec<&IpNet> = cidrs
            .iter()
            .filter(|net| !wanted.iter().any(|w| family(w) == family(net)))
            .collect();
        wanted.extend(more);
    }
    if policy == "SingleStack" {
        wanted.truncate(1);
    }
    Ok(wanted)
}

fn explicit(text: &str, net: &IpNet, before: &Given, pool: &Pool<'_>, all: &[String]) -> Result<IpAddr, FieldError> {
    let refuse = |why: String| {
        FieldError::invalid(
            "spec.clusterIPs",
            &json!(all),
            &format!("failed to allocate IP {text}: {why}"),
        )
    };
    let ip: IpAddr = text.parse().map_err(|_| {
        FieldError::invalid(
            "spec.clusterIPs[0]",
            &text.into(),
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        )
    })?;
    if before.addresses.contains(&ip) {
        return Ok(ip);
    }
    let usable = pool.ranges.iter().filter(|range| family(range) == family(net));
    let Some(range) = usable.clone().find(|range| range.contains(&ip)) else {
        return Err(refuse("the provided network does not match the current range".into()));
    };
    let at_an_end = |range: &IpNet| ip == range.network() || (ip == range.broadcast() && ip.is_ipv4());
    if usable.filter(|range| range.contains(&ip)).all(at_an_end) {
        return Err(refuse(format!(
            "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
        )));
    }
    if (pool.address_taken)(ip) {
        return Err(refuse("provided IP is already allocated".into()));
    }
    Ok(ip)
}

/// A free address of a family, from the first range that has one.
fn free_address(net: &IpNet, pool: &Pool<'_>, also_taken: &[IpAddr]) -> Result<IpAddr, Refusal> {
    let mut ranges = pool.ranges.iter().filter(|range| family(range) == family(net));
    ranges
        .find_map(|range| free_in(range, pool, also_taken))
        .ok_or(Refusal::Exhausted("serviceIP"))
}

/// A free address of the upper band: the lower one is left to those who choose
/// their address, as upstream.
fn free_in(net: &IpNet, pool: &Pool<'_>, also_taken: &[IpAddr]) -> Option<IpAddr> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len()).min(63);
    // Without network and broadcast address.
    let size = (1u64 << bits).saturating_sub(2);
    let band = if size < 16 { 0 } else { (size / 16).clamp(16, 256) };
    let count = size.saturating_sub(band).min(PROBES_MAX.max(1));
    let upper = size.saturating_sub(band).max(1);
    let start = pool.seed % upper;
    let upper_band = (0..count).map(|i| band + (start + i) % upper);
    upper_band
        .chain(0..band)
        .filter_map(|offset| nth(net, offset + 1))
        .find(|ip| !also_taken.contains(ip) && !(pool.address_taken)(*ip))
}

/// The address `n` above the network's own.
pub(super) fn nth(net: &IpNet, n: u64) -> Option<IpAddr> {
    let ip = match net.network() {
        IpAddr::V4(base) => IpAddr::from(u32::from(base).checked_add(u32::try_from(n).ok()?)?.to_be_bytes()),
        IpAddr::V6(base) => IpAddr::from(u128::from(base).checked_add(u128::from(n))?.to_be_bytes()),
    };
    net.contains(&ip).then_some(ip)
}

fn node_ports(
    service: &mut Value,
    old: Option<&Value>,
    before: &Given,
    pool: &Pool<'_>,
    kind: &str,
) -> Result<(), Refusal> {
    let wants = kind == "NodePort"
        || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != Value::Bool(false));
    let local_balancer = kind == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local";
    let held = kind == "NodePort" || kind == "LoadBalancer";
    let (first, last) = pool.node_ports;
    // Ports of this Service by number, with the protocols that use them.
    let mut used: Vec<(u16, String)> = Vec::new();
    let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    for i in 0..count {
        let entry = &mut service["spec"]["ports"][i];
        if !held {
            if let Some(map) = entry.as_object_mut() {
                map.remove("nodePort");
            }
            continue;
        }
        let protocol = match text_at(entry, &["protocol"]) {
            "" => "TCP".to_string(),
            p => p.to_string(),
        };
        if port(&entry["nodePort"]).is_none()
            && let Some(kept) = old.and_then(|old| kept_port(old, entry, &protocol))
        {
            entry["nodePort"] = kept.into();
        }
        let Some(number) = port(&entry["nodePort"]) else {
            continue;
        };
        let path = format!("spec.ports[{i}].nodePort");
        if !(first..=last).contains(&number) {
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            return Err(FieldError::invalid(path, &number.into(), &why).into());
        }
        let own = before.ports.contains(&number) || used.iter().any(|(n, p)| *n == number && *p != protocol);
        if used.iter().any(|(n, p)| *n == number && *p == protocol) || (!own && (pool.port_taken)(number)) {
            return Err(FieldError::invalid(path, &number.into(), "provided port is already allocated").into());
        }
        used.push((number, protocol));
    }
    for i in 0..count {
        let entry = &mut service["spec"]["ports"][i];
        if wants && port(&entry["nodePort"]).is_none() {
            let number = free_port(pool, &used, i as u64)?;
            entry["nodePort"] = number.into();
            used.push((number, String::new()));
        }
    }
    if local_balancer {
        if port(&service["spec"]["healthCheckNodePort"]).is_none() {
            let kept = old.and_then(|o| port(&o["spec"]["healthCheckNodePort"]));
            service["spec"]["healthCheckNodePort"] = match kept {
                Some(kept) => kept,
                None => free_port(pool, &used, count as u64)?,
            }
            .into();
        }
    } else if let Some(spec) = service["spec"].as_object_mut() {
        spec.remove("healthCheckNodePort");
    }
    Ok(())
}

/// The node port that the stored Service has for the same port and protocol.
fn kept_port(old: &Value, entry: &Value, protocol: &str) -> Option<u16> {
    let ports = old["spec"]["ports"].as_array()?;
    let same = |p: &&Value| {
        let old_protocol = match text_at(p, &["protocol"]) {
            "" => "TCP",
            p => p,
        };
        p["port"] == entry["port"] && old_protocol == protocol
    };
    port(&ports.iter().find(same)?["nodePort"])
}

fn free_port(pool: &Pool<'_>, used: &[(u16, String)], nth: u64) -> Result<u16, Refusal> {
    let (first, last) = pool.node_ports;
    let size = u64::from(last.saturating_sub(first)) + 1;
    // The lower band is left to those who choose, as upstream.
    let band = if size < 16 { 0 } else { (size / 32).clamp(16, 128) };
    let upper = (size - band).max(1);
    let start = pool.seed.rotate_left(17).wrapping_add(nth.wrapping_mul(7919)) % upper;
    (0..upper)
        .map(|i| band + (start + i) % upper)
        .chain(0..band)
        .filter_map(|offset| u16::try_from(u64::from(first) + offset).ok())
        .find(|p| !used.iter().any(|(n, _)| n == p) && !(pool.port_taken)(*p))
        .ok_or(Refusal::Exhausted("nodePort"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(service: Value, old: Option<&Value>, taken: &[&str]) -> Result<Value, ApiError> {
        let cidrs = ["10.96.0.0/16".parse().unwrap()];
        let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
        let pool = Pool {
            cidrs: &cidrs,
            ranges: &["10.96.0.0/16".parse().unwrap(), "10.5.0.0/29".parse().unwrap()],
            node_ports: (30000, 32767),
            address_taken: &|ip| taken.contains(&ip.to_string()),
            port_taken: &|port| taken.contains(&port.to_string()),
            seed: 5,
        };
        let mut service = service;
        let before = old.map(Given::of).unwrap_or_default();
        allocate(&mut service, old, &before, &pool).map(|_| service)
    }

    #[test]
    fn addresses_and_ports() {
        let got = run(json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "nodePort": 30001}]}}), None, &[]).unwrap();
        assert_eq!(got["spec"]["clusterIP"], "10.96.1.6");
        assert_eq!(got["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(got["spec"]["ports"][1]["nodePort"], 30001);
        assert!(port(&got["spec"]["ports"][0]["nodePort"]).unwrap() >= 30086);
        // Nothing changes when it is solved again, and an update that names nothing keeps all.
        assert_eq!(run(got.clone(), Some(&got), &["10.96.1.6", "30001"]).unwrap(), got);
        let bare =
            json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        assert_eq!(run(bare, Some(&got), &[]).unwrap()["spec"], got["spec"]);
        let cluster = json!({"metadata": {"name": "a"}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        let kept = run(cluster, Some(&got), &[]).unwrap();
        assert_eq!(
            (&kept["spec"]["clusterIP"], &kept["spec"]["ports"][0]["nodePort"]),
            (&json!("10.96.1.6"), &Value::Null)
        );
    }

    #[test]
    fn full_ranges_give_way_to_others() {
        let service = || json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let small: IpNet = "10.6.0.0/29".parse().unwrap();
        let ranges: Vec<IpNet> = vec![small, "10.7.0.0/29".parse().unwrap()];
        let allocate = |ranges: &[IpNet], ports: (u16, u16)| {
            let pool = Pool {
                cidrs: &[small],
                ranges,
                node_ports: ports,
                address_taken: &|ip| small.contains(&ip),
                port_taken: &|port| port == 30000,
                seed: 5,
            };
            let mut service = service();
            super::allocate(&mut service, None, &Given::default(), &pool).map(|_| service)
        };
        let got = allocate(&ranges, (30000, 30001)).unwrap();
        assert!(got["spec"]["clusterIP"].as_str().unwrap().starts_with("10.7.0."));
        assert_eq!(got["spec"]["ports"][0]["nodePort"], 30001);
        let full = |result: Result<Value, ApiError>| {
            let error = result.unwrap_err();
            (error.code, error.message)
        };
        let text = |what: &str| format!("Internal error occurred: failed to allocate a {what}: range is full");
        assert_eq!(full(allocate(&ranges[..1], (30000, 30001))), (500, text("serviceIP")));
        assert_eq!(full(allocate(&ranges, (30000, 30000))), (500, text("nodePort")));
    }

    #[test]
    fn refusals() {
        let service = |ip: &str| json!({"metadata": {"name": "a"}, "spec": {"clusterIP": ip}});
        assert!(
            run(service("10.97.0.1"), None, &[])
                .unwrap_err()
                .message
                .contains("failed to allocate IP 10.97.0.1: the provided network does not match the current range")
        );
        assert!(
            run(service("10.96.0.0"), None, &[])
                .unwrap_err()
                .message
                .contains("The range of valid IPs is 10.96.0.0/16")
        );
        assert_eq!(
            run(service("10.5.0.2"), None, &[]).unwrap()["spec"]["clusterIP"],
            "10.5.0.2"
        );
        assert!(
            run(service("10.96.0.9"), None, &["10.96.0.9"])
                .unwrap_err()
                .message
                .contains("already allocated")
        );
        assert_eq!(
            run(service("None"), None, &[]).unwrap()["spec"]["clusterIPs"],
            json!(["None"])
        );
        let port =
            json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}});
        assert!(run(port, None, &[]).unwrap_err().message.contains("30000-32767"));
    }
}
