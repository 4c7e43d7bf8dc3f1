//! Which pod CIDR a node gets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// One cluster range, cut into node ranges of one size.
#[derive(Clone, Debug)]
pub struct Range {
    net: IpNet,
    mask: u8,
}

/// A range can be cut into at most this many pieces, as upstream limits it (16 bits).
const PIECES_LOG2_MAX: u8 = 16;

impl Range {
    pub fn new(text: &str, mask: u8) -> Result<Self, String> {
        let net: IpNet = text
            .parse()
            .map_err(|_| format!("{text:?} is not an address range like 10.42.0.0/16"))?;
        let net = net.trunc();
        if mask < net.prefix_len() || mask > net.max_prefix_len() || mask - net.prefix_len() > PIECES_LOG2_MAX {
            return Err(format!(
                "{net} cannot be cut into node ranges of /{mask}: choose a node mask from /{} to /{}",
                net.prefix_len(),
                (net.prefix_len() + PIECES_LOG2_MAX).min(net.max_prefix_len())
            ));
        }
        Ok(Self { net, mask })
    }

    fn pieces(&self) -> u128 {
        1 << (self.mask - self.net.prefix_len())
    }

    fn piece(&self, index: u128) -> Option<IpNet> {
        let shift = u32::from(self.net.max_prefix_len() - self.mask);
        match self.net.addr() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(index.checked_shl(shift)?).ok()?;
                IpNet::new(IpAddr::V4(u32::from(base).checked_add(offset)?.into()), self.mask).ok()
            }
            IpAddr::V6(base) => {
                let offset = index.checked_shl(shift)?;
                IpNet::new(IpAddr::V6(u128::from(base).checked_add(offset)?.into()), self.mask).ok()
            }
        }
    }
}

/// Who has what.
#[derive(Debug, Default)]
pub struct Leases {
    by_node: BTreeMap<String, Vec<IpNet>>,
    taken: BTreeSet<IpNet>,
}

impl Leases {
    pub fn occupy(&mut self, node: &str, cidrs: &[IpNet]) {
        self.release(node);
        self.taken.extend(cidrs.iter().map(IpNet::trunc));
        self.by_node.insert(node.to_string(), cidrs.to_vec());
    }

    pub fn release(&mut self, node: &str) {
        for cidr in self.by_node.remove(node).unwrap_or_default() {
            self.taken.remove(&cidr.trunc());
        }
    }

    pub fn of(&self, node: &str) -> Option<&[IpNet]> {
        self.by_node.get(node).map(Vec::as_slice)
    }

    /// The first free piece of each range; none when one of them is used up.
    pub fn allocate(&mut self, node: &str, ranges: &[Range]) -> Option<Vec<IpNet>> {
        let mut found = Vec::new();
        for range in ranges {
            let free = (0..range.pieces())
                .filter_map(|index| range.piece(index))
                .find(|piece| !self.taken.iter().any(|taken| overlaps(taken, piece)))?;
            found.push(free);
        }
        self.occupy(node, &found);
        Some(found)
    }
}

fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(cidrs: Option<Vec<IpNet>>) -> Vec<String> {
        cidrs.into_iter().flatten().map(|cidr| cidr.to_string()).collect()
    }

    #[test]
    fn pieces_are_disjoint_and_reused_after_release() {
        let ranges = [
            Range::new("10.42.0.0/22", 24).expect("valid"),
            Range::new("fd00::/62", 64).expect("valid"),
        ];
        let mut leases = Leases::default();
        assert_eq!(texts(leases.allocate("a", &ranges)), ["10.42.0.0/24", "fd00::/64"]);
        leases.occupy("b", &["10.42.1.0/24".parse().expect("valid")]);
        assert_eq!(
            texts(leases.allocate("c", &ranges)),
            ["10.42.2.0/24", "fd00:0:0:1::/64"]
        );
        assert_eq!(
            texts(leases.allocate("d", &ranges)),
            ["10.42.3.0/24", "fd00:0:0:2::/64"]
        );
        assert_eq!(leases.allocate("e", &ranges), None, "used up");
        leases.release("c");
        assert_eq!(
            texts(leases.allocate("e", &ranges)),
            ["10.42.2.0/24", "fd00:0:0:1::/64"]
        );
    }

    #[test]
    fn bad_ranges_are_refused_with_advice() {
        assert!(Range::new("10.42.0.0/24", 16).is_err());
        assert!(Range::new("10.0.0.0/4", 24).is_err());
        assert!(Range::new("cats", 24).is_err());
    }
}
