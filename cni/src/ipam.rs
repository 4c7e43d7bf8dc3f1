//! Which pod has which address. Pure: no files, no clock, no randomness.
//!
//! A lease belongs to an owner (a pod by UID) and names the sandbox that holds
//! it now. When a sandbox goes, the lease is kept as *released*, so that the
//! same pod's next sandbox gets the same address; released addresses go to
//! others only when nothing else is left, the longest released first. New
//! addresses are handed out round and round, so that what just left a dead pod
//! is the last to come back.

use crate::config::Attachment;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Released leases remembered at most: a node runs some hundred pods, and the
/// file is rewritten on each change.
const RELEASED_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    subnets: Vec<IpNet>,
}

impl Pool {
    pub fn new(subnets: &[IpNet]) -> Result<Pool, String> {
        let v4 = subnets.iter().filter(|net| net.addr().is_ipv4()).count();
        if subnets.is_empty() || v4 > 1 || subnets.len() - v4 > 1 {
            return Err("podCIDRs must name one range, or one of each family".to_owned());
        }
        Ok(Pool {
            subnets: subnets.iter().map(IpNet::trunc).collect(),
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Counts changes; orders releases.
    pub clock: u64,
    /// The address last handed out of each range.
    pub cursors: BTreeMap<IpNet, IpAddr>,
    pub leases: BTreeMap<String, Lease>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub container: String,
    pub ifname: String,
    pub addresses: Vec<IpAddr>,
    /// The clock when its sandbox went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    pub owner: String,
    pub container: String,
    pub ifname: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no address is left in {subnet}: {leased} are leased; use a larger pod range or fewer pods on this node")]
pub struct Exhausted {
    pub subnet: IpNet,
    pub leased: usize,
}

impl Leases {
    pub fn addresses_of(&self, owner: &str) -> Vec<IpAddr> {
        self.leases
            .get(owner)
            .map(|lease| lease.addresses.clone())
            .unwrap_or_default()
    }

    pub fn held_by(&self, container: &str, ifname: &str) -> Vec<IpAddr> {
        self.leases
            .values()
            .find(|l| l.released.is_none() && l.container == container && l.ifname == ifname)
            .map(|lease| lease.addresses.clone())
            .unwrap_or_default()
    }
}

/// The leases after `request` has an address of each range of the pool.
pub fn allocate(pool: &Pool, leases: &Leases, request: &LeaseRequest) -> Result<Leases, Exhausted> {
    let mut next = leases.clone();
    next.clock += 1;
    let kept = next
        .leases
        .remove(&request.owner)
        .map(|lease| lease.addresses)
        .unwrap_or_default();
    let mut addresses = Vec::with_capacity(pool.subnets.len());
    for subnet in &pool.subnets {
        // The node's range may have changed since the lease was made.
        let address = match kept.iter().find(|address| usable(subnet, **address)) {
            Some(address) => *address,
            None => {
                let address = take(subnet, &mut next)?;
                next.cursors.insert(*subnet, address);
                address
            }
        };
        addresses.push(address);
    }
    let lease = Lease {
        container: request.container.clone(),
        ifname: request.ifname.clone(),
        addresses,
        released: None,
    };
    next.leases.insert(request.owner.clone(), lease);
    Ok(next)
}

/// Marks the sandbox's lease as released. Only the sandbox that holds a lease
/// now can release it: a late DEL of a pod's former sandbox changes nothing.
pub fn release(leases: &Leases, request: &LeaseRequest) -> Leases {
    let mut next = leases.clone();
    let held = next
        .leases
        .values_mut()
        .find(|l| l.released.is_none() && l.container == request.container && l.ifname == request.ifname);
    if let Some(lease) = held {
        next.clock += 1;
        lease.released = Some(next.clock);
        while next.leases.values().filter(|l| l.released.is_some()).count() > RELEASED_MAX {
            forget_oldest(&mut next, |_| true);
        }
    }
    next
}

/// Held leases that are not among the attachments to keep.
pub fn stale(leases: &Leases, valid: &BTreeSet<Attachment>) -> Vec<LeaseRequest> {
    leases
        .leases
        .iter()
        .filter(|(_, l)| l.released.is_none())
        .filter(|(_, l)| {
            !valid.contains(&Attachment {
                container: l.container.clone(),
                ifname: l.ifname.clone(),
            })
        })
        .map(|(owner, l)| LeaseRequest {
            owner: owner.clone(),
            container: l.container.clone(),
            ifname: l.ifname.clone(),
        })
        .collect()
}

fn take(subnet: &IpNet, leases: &mut Leases) -> Result<IpAddr, Exhausted> {
    let used: BTreeSet<u128> = leases
        .leases
        .values()
        .flat_map(|lease| &lease.addresses)
        .filter(|a| subnet.contains(*a))
        .map(|a| number(*a))
        .collect();
    let (first, last) = bounds(subnet);
    if let Some(free) = next_free(first, last, leases.cursors.get(subnet).map(|a| number(*a)), &used) {
        return Ok(address(subnet, free));
    }
    forget_oldest(leases, |address| usable(subnet, address)).ok_or(Exhausted {
        subnet: *subnet,
        leased: used.len(),
    })
}

/// The first unused number after the cursor, going round once. Looks at no more
/// numbers than are used, plus one.
fn next_free(first: u128, last: u128, cursor: Option<u128>, used: &BTreeSet<u128>) -> Option<u128> {
    if first > last {
        return None;
    }
    let start = cursor.filter(|c| (first..last).contains(c)).map_or(first, |c| c + 1);
    let span = |from: u128, to: u128| {
        let mut at = from;
        for taken in used.range(from..=to) {
            if *taken > at {
                break;
            }
            at = taken + 1;
        }
        (at <= to).then_some(at)
    };
    span(start, last).or_else(|| if start > first { span(first, start - 1) } else { None })
}

/// Drops the longest released lease that has a wanted address; returns that address.
fn forget_oldest(leases: &mut Leases, wanted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (owner, found) = leases
        .leases
        .iter()
        .filter_map(|(owner, l)| Some((l.released?, owner, *l.addresses.iter().find(|a| wanted(**a))?)))
        .min_by_key(|(released, ..)| *released)
        .map(|(_, owner, address)| (owner.clone(), address))?;
    leases.leases.remove(&owner);
    Some(found)
}

/// Usable numbers: not the network's own, not the first (the node's, reserved
/// for it), not the broadcast address.
fn bounds(subnet: &IpNet) -> (u128, u128) {
    let (network, broadcast) = (number(subnet.network()), number(subnet.broadcast()));
    (
        network.saturating_add(2),
        if subnet.addr().is_ipv4() {
            broadcast.saturating_sub(1)
        } else {
            broadcast
        },
    )
}

fn usable(subnet: &IpNet, address: IpAddr) -> bool {
    let (first, last) = bounds(subnet);
    subnet.contains(&address) && (first..=last).contains(&number(address))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(subnet: &IpNet, at: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(at).expect("taken from within a v4 range"))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        Pool::new(&text.split(',').map(|net| net.parse().unwrap()).collect::<Vec<_>>()).unwrap()
    }

    fn request(owner: &str, container: &str) -> LeaseRequest {
        LeaseRequest {
            owner: owner.into(),
            container: container.into(),
            ifname: "eth0".into(),
        }
    }

    fn give(pool: &Pool, leases: &mut Leases, owner: &str, container: &str) -> Result<String, Exhausted> {
        *leases = allocate(pool, leases, &request(owner, container))?;
        Ok(leases
            .addresses_of(owner)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","))
    }

    #[test]
    fn first_two_and_broadcast_are_never_given() {
        let (pool, mut leases) = (pool("10.0.0.0/29"), Leases::default());
        let all: Vec<_> = (0..5)
            .map(|i| give(&pool, &mut leases, &format!("p{i}"), &format!("c{i}")).unwrap())
            .collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(give(&pool, &mut leases, "p9", "c9").unwrap_err().leased, 5);
    }

    #[test]
    fn pod_keeps_its_address_through_sandboxes_and_late_del() {
        let (pool, mut leases) = (pool("10.0.0.0/24,fd00::/64"), Leases::default());
        assert_eq!(give(&pool, &mut leases, "p", "c1").unwrap(), "10.0.0.2,fd00::2");
        assert_eq!(give(&pool, &mut leases, "p", "c2").unwrap(), "10.0.0.2,fd00::2");
        let after = release(&leases, &request("p", "c1"));
        assert_eq!(after, leases, "a former sandbox released the lease of its successor");
        leases = release(&leases, &request("p", "c2"));
        assert_eq!(give(&pool, &mut leases, "q", "c3").unwrap(), "10.0.0.3,fd00::3");
        assert_eq!(give(&pool, &mut leases, "p", "c4").unwrap(), "10.0.0.2,fd00::2");
    }

    #[test]
    fn released_addresses_come_back_oldest_first_and_only_when_needed() {
        let (pool, mut leases) = (pool("10.0.0.0/29"), Leases::default());
        for i in 0..4 {
            give(&pool, &mut leases, &format!("p{i}"), &format!("c{i}")).unwrap();
        }
        leases = release(&leases, &request("p2", "c2"));
        leases = release(&leases, &request("p1", "c1"));
        assert_eq!(give(&pool, &mut leases, "a", "ca").unwrap(), "10.0.0.6");
        assert_eq!(give(&pool, &mut leases, "b", "cb").unwrap(), "10.0.0.4");
        assert_eq!(give(&pool, &mut leases, "c", "cc").unwrap(), "10.0.0.3");
        assert!(give(&pool, &mut leases, "d", "cd").is_err());
    }

    #[test]
    fn changed_range_gives_a_new_address_and_release_twice_is_release_once() {
        let mut leases = Leases::default();
        give(&pool("10.0.0.0/24"), &mut leases, "p", "c").unwrap();
        assert_eq!(give(&pool("10.1.0.0/24"), &mut leases, "p", "c").unwrap(), "10.1.0.2");
        let once = release(&leases, &request("p", "c"));
        assert_eq!(release(&once, &request("p", "c")), once);
    }

    #[test]
    fn no_two_pods_ever_share_an_address() {
        // A cheap deterministic walk instead of a random one.
        let (pool, mut leases, mut seed) = (pool("10.0.0.0/28"), Leases::default(), 7u64);
        for step in 0..2000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let name = format!("p{}", (seed >> 33) % 20);
            if (seed >> 20) & 1 == 0 {
                let _ = give(&pool, &mut leases, &name, &name);
            } else {
                leases = release(&leases, &request(&name, &name));
            }
            let all: Vec<_> = leases.leases.values().flat_map(|l| l.addresses.clone()).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(all.len(), distinct.len(), "step {step}");
        }
    }

    #[test]
    fn gc_names_held_leases_that_nobody_wants() {
        let (pool, mut leases) = (pool("10.0.0.0/24"), Leases::default());
        give(&pool, &mut leases, "a", "ca").unwrap();
        give(&pool, &mut leases, "b", "cb").unwrap();
        give(&pool, &mut leases, "c", "cc").unwrap();
        leases = release(&leases, &request("c", "cc"));
        let keep = BTreeSet::from([Attachment {
            container: "cb".into(),
            ifname: "eth0".into(),
        }]);
        assert_eq!(stale(&leases, &keep), [request("a", "ca")]);
    }
}
