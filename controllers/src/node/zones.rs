//! How fast pods are evicted from lost nodes: by zone, slower while most of a zone is lost, and not at all while
//! no node is well, for then it is more likely that the control plane is the one cut off. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;

use super::health::ready;

/// Nodes per second of a zone that may be given up; upstream's `--node-eviction-rate`.
const RATE: f64 = 0.1;
/// The same while most of a large zone is lost; upstream's `--secondary-node-eviction-rate`.
const RATE_SECONDARY: f64 = 0.01;
/// Zones up to this size are left alone while most of them is lost; upstream's `--large-cluster-size-threshold`.
const LARGE: usize = 50;
/// From this part of lost nodes on most of a zone is lost; upstream's `--unhealthy-zone-threshold`.
const UNHEALTHY_PERCENT: usize = 55;

/// Region and zone, as far as a node's labels say.
pub type Zone = [String; 2];

pub fn zone_of(node: &Node) -> Zone {
    let labels = node.metadata.labels.as_ref();
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]
        .map(|key| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

fn state(well: usize, lost: usize) -> State {
    if well == 0 && lost > 0 {
        State::Full
    } else if lost > 2 && lost * 100 >= (well + lost) * UNHEALTHY_PERCENT {
        State::Partial
    } else {
        State::Normal
    }
}

/// Nodes per second that may be given up in each zone; none of any zone when all are lost.
fn rates(nodes: &[Arc<Node>]) -> BTreeMap<Zone, f64> {
    let mut counts: BTreeMap<Zone, (usize, usize)> = BTreeMap::new();
    for node in nodes {
        let count = counts.entry(zone_of(node)).or_default();
        if ready(node) == "True" {
            count.0 += 1;
        } else {
            count.1 += 1;
        }
    }
    let all_lost = counts.values().all(|(well, lost)| state(*well, *lost) == State::Full);
    let rate = |(well, lost): (usize, usize)| match state(well, lost) {
        _ if all_lost => 0.0,
        State::Normal | State::Full => RATE,
        State::Partial if well + lost > LARGE => RATE_SECONDARY,
        State::Partial => 0.0,
    };
    counts.into_iter().map(|(zone, count)| (zone, rate(count))).collect()
}

/// Whether a node may be given up.
#[derive(Debug, PartialEq, Eq)]
pub enum Permit {
    Now,
    /// Another of its zone was given up a moment ago.
    In(Duration),
    /// While the nodes are as they are; another look is needed when one changes.
    Never,
}

/// When each zone's last node was given up.
#[derive(Default)]
pub struct Pace {
    last: HashMap<Zone, Timestamp>,
}

impl Pace {
    /// `given_up`: its pods were told to go before; that is not counted again.
    pub fn ask(&mut self, node: &Node, given_up: bool, nodes: &[Arc<Node>], now: Timestamp) -> Permit {
        let rates = rates(nodes);
        let zone = zone_of(node);
        let rate = rates.get(&zone).copied().unwrap_or(0.0);
        if given_up {
            // A zone in trouble keeps what was decided; a cluster in trouble does not.
            let any = rates.values().any(|rate| *rate > 0.0) || nodes.iter().any(|node| ready(node) == "True");
            return if any { Permit::Now } else { Permit::Never };
        }
        if rate <= 0.0 {
            return Permit::Never;
        }
        let gap = SignedDuration::from_secs_f64(1.0 / rate);
        let due = self.last.get(&zone).and_then(|last| last.checked_add(gap).ok());
        match due.filter(|due| *due > now) {
            Some(due) => Permit::In(due.duration_since(now).unsigned_abs()),
            None => {
                self.last.insert(zone, now);
                Permit::Now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::at;

    fn nodes(well: usize, lost: usize, zone: &str) -> Vec<Arc<Node>> {
        let states = std::iter::repeat_n("True", well).chain(std::iter::repeat_n("Unknown", lost));
        let made = states.map(|ready| {
            serde_json::from_value(serde_json::json!({
                "metadata": {"labels": {"topology.kubernetes.io/zone": zone}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .expect("a node")
        });
        made.map(Arc::new).collect()
    }

    fn ask(all: &[Arc<Node>], given_up: bool) -> Permit {
        Pace::default().ask(all.last().expect("a node"), given_up, all, at(0))
    }

    #[test]
    fn zones_in_trouble_keep_their_pods() {
        for (well, lost) in [(1, 1), (1, 2), (3, 3), (100, 100)] {
            assert_eq!(
                ask(&nodes(well, lost, "a"), false),
                Permit::Now,
                "{well} well, {lost} lost"
            );
        }
        assert_eq!(ask(&nodes(2, 3, "a"), false), Permit::Never, "most of a small zone");
        assert_eq!(ask(&nodes(2, 3, "a"), true), Permit::Now, "what was decided stays");
        assert_eq!(ask(&nodes(0, 1, "a"), false), Permit::Never, "all is lost");
        assert_eq!(ask(&nodes(0, 1, "a"), true), Permit::Never, "all is lost");
        let split = [nodes(2, 0, "b"), nodes(0, 4, "a")].concat();
        assert_eq!(ask(&split, false), Permit::Now, "the other zone takes over");
        let both = [nodes(0, 2, "b"), nodes(0, 4, "a")].concat();
        assert_eq!(ask(&both, false), Permit::Never);
    }

    #[test]
    fn one_node_at_a_time() {
        let check = |all: &[Arc<Node>], gap: u64| {
            let (mut pace, node) = (Pace::default(), all.last().expect("a node"));
            assert_eq!(pace.ask(node, false, all, at(0)), Permit::Now);
            assert_eq!(pace.ask(node, true, all, at(1)), Permit::Now, "again the same one");
            assert_eq!(
                pace.ask(node, false, all, at(1)),
                Permit::In(Duration::from_secs(gap - 1))
            );
            let later = i64::try_from(gap).expect("small");
            assert_eq!(pace.ask(node, false, all, at(later)), Permit::Now);
            assert_ne!(pace.ask(node, false, all, at(later)), Permit::Now);
        };
        check(&nodes(5, 2, "a"), 10);
        check(&nodes(20, 40, "a"), 100);
        let two = [nodes(5, 2, "b"), nodes(5, 2, "a")].concat();
        let mut pace = Pace::default();
        assert_eq!(pace.ask(&two[6], false, &two, at(0)), Permit::Now);
        assert_eq!(
            pace.ask(&two[13], false, &two, at(0)),
            Permit::Now,
            "each zone by itself"
        );
    }
}
