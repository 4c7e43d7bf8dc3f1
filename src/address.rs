//! This machine's own address and name.

use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr};

/// Links of ours or of other container systems: never a node's address.
const LINKS_SKIPPED: [&str; 8] = ["lo", "skiff", "veth", "docker", "br-", "cni", "virbr", "vxlan"];

/// The address of the default route's interface, else of the first other one
/// that is up; loopback where there is none (a machine without a network can
/// still run a cluster of one).
pub fn node_address() -> IpAddr {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = default_interface(&routes);
    let addresses = interface_addresses();
    let of = |name: &str| {
        addresses
            .iter()
            .find(|(link, _)| link == name)
            .map(|(_, address)| *address)
    };
    let other = || {
        let usable = |link: &str| !LINKS_SKIPPED.iter().any(|skipped| link.starts_with(skipped));
        addresses
            .iter()
            .find(|(link, _)| usable(link))
            .map(|(_, address)| *address)
    };
    default
        .and_then(|name| of(&name))
        .or_else(other)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The interface of the default route with the lowest metric, from the text of
/// `/proc/net/route`.
fn default_interface(routes: &str) -> Option<String> {
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (name, destination, metric, mask) =
                (columns.first()?, columns.get(1)?, columns.get(6)?, columns.get(7)?);
            (*destination == "00000000" && *mask == "00000000")
                .then(|| (metric.parse::<u32>().unwrap_or(u32::MAX), name.to_string()))
        })
        .min()
        .map(|(_, name)| name)
}

fn interface_addresses() -> Vec<(String, IpAddr)> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?.as_sockaddr_in()?.ip();
            (!address.is_loopback()).then_some((interface.interface_name, IpAddr::V4(address)))
        })
        .collect()
}

/// The host name as a node name: lower case.
pub fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name; give --node-name")?;
    let name = name.to_string_lossy().to_ascii_lowercase();
    let name = name.trim_end_matches('.').to_string();
    anyhow::ensure!(
        !name.is_empty() && name != "(none)",
        "this machine has no host name; give --node-name"
    );
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_wins() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            wlan0\t00000000\t0102000A\t0003\t0\t0\t600\t00000000\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\n\
            eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(default_interface(text), Some("eth0".into()));
        assert_eq!(default_interface(""), None);
    }
}
