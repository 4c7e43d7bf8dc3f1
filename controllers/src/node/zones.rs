//! How fast pods are evicted from lost nodes: by zone, slower while most of a zone is lost, and not at all while
//! no node is well, for then it is more likely that the control plane is the one cut off. Pure.

use std::collections::{BTreeMap, HashMap};
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

/// A node's zone, and whether the node is well.
type Place = (Zone, bool);

fn place(node: &Node) -> Place {
    (zone_of(node), ready(node) == "True")
}

/// The nodes there are. Counted as they change: each of thousands that come up changes what may
/// become of the others, and almost none of them in effect.
#[derive(Debug, Default)]
pub struct Census {
    places: HashMap<String, Place>,
    counts: Counts,
}

impl Census {
    /// A node came, changed, or went. Whether that makes a difference to lost nodes.
    pub fn change(&mut self, name: &str, new: Option<&Node>) -> bool {
        let (old, new) = (self.places.get(name), new.map(place));
        if old == new.as_ref() {
            return false;
        }
        let before = self.counts.verdict();
        self.counts.replace(old, new.as_ref());
        match new {
            Some(place) => drop(self.places.insert(name.to_string(), place)),
            None => drop(self.places.remove(name)),
        }
        self.counts.verdict() != before
    }

    /// With one node as it is now.
    pub fn with(&self, name: &str, node: &Node) -> Counts {
        let mut counts = self.counts.clone();
        counts.replace(self.places.get(name), Some(&place(node)));
        counts
    }
}

/// How many nodes of each zone are well and lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts(BTreeMap<Zone, (usize, usize)>);

impl Counts {
    fn replace(&mut self, old: Option<&Place>, new: Option<&Place>) {
        if let Some((zone, well)) = old
            && let Some(count) = self.0.get_mut(zone)
        {
            *(if *well { &mut count.0 } else { &mut count.1 }) -= 1;
            if *count == (0, 0) {
                self.0.remove(zone);
            }
        }
        if let Some((zone, well)) = new {
            let count = self.0.entry(zone.clone()).or_default();
            *(if *well { &mut count.0 } else { &mut count.1 }) += 1;
        }
    }

    /// Nodes per second that may be given up in each zone, none of any zone when all are lost;
    /// and whether any node is well.
    fn verdict(&self) -> (BTreeMap<Zone, f64>, bool) {
        let counts = &self.0;
        let all_lost = counts.values().all(|(well, lost)| state(*well, *lost) == State::Full);
        let rate = |(well, lost): (usize, usize)| match state(well, lost) {
            _ if all_lost => 0.0,
            State::Normal | State::Full => RATE,
            State::Partial if well + lost > LARGE => RATE_SECONDARY,
            State::Partial => 0.0,
        };
        let rates = counts
            .iter()
            .map(|(zone, count)| (zone.clone(), rate(*count)))
            .collect();
        (rates, counts.values().any(|(well, _)| *well > 0))
    }
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
    pub fn ask(&mut self, node: &Node, given_up: bool, counts: &Counts, now: Timestamp) -> Permit {
        let (rates, any_well) = counts.verdict();
        let zone = zone_of(node);
        let rate = rates.get(&zone).copied().unwrap_or(0.0);
        if given_up {
            // A zone in trouble keeps what was decided; a cluster in trouble does not.
            let any = rates.values().any(|rate| *rate > 0.0) || any_well;
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
    use proptest::prelude::*;

    fn node(zone: &str, ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("a node")
    }

    fn census(nodes: &[Node]) -> Census {
        let mut census = Census::default();
        for (at, node) in nodes.iter().enumerate() {
            census.change(&at.to_string(), Some(node));
        }
        census
    }

    fn nodes(well: usize, lost: usize, zone: &str) -> Vec<Node> {
        let states = std::iter::repeat_n("True", well).chain(std::iter::repeat_n("Unknown", lost));
        states.map(|ready| node(zone, ready)).collect()
    }

    fn ask(all: &[Node], given_up: bool) -> Permit {
        Pace::default().ask(all.last().expect("a node"), given_up, &census(all).counts, at(0))
    }

    proptest! {
        #[test]
        fn what_is_counted_by_change_is_what_there_is(
            changes in prop::collection::vec((0..6_usize, prop::option::of((0..3_usize, any::<bool>()))), 0..60)
        ) {
            let mut nodes: [Option<Node>; 6] = Default::default();
            let mut counted = Census::default();
            for (which, becomes) in changes {
                let new = becomes.map(|(zone, well)| node(["a", "b", "c"][zone], if well { "True" } else { "False" }));
                let before = counted.counts.verdict();
                let shown = new.as_ref().map(|new| counted.with(&which.to_string(), new));
                let differs = counted.change(&which.to_string(), new.as_ref());
                nodes[which] = new;
                let there: Vec<Node> = nodes.iter().flatten().cloned().collect();
                prop_assert_eq!(&counted.counts, &census(&there).counts);
                prop_assert_eq!(differs, counted.counts.verdict() != before);
                prop_assert!(shown.is_none_or(|shown| shown == counted.counts));
            }
        }
    }

    #[test]
    fn of_many_nodes_that_come_up_few_change_what_becomes_of_others() {
        let mut counted = census(&nodes(0, 5_000, "a"));
        let well = node("a", "True");
        let differences = (0..5_000)
            .filter(|at| counted.change(&at.to_string(), Some(&well)))
            .count();
        assert!(differences <= 3, "{differences}");
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
        let check = |all: &[Node], gap: u64| {
            let (mut pace, node) = (Pace::default(), all.last().expect("a node"));
            let all = &census(all).counts;
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
        let (mut pace, counted) = (Pace::default(), census(&two).counts);
        assert_eq!(pace.ask(&two[6], false, &counted, at(0)), Permit::Now);
        assert_eq!(
            pace.ask(&two[13], false, &counted, at(0)),
            Permit::Now,
            "each zone by itself"
        );
    }
}
