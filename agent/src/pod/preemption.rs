//! Who has to go so that a critical pod fits that the node has no room for: as few pods as
//! can be, and of those that were promised least. As kubelet chooses. Pure.

use super::resources::{Qos, qos, sums::Sums};
use super::spec;
use crate::eviction::is_critical;
use crate::resize::ledger::in_unit;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Ordering;
use std::sync::Arc;

pub const REASON: &str = "Preempting";
pub const MESSAGE: &str = "Preempted in order to admit critical pod";
/// What the condition of a pod that has to go says.
pub const CONDITION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// A pod that runs here, and what it was granted.
#[derive(Debug, Clone)]
pub struct Runner {
    pub pod: Arc<Pod>,
    pub granted: Sums,
}

impl Runner {
    fn holds(&self, resource: &str) -> i128 {
        match resource {
            "pods" => 1_000,
            _ => self.granted.get(resource).copied().unwrap_or(0),
        }
    }
}

fn gives_way(to: &Pod, pod: &Pod) -> bool {
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.priority);
    let higher = priority(to).zip(priority(pod)).is_some_and(|(to, pod)| to > pod);
    higher || (is_critical(to) && !is_critical(pod))
}

/// What is missing still when these have gone.
fn without<'a>(missing: &Sums, gone: impl IntoIterator<Item = &'a Runner>) -> Sums {
    let mut missing = missing.clone();
    for runner in gone {
        for (resource, amount) in &mut missing {
            *amount -= runner.holds(resource);
        }
    }
    missing.retain(|_, amount| *amount > 0);
    missing
}

/// How far this one alone is from giving what is missing; each resource weighs the same.
#[allow(clippy::cast_precision_loss)]
fn distance(missing: &Sums, runner: &Runner) -> f64 {
    let each = missing.iter().map(|(resource, amount)| {
        let left = (amount - runner.holds(resource)).max(0);
        (left as f64 / *amount as f64).powi(2)
    });
    each.sum()
}

fn better(missing: &Sums, one: &Runner, other: &Runner) -> Ordering {
    let by_distance = distance(missing, one).total_cmp(&distance(missing, other));
    let size = |runner: &Runner| (runner.holds("memory"), runner.holds("cpu"));
    by_distance.then_with(|| size(one).cmp(&size(other)))
}

fn told(missing: &Sums) -> String {
    let each = missing
        .iter()
        .map(|(resource, amount)| format!("(res: {resource}, q: {}), ", in_unit(resource, *amount)));
    format!(
        "no set of running pods found to reclaim resources: [{}]",
        each.collect::<String>()
    )
}

/// Those of `runners` that are to end for `critical`. `missing`: more than zero of each.
/// The error says what would be missing still.
pub fn victims(critical: &Pod, runners: Vec<Runner>, missing: &Sums) -> Result<Vec<Arc<Pod>>, String> {
    let mut by_class = [Vec::new(), Vec::new(), Vec::new()];
    for runner in runners.into_iter().filter(|r| gives_way(critical, &r.pod)) {
        let class = match runner.pod.spec.as_ref().map(qos) {
            Some(Qos::BestEffort) => 0,
            Some(Qos::Burstable) => 1,
            _ => 2,
        };
        by_class[class].push(runner);
    }
    let left = without(missing, by_class.iter().flatten());
    if !left.is_empty() {
        return Err(told(&left));
    }
    // From above: what all classes below could give is not asked of a higher one.
    let mut chosen: Vec<Runner> = Vec::new();
    for class in (0..by_class.len()).rev() {
        let (lower, this) = by_class.split_at_mut(class);
        let candidates = &mut this[0];
        loop {
            let left = without(missing, lower.iter().flatten().chain(&chosen));
            let order = |a: &usize, b: &usize| better(&left, &candidates[*a], &candidates[*b]);
            let best = (0..candidates.len()).min_by(order);
            let Some(best) = best.filter(|_| !left.is_empty()) else {
                break;
            };
            chosen.push(candidates.swap_remove(best));
        }
    }
    chosen.reverse();
    Ok(chosen.into_iter().map(|runner| runner.pod).collect())
}

/// Whether a pod may have others end for it.
pub fn may(pod: &Pod) -> bool {
    is_critical(pod) && pod.metadata.deletion_timestamp.is_none() && !spec::phase_is_final(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::sums;
    use serde_json::json;

    fn runner(name: &str, priority: i32, resources: &serde_json::Value) -> Runner {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": resources}]},
        }))
        .expect("valid");
        Runner {
            granted: sums::requests(pod.spec.as_ref().expect("given")),
            pod: Arc::new(pod),
        }
    }

    fn burstable(name: &str, cpu: &str) -> Runner {
        runner(name, 0, &json!({"requests": {"cpu": cpu}}))
    }

    fn guaranteed(name: &str, cpu: &str) -> Runner {
        runner(name, 0, &json!({"limits": {"cpu": cpu, "memory": "1Mi"}}))
    }

    fn best_effort(name: &str) -> Runner {
        runner(name, 0, &json!({}))
    }

    fn chosen(runners: Vec<Runner>, missing: &[(&str, i128)]) -> Result<Vec<String>, String> {
        let critical = runner("critical", 2_000_000_000, &json!({}));
        let missing = missing.iter().map(|(r, milli)| ((*r).to_owned(), *milli)).collect();
        let names = |pods: Vec<Arc<Pod>>| pods.iter().map(|p| spec::uid(p).to_owned()).collect();
        victims(&critical.pod, runners, &missing).map(names)
    }

    #[test]
    fn as_few_as_can_be_and_the_least_promised() {
        let all = || {
            vec![
                best_effort("none"),
                guaranteed("whole", "1"),
                burstable("little", "100m"),
                burstable("half", "500m"),
                burstable("much", "2"),
            ]
        };
        let fits = |missing: &[(&str, i128)], expected: &[&str]| {
            let found = chosen(all(), missing);
            assert_eq!(
                found,
                Ok(expected.iter().map(|n| (*n).to_owned()).collect()),
                "{missing:?}"
            );
        };
        fits(&[("cpu", 100)], &["little"]);
        fits(&[("cpu", 300)], &["half"]);
        fits(&[("cpu", 700)], &["much"]);
        fits(&[("pods", 1_000)], &["none"]);
        fits(&[("cpu", 3_000)], &["much", "whole"]);
        fits(&[("cpu", 2_100), ("pods", 1_000)], &["little", "much"]);
        assert_eq!(
            chosen(all(), &[("cpu", 4_000), ("memory", 1_000)]),
            Err("no set of running pods found to reclaim resources: [(res: cpu, q: 400), ]".into())
        );
    }

    #[test]
    fn who_is_as_important_stays() {
        let equal = runner("equal", 2_000_000_000, &json!({"requests": {"cpu": "1"}}));
        let lower = runner("lower", 1_999_999_999, &json!({"requests": {"cpu": "1"}}));
        assert_eq!(
            chosen(vec![equal.clone(), lower], &[("cpu", 1_000)]),
            Ok(vec!["lower".into()])
        );
        assert!(chosen(vec![equal], &[("cpu", 1_000)]).is_err());
    }
}
