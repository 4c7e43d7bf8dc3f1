//! Scores, recounted.

use super::*;
use crate::plugin::Plugin;
use k8s_openapi::api::core::v1::WeightedPodAffinityTerm;

const MIB: i64 = 1024 * 1024;

/// What each plugin gives each of the nodes that fit, by node; only plugins that the pod is subject to.
pub fn scores(world: &World, pod: &Pod, kin: Option<&LabelSelector>, fitting: &[String]) -> Vec<Vec<(Plugin, i64)>> {
    let mut all = vec![
        (Plugin::TaintToleration, taint_scores(world, pod, fitting)),
        (
            Plugin::NodeResourcesFit,
            fitting.iter().map(|name| least_allocated(world, pod, name)).collect(),
        ),
        (
            Plugin::ImageLocality,
            fitting.iter().map(|name| image(world, pod, name)).collect(),
        ),
    ];
    let preferred = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred = preferred.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.clone());
    if let Some(preferred) = preferred {
        let sum = |name: &String| {
            let terms = preferred.iter();
            let matching = terms.filter(|term| term_matches(&term.preference, &world.nodes[name]));
            matching.map(|term| i64::from(term.weight)).sum::<i64>()
        };
        let raw: Vec<i64> = fitting.iter().map(sum).collect();
        let most = raw.iter().copied().max().unwrap_or(0).max(1);
        let shares = raw.iter().map(|one| one * 100 / most).collect();
        all.push((Plugin::NodeAffinity, shares));
    }
    if asks(pod, "cpu") + asks(pod, "memory") > 0 {
        all.push((
            Plugin::NodeResourcesBalancedAllocation,
            fitting.iter().map(|name| balanced(world, pod, name)).collect(),
        ));
    }
    if let Some(spread) = spread_scores(world, pod, kin, fitting) {
        all.push((Plugin::PodTopologySpread, spread));
    }
    if let Some(between) = between_scores(world, pod, fitting) {
        all.push((Plugin::InterPodAffinity, between));
    }
    let of = |at: usize| all.iter().map(|(plugin, list)| (*plugin, list[at])).collect();
    (0..fitting.len()).map(of).collect()
}

fn taint_scores(world: &World, pod: &Pod, fitting: &[String]) -> Vec<i64> {
    let count = |name: &String| {
        let all = taints(&world.nodes[name]).into_iter();
        all.filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(pod, taint))
            .count() as i64
    };
    let raw: Vec<i64> = fitting.iter().map(count).collect();
    let most = raw.iter().copied().max().unwrap_or(0).max(1);
    raw.iter().map(|one| 100 - one * 100 / most).collect()
}

/// What is not named counts as a little.
fn floored(pod: &Pod, name: &str, floor: i64) -> i64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let each = containers.map(|container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        match requests.filter(|requests| requests.contains_key(name)) {
            Some(requests) => amount(requests, name),
            None => floor,
        }
    });
    each.sum()
}

fn least_allocated(world: &World, pod: &Pod, name: &str) -> i64 {
    let (mut sum, mut count) = (0, 0);
    for (resource, floor) in [("cpu", 100), ("memory", 200 * MIB)] {
        let have = has(&world.nodes[name], resource);
        let here: i64 = world.pods_on(name).map(|other| floored(other, resource, floor)).sum();
        let taken = here + floored(pod, resource, floor);
        if have > 0 {
            sum += if taken > have { 0 } else { (have - taken) * 100 / have };
            count += 1;
        }
    }
    if count == 0 { 0 } else { sum / count }
}

fn balanced(world: &World, pod: &Pod, name: &str) -> i64 {
    let mut fractions = Vec::new();
    for resource in ["cpu", "memory"] {
        let have = has(&world.nodes[name], resource);
        let here: i64 = world.pods_on(name).map(|other| asks(other, resource)).sum();
        if have > 0 {
            fractions.push(((here + asks(pod, resource)) as f64 / have as f64).min(1.0));
        }
    }
    match fractions.as_slice() {
        [cpu, memory] => ((1.0 - ((cpu - memory) / 2.0).abs()) * 100.0) as i64,
        _ => 100,
    }
}

fn image(world: &World, pod: &Pod, name: &str) -> i64 {
    let size_on = |node: &Node, image: &String| {
        let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
        let mut found = images.filter(|one| one.names.iter().flatten().any(|name| name == image));
        found.next().and_then(|image| image.size_bytes)
    };
    let images: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .filter_map(|one| one.image.clone())
        .collect();
    let mut sum = 0;
    for image in &images {
        let nodes = world
            .nodes
            .values()
            .filter(|node| size_on(node, image).is_some())
            .count();
        if let Some(bytes) = size_on(&world.nodes[name], image) {
            sum += (bytes as f64 * (nodes as f64 / world.nodes.len() as f64)) as i64;
        }
    }
    let most = 1000 * MIB * images.len().max(1) as i64;
    100 * (sum.clamp(23 * MIB, most) - 23 * MIB) / (most - 23 * MIB)
}

fn spread_scores(world: &World, pod: &Pod, kin: Option<&LabelSelector>, fitting: &[String]) -> Option<Vec<i64>> {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.topology_spread_constraints.as_ref());
    let defaulted = own.is_none_or(Vec::is_empty);
    let all = if defaulted {
        let kin = kin?;
        let one = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.into(),
            max_skew,
            label_selector: Some(kin.clone()),
            ..TopologySpreadConstraint::default()
        };
        vec![one("kubernetes.io/hostname", 3), one("topology.kubernetes.io/zone", 5)]
    } else {
        constraints(pod, "ScheduleAnyway")
    };
    if all.is_empty() {
        return None;
    }
    let usable = |node: &Node| defaulted || all.iter().all(|one| node_label(node, &one.topology_key).is_some());
    let nodes: Vec<&Node> = fitting.iter().map(|name| &world.nodes[name]).collect();
    let count = |constraint: &TopologySpreadConstraint, name: &String| {
        world
            .pods_on(name)
            .filter(|other| counted(constraint, pod, other))
            .count() as f64
    };
    let raw = |node: &Node| {
        let mut sum = 0.0;
        for constraint in &all {
            let Some(value) = node_label(node, &constraint.topology_key) else {
                continue;
            };
            let compared = nodes.iter().filter(|node| usable(node));
            let (pods, domains) = if constraint.topology_key == "kubernetes.io/hostname" {
                (
                    count(constraint, node.metadata.name.as_ref().expect("a name")),
                    compared.count(),
                )
            } else {
                let values: BTreeSet<_> = compared
                    .map(|node| node_label(node, &constraint.topology_key))
                    .collect();
                let same = world.nodes.iter().filter(|(_, other)| {
                    node_label(other, &constraint.topology_key) == Some(value)
                        && usable(other)
                        && included(constraint, pod, other)
                });
                (same.map(|(name, _)| count(constraint, name)).sum(), values.len())
            };
            sum += pods * ((domains + 2) as f64).ln() + f64::from(constraint.max_skew - 1);
        }
        sum.round() as i64
    };
    let raw: Vec<Option<i64>> = nodes.iter().map(|node| usable(node).then(|| raw(node))).collect();
    let least = raw.iter().flatten().copied().min().unwrap_or(0);
    let most = raw.iter().flatten().copied().max().unwrap_or(0);
    let score = |one: &Option<i64>| match one {
        None => 0,
        Some(_) if most == 0 => 100,
        Some(one) => 100 * (most + least - one) / most,
    };
    Some(raw.iter().map(score).collect())
}

fn preferences(pod: &Pod) -> Vec<(i64, PodAffinityTerm)> {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.clone())
        .unwrap_or_default();
    let towards = affinity
        .pod_affinity
        .and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution);
    let away = affinity
        .pod_anti_affinity
        .and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution);
    let signed = |terms: Option<Vec<WeightedPodAffinityTerm>>, sign: i64| {
        let terms = terms.unwrap_or_default().into_iter();
        terms.map(move |term| (sign * i64::from(term.weight), term.pod_affinity_term))
    };
    signed(towards, 1).chain(signed(away, -1)).collect()
}

fn between_scores(world: &World, pod: &Pod, fitting: &[String]) -> Option<Vec<i64>> {
    let mut pairs: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut any = !preferences(pod).is_empty();
    let mut add = |term: &PodAffinityTerm, node: &Node, weight: i64| {
        if let Some(value) = node_label(node, &term.topology_key) {
            *pairs.entry((term.topology_key.clone(), value.clone())).or_default() += weight;
        }
    };
    for (other, there) in world.placed() {
        for (weight, term) in preferences(pod) {
            if term_about(world, &namespace(pod), &term, other) {
                add(&term, there, weight);
            }
        }
        let hard = required(other, false).into_iter().map(|term| (1, term));
        for (weight, term) in preferences(other).into_iter().chain(hard) {
            if term_about(world, &namespace(other), &term, pod) {
                any = true;
                add(&term, there, weight);
            }
        }
    }
    let keys: BTreeSet<String> = pairs.keys().map(|(key, _)| key.clone()).collect();
    let raw = |name: &String| {
        let value = |key: &String| node_label(&world.nodes[name], key).cloned();
        let sums = keys.iter().filter_map(|key| pairs.get(&(key.clone(), value(key)?)));
        sums.sum::<i64>()
    };
    let raw: Vec<i64> = fitting.iter().map(raw).collect();
    let (least, most) = (raw.iter().copied().min()?, raw.iter().copied().max()?);
    let score = |one: &i64| match most - least {
        0 => 0,
        range => (100.0 * ((one - least) as f64 / range as f64)) as i64,
    };
    any.then(|| raw.iter().map(score).collect())
}
