//! How many pods a budget allows to be disrupted. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::slim::Pod;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::resolve;
use crate::key::{name, time};
use crate::pods::{is_ready, is_terminating};

/// An eviction that was allowed has this long to become a deletion.
const EVICTION_SECONDS: i64 = 120;
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the number of expected pods comes from their controllers' scale instead of from counting them.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(&spec.min_available, Some(IntOrString::String(_)))
    })
}

/// Evictions granted whose pods are still there and not yet going, and when the first of them is given up.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let listed = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let (mut kept, mut first) = (BTreeMap::new(), None);
    for (pod_name, since) in listed.into_iter().flatten() {
        let pod = pods.iter().find(|pod| name(&pod.metadata) == pod_name);
        let Ok(until) = since.0.checked_add(SignedDuration::from_secs(EVICTION_SECONDS)) else {
            continue;
        };
        if pod.is_some_and(|pod| !is_terminating(pod)) && until > now {
            kept.insert(pod_name.clone(), since.clone());
            first = Some(first.map_or(until, |first: Timestamp| first.min(until)));
        }
    }
    (kept, first)
}

pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    pub look_again: Option<Timestamp>,
}

/// `scale`: how many pods the controllers of `pods` want; the message where that cannot be found out.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: Result<i32, String>, now: Timestamp) -> Plan {
    let old = budget.status.clone().unwrap_or_default();
    let (kept, look_again) = disrupted(budget, pods, now);
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let healthy = count(&|pod| is_ready(pod) && !is_terminating(pod) && !kept.contains_key(name(&pod.metadata)));
    let spec = budget.spec.clone().unwrap_or_default();
    let failure = scale.as_ref().err().cloned();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available, scale) {
        (_, _, Err(_)) => (old.expected_pods.unwrap_or(0), old.desired_healthy.unwrap_or(0)),
        (Some(limit), _, Ok(scale)) => (scale, (scale - resolve(Some(limit), scale, true)).max(0)),
        (None, Some(IntOrString::Int(wanted)), _) => (count(&|_| true), *wanted),
        (None, wanted, Ok(scale)) => (scale, resolve(wanted.as_ref(), scale, true)),
    };
    let allowed = if expected <= 0 || failure.is_some() {
        0
    } else {
        (healthy - desired).max(0)
    };
    let (reason, message) = match failure {
        Some(message) => ("SyncFailed", message),
        None if allowed > 0 => ("SufficientPods", String::new()),
        None => ("InsufficientPods", String::new()),
    };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!kept.is_empty()).then_some(kept),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions,
    };
    let value = if allowed > 0 { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions
        .iter()
        .find(|known| known.type_ == ALLOWED && known.status == value);
    let since = known.map_or(time(now), |known| known.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_string(),
        status: value.to_string(),
        reason: reason.to_string(),
        message,
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    };
    match conditions.iter_mut().find(|known| known.type_ == ALLOWED) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    Plan { status, look_again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod};

    fn budget(spec: serde_json::Value) -> PodDisruptionBudget {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "b"}, "spec": spec})).expect("a budget")
    }

    #[test]
    fn allowances() {
        let pods: Vec<Arc<Pod>> = (0..5)
            .map(|n| Arc::new(pod(&format!("p{n}"), "Running", Some("n"), (n < 4).then_some(1))))
            .collect();
        for (spec, scale, expected, desired, allowed) in [
            (serde_json::json!({"minAvailable": 3}), 0, 5, 3, 1),
            (serde_json::json!({"minAvailable": "50%"}), 5, 5, 3, 1),
            (serde_json::json!({"maxUnavailable": 2}), 5, 5, 3, 1),
            (serde_json::json!({"maxUnavailable": "30%"}), 5, 5, 3, 1),
            (serde_json::json!({"maxUnavailable": 1}), 5, 5, 4, 0),
            (serde_json::json!({"maxUnavailable": 9}), 0, 0, 0, 0),
        ] {
            let status = plan(&budget(spec.clone()), &pods, Ok(scale), at(9)).status;
            assert_eq!(
                (
                    status.expected_pods,
                    status.desired_healthy,
                    status.disruptions_allowed,
                    status.current_healthy
                ),
                (Some(expected), Some(desired), Some(allowed), Some(4)),
                "{spec}"
            );
        }
        let unknown = plan(
            &budget(serde_json::json!({"maxUnavailable": 1})),
            &pods,
            Err("no scale".into()),
            at(9),
        );
        let condition = &unknown.status.conditions.expect("conditions")[0];
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("SyncFailed", "no scale")
        );
    }

    #[test]
    fn a_granted_eviction_counts_until_it_shows_or_lapses() {
        let pods = [
            Arc::new(pod("a", "Running", Some("n"), Some(1))),
            Arc::new(pod("b", "Running", Some("n"), Some(1))),
        ];
        let mut budget = budget(serde_json::json!({"minAvailable": 1}));
        budget.status = Some(PodDisruptionBudgetStatus {
            disrupted_pods: Some([("a".to_string(), Time(at(100))), ("gone".to_string(), Time(at(100)))].into()),
            ..Default::default()
        });
        let fresh = plan(&budget, &pods, Ok(0), at(110));
        assert_eq!(
            (fresh.status.current_healthy, fresh.status.disruptions_allowed),
            (Some(1), Some(0))
        );
        assert_eq!(fresh.look_again, Some(at(220)));
        assert_eq!(fresh.status.disrupted_pods.map(|pods| pods.len()), Some(1));
        let lapsed = plan(&budget, &pods, Ok(0), at(220));
        assert_eq!(
            (lapsed.status.current_healthy, lapsed.status.disrupted_pods),
            (Some(2), None)
        );
    }
}
