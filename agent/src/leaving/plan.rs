//! In which order pods end when their machine goes down, and how long each may take. Pure.

use crate::pod::spec;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// From this priority on a pod is one that others lean on.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// How long pods may take, as kubelet's settings of these names say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grace {
    /// All pods together. None: a machine that goes down takes its pods along as they are.
    pub all: Duration,
    /// The part of it that is kept for critical pods.
    pub critical: Duration,
}

/// Pods that end together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub within: Duration,
    /// Each with its own grace period, in seconds.
    pub pods: Vec<(Arc<Pod>, i64)>,
}

/// Critical pods end after all others; a group without pods takes no time.
pub fn groups(pods: impl IntoIterator<Item = Arc<Pod>>, grace: Grace) -> Vec<Group> {
    let priority = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let (critical, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| priority(pod) >= CRITICAL_PRIORITY);
    let periods = [
        (others, grace.all.saturating_sub(grace.critical)),
        (critical, grace.critical.min(grace.all)),
    ];
    let group = |(pods, within): (Vec<Arc<Pod>>, Duration)| Group {
        pods: pods
            .into_iter()
            .map(|pod| {
                let most = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
                let grace_s = spec::grace_s(&pod).min(most);
                (pod, grace_s)
            })
            .collect(),
        within,
    };
    periods
        .into_iter()
        .filter(|(pods, _)| !pods.is_empty())
        .map(group)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn critical_pods_end_last_and_none_takes_longer_than_its_group() {
        let pod = |name: &str, priority: i32, grace: i64| -> Arc<Pod> {
            let spec = json!({"priority": priority, "terminationGracePeriodSeconds": grace, "containers": []});
            let pod = json!({"metadata": {"name": name}, "spec": spec});
            Arc::new(serde_json::from_value(pod).expect("valid"))
        };
        let all = || {
            vec![
                pod("dns", 2_000_001_000, 60),
                pod("web", 0, 5),
                pod("slow", 1_999_999_999, 600),
            ]
        };
        let told = |all: u64, critical: u64, pods: Vec<Arc<Pod>>| -> Vec<(u64, Vec<(String, i64)>)> {
            let (all, critical) = (Duration::from_secs(all), Duration::from_secs(critical));
            let name = |(pod, grace_s): &(Arc<Pod>, i64)| (spec::key(pod).1, *grace_s);
            groups(pods, Grace { all, critical })
                .iter()
                .map(|g| (g.within.as_secs(), g.pods.iter().map(name).collect()))
                .collect()
        };
        let (web, slow, dns) = (("web".to_owned(), 5), "slow".to_owned(), "dns".to_owned());
        assert_eq!(
            told(30, 10, all()),
            [
                (20, vec![web.clone(), (slow.clone(), 20)]),
                (10, vec![(dns.clone(), 10)])
            ]
        );
        assert_eq!(
            told(30, 0, all()),
            [(30, vec![web, (slow, 30)]), (0, vec![(dns.clone(), 0)])]
        );
        assert_eq!(told(30, 10, vec![all().swap_remove(0)]), [(10, vec![(dns, 10)])]);
        assert_eq!(told(30, 10, Vec::new()), []);
    }
}
