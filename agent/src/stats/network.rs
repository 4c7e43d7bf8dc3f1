//! What went through the network, by interface, and which interface is a pod's: three
//! reads for the whole node. Pure but for `Wires::read`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Counters {
    /// As the other end of the wire sees it.
    fn turned(self) -> Self {
        Self {
            rx_bytes: self.tx_bytes,
            rx_packets: self.tx_packets,
            rx_errors: self.tx_errors,
            rx_dropped: self.tx_dropped,
            tx_bytes: self.rx_bytes,
            tx_packets: self.rx_packets,
            tx_errors: self.rx_errors,
            tx_dropped: self.rx_dropped,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wires {
    counters: BTreeMap<String, Counters>,
    /// Addresses with a route of their own, and where it leads.
    hosts: BTreeMap<IpAddr, String>,
    /// Of the default route.
    default: Option<String>,
}

impl Wires {
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::of(
            &text("/proc/net/dev"),
            &text("/proc/net/route"),
            &text("/proc/net/ipv6_route"),
        )
    }

    fn of(dev: &str, route: &str, ipv6_route: &str) -> Self {
        let mut wires = Self {
            counters: dev.lines().filter_map(interface).collect(),
            ..Self::default()
        };
        for line in route.lines().skip(1) {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let (Some(name), Some(to), Some(mask)) = (parts.first(), parts.get(1), parts.get(7)) else {
                continue;
            };
            let Ok(to) = u32::from_str_radix(to, 16) else { continue };
            match *mask {
                // Written in the machine's own order of bytes.
                "FFFFFFFF" => {
                    let address = IpAddr::V4(Ipv4Addr::from(to.to_ne_bytes()));
                    wires.hosts.insert(address, (*name).to_owned());
                }
                "00000000" if to == 0 && wires.default.is_none() => wires.default = Some((*name).to_owned()),
                _ => {}
            }
        }
        for line in ipv6_route.lines() {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let (Some(to), Some(&"80"), Some(name)) = (parts.first(), parts.get(1), parts.get(9)) else {
                continue;
            };
            if let Ok(to) = u128::from_str_radix(to, 16) {
                let address = IpAddr::V6(Ipv6Addr::from(to));
                wires.hosts.entry(address).or_insert_with(|| (*name).to_owned());
            }
        }
        wires
    }

    /// What the pod with this address received and sent.
    pub fn of_pod(&self, address: IpAddr) -> Option<Counters> {
        self.counters.get(self.hosts.get(&address)?).map(|c| c.turned())
    }

    /// The node's interfaces that are no pod's; the one of the default route first.
    pub fn of_node(&self) -> Vec<(&str, Counters)> {
        let own = |name: &str| name != "lo" && !self.hosts.values().any(|pod| pod == name);
        let mut all: Vec<(&str, Counters)> = self
            .counters
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, counters)| (name.as_str(), *counters))
            .collect();
        all.sort_by_key(|(name, _)| Some(*name) != self.default.as_deref());
        all
    }
}

fn interface(line: &str) -> Option<(String, Counters)> {
    let (name, rest) = line.split_once(':')?;
    let values: Vec<u64> = rest.split_whitespace().filter_map(|v| v.parse().ok()).collect();
    let &[
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = values.as_slice()
    else {
        return None;
    };
    let counters = Counters {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    5000      50    1    2    0     0          0         0     7000      70    3    4    0     0       0          0
skv1a2b3c:  300      3    0    0    0     0          0         0      400       4    0    0    0     0       0          0
";
    // 10.42.0.5 as a little-endian machine writes it.
    const ROUTE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
skv1a2b3c\t05002A0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\t00001EAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";
    const ROUTE6: &str = "\
fd000000000000000000000000000005 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001 skv1a2b3c
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001     eth0
";

    #[test]
    fn pods_are_found_by_their_routes() {
        let wires = Wires::of(DEV, ROUTE, ROUTE6);
        let pod = wires.of_pod("10.42.0.5".parse().expect("an address")).expect("a pod");
        assert_eq!(
            (pod.rx_bytes, pod.tx_bytes, pod.rx_packets, pod.tx_packets),
            (400, 300, 4, 3)
        );
        assert_eq!(wires.of_pod("fd00::5".parse().expect("an address")), Some(pod));
        assert_eq!(wires.of_pod("10.42.0.6".parse().expect("an address")), None);
        let node = wires.of_node();
        assert_eq!(node.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!((node[0].1.rx_errors, node[0].1.tx_dropped), (1, 4));
        assert_eq!(Wires::of("x", "y\nz", "w"), Wires::default());
    }
}
