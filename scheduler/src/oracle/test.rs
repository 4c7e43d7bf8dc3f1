//! The decisions against the slow ones, over random histories.

use super::random::{self, Choices};
use super::*;
use crate::explain::{Verdict, explain};
use crate::filter::Candidate;
use crate::pod::{PodKey, key_of};
use crate::preempt::{Preemption, preempt};
use crate::schedule::schedule;
use crate::snapshot::Snapshot;
use proptest::prelude::*;

fn check_explained(world: &World, snapshot: &mut Snapshot, candidate: &Candidate) -> BTreeMap<String, i64> {
    let pod = &*candidate.pod;
    let explained = explain(snapshot, candidate);
    let names: Vec<&String> = explained.nodes.iter().map(|node| &node.node).collect();
    assert_eq!(names, world.nodes.keys().collect::<Vec<_>>());
    let named = named(pod);
    let mut fitting = Vec::new();
    for node in &explained.nodes {
        let got = match &node.verdict {
            Verdict::Fits { .. } => None,
            Verdict::Refused(refusal) => Some((refusal.plugin, refusal.reasons.clone(), refusal.unresolvable)),
        };
        let text = "node(s) didn't satisfy plugin(s) [NodeAffinity]".to_string();
        let expected = match &named {
            Some(names) if names.is_empty() => {
                Some((Plugin::NodeAffinity, vec!["pod affinity terms conflict".into()], true))
            }
            Some(names) if !names.contains(&node.node) => Some((Plugin::NodeAffinity, vec![text], true)),
            _ => filter(world, pod, &node.node),
        };
        assert_eq!(got, expected, "{}", node.node);
        if expected.is_none() {
            fitting.push(node.node.clone());
        }
    }
    let expected = scores(world, pod, candidate.kin.as_deref(), &fitting);
    let mut totals = BTreeMap::new();
    let verdicts = explained.nodes.iter().filter_map(|node| match &node.verdict {
        Verdict::Fits { scores, total } => Some((node.node.clone(), scores, *total)),
        Verdict::Refused(_) => None,
    });
    for ((name, scores, total), expected) in verdicts.zip(expected) {
        let sum: i64 = scores.iter().map(|one| one.score * one.weight).sum();
        assert_eq!(total, sum);
        totals.insert(name.clone(), total);
        // A rule that gives nothing may as well not apply.
        let got: BTreeMap<Plugin, i64> = scores
            .iter()
            .map(|one| (one.plugin, one.score))
            .filter(|one| one.1 != 0)
            .collect();
        let expected: BTreeMap<Plugin, i64> = expected.into_iter().filter(|one| one.1 != 0).collect();
        assert_eq!(got, expected, "{name}");
    }
    totals
}

fn check_decided(world: &World, snapshot: &mut Snapshot, candidate: &Candidate, seed: u64) {
    let totals = check_explained(world, snapshot, candidate);
    let pod = &*candidate.pod;
    match schedule(snapshot, candidate, seed) {
        Ok(placement) => {
            let best = totals.values().max();
            assert_eq!(totals.get(&placement.node), best);
        }
        Err(_) if world.nodes.is_empty() => {}
        Err(why) => {
            assert!(totals.is_empty(), "{why}");
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let mut plugins = BTreeSet::new();
            let named = named(pod);
            for name in world.nodes.keys() {
                let absent = named.as_ref().is_some_and(|names| !names.contains(name));
                let text = || "node(s) didn't satisfy plugin(s) [NodeAffinity]".to_string();
                let (plugin, reasons, _) = match absent {
                    true => (Plugin::NodeAffinity, vec![text()], true),
                    false => filter(world, pod, name).expect("refused"),
                };
                plugins.insert(plugin);
                reasons
                    .into_iter()
                    .for_each(|reason| *counts.entry(reason).or_default() += 1);
            }
            let mut parts: Vec<String> = counts
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            parts.sort();
            let expected = match named {
                Some(names) if names.is_empty() => "pod affinity terms conflict".to_string(),
                _ => parts.join(", "),
            };
            assert_eq!(
                why.to_string(),
                format!("0/{} nodes are available: {expected}.", world.nodes.len())
            );
            assert!(plugins.is_subset(&why.plugins), "{plugins:?} {:?}", why.plugins);
            check_room(world, candidate, preempt(snapshot, candidate, &why, &[]).ok());
        }
    }
}

/// Victims by removing pods from the lists and asking the slow filter.
fn room_on(world: &World, pod: &Pod, name: &str) -> Option<Vec<Pod>> {
    let named = named(pod);
    if named.is_some_and(|names| !names.contains(name)) || filter(world, pod, name)?.2 {
        return None;
    }
    let started = |pod: &Pod| {
        let time = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        time.map_or(i64::MAX, |time| time.0.as_second())
    };
    let importance = |pod: &Pod| (-i64::from(priority(pod)), started(pod), key_of(pod));
    let mut lower: Vec<Pod> = world
        .pods_on(name)
        .filter(|other| priority(other) < priority(pod))
        .cloned()
        .collect();
    lower.sort_by_key(importance);
    let mut left = world.clone();
    for other in &lower {
        left.pods.remove(&key_of(other));
    }
    if lower.is_empty() || filter(&left, pod, name).is_some() {
        return None;
    }
    let mut victims = Vec::new();
    for other in lower {
        let mut with = left.clone();
        with.place(name, other.clone());
        match filter(&with, pod, name) {
            None => left = with,
            Some(_) => victims.push(other),
        }
    }
    Some(victims)
}

fn rank(victims: &[Pod]) -> (i32, i64, usize, std::cmp::Reverse<i64>) {
    let highest = victims.iter().map(priority).max().unwrap_or(0);
    let sum = victims.iter().map(|pod| i64::from(priority(pod)) + (1 << 31)).sum();
    let started = |pod: &Pod| {
        let time = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        time.map_or(i64::MAX, |time| time.0.as_second())
    };
    let highest_ones = victims.iter().filter(|pod| priority(pod) == highest);
    let earliest = highest_ones.map(started).min().unwrap_or(i64::MAX);
    (highest, sum, victims.len(), std::cmp::Reverse(earliest))
}

fn check_room(world: &World, candidate: &Candidate, got: Option<Preemption>) {
    let rooms = world
        .nodes
        .keys()
        .filter_map(|name| Some((name.clone(), room_on(world, &candidate.pod, name)?)));
    let rooms: BTreeMap<String, Vec<Pod>> = rooms.collect();
    let best = rooms.values().map(|victims| rank(victims)).min();
    let Some(got) = got else {
        assert_eq!(best, None);
        return;
    };
    let expected = rooms.get(&got.node).expect("room there");
    assert_eq!(Some(rank(expected)), best);
    let keys: Vec<PodKey> = expected.iter().map(key_of).collect();
    let victims: Vec<PodKey> = got.victims.iter().map(|victim| victim.key.clone()).collect();
    assert_eq!(victims, keys);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, what is decided is what the lists of objects say.
    #[test]
    fn decisions_are_those_of_the_oracle(numbers in prop::collection::vec(any::<u32>(), 1000..4000)) {
        let mut choices = Choices::new(&numbers);
        let (mut world, mut snapshot) = (World::default(), Snapshot::default());
        let mut seed = 0;
        while !choices.over() {
            random::step(&mut choices, &mut world, &mut snapshot);
            if choices.below(4) == 0 {
                seed += 1;
                let candidate = random::candidate(&mut choices);
                check_decided(&world, &mut snapshot, &candidate, seed);
                // What is remembered changes nothing.
                let fresh = explain(&mut world.snapshot(), &candidate);
                prop_assert_eq!(explain(&mut snapshot, &candidate), fresh);
            }
        }
    }
}
