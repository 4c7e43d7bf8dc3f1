//! What requests and limits are to the kernel: shares, quotas, bytes, who dies first.

use super::sums::{self, Sums};
use super::{Amounts, Qos, amounts, quantity};
use crate::pod::spec::{self, Role};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use skiff_proto::cri::v1 as cri;

/// The machine's side of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    pub memory_bytes: i64,
    /// Sizes of huge pages that this kernel has, in bytes.
    pub page_sizes: Vec<u64>,
    /// One hierarchy for all controllers.
    pub cgroup_v2: bool,
    /// The kernel counts swap by cgroup.
    pub counts_swap: bool,
}

const CPU_PERIOD_US: i64 = 100_000;
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
/// Below 1 ms per period the kernel refuses.
const QUOTA_MIN_US: i64 = 1_000;
/// A Burstable pod's processes live at least as long as a BestEffort one's.
const OOM_BEST_EFFORT: i64 = 1_000;
const OOM_GUARANTEED: i64 = -997;
/// From here on a pod is one that the node needs.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

pub fn cpu_shares(milli: i64) -> i64 {
    (milli * 1_024 / 1_000).clamp(SHARES_MIN, SHARES_MAX)
}

pub fn cpu_quota_us(milli: i64) -> i64 {
    (milli * CPU_PERIOD_US / 1_000).max(QUOTA_MIN_US)
}

/// Shares of cgroup v1 (2..262144) as weight of v2 (1..10000), as OCI runtimes now
/// convert them: 1024 shares, the default, are 100, the default of v2.
pub fn cpu_weight(shares: i64) -> i64 {
    if shares <= SHARES_MIN {
        return 1;
    }
    if shares >= SHARES_MAX {
        return 10_000;
    }
    let log = f64::from(i32::try_from(shares).unwrap_or(i32::MAX)).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // Between 1 and 10000, so no cut.
    #[allow(clippy::cast_possible_truncation)]
    let weight = 10_f64.powf(exponent).ceil() as i64;
    weight
}

/// The name that cgroups give to a size of huge pages: `2MB`, `1GB`.
pub fn page_size_name(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for next in ["KB", "MB", "GB"] {
        if value % 1_024 != 0 {
            break;
        }
        value /= 1_024;
        unit = next;
    }
    format!("{value}{unit}")
}

/// What each size of huge pages is limited to: what is not asked for, to nothing.
fn hugepages(limits: &Sums, host: &Host) -> Vec<(String, u64)> {
    let each = host.page_sizes.iter().map(|size| {
        let resource = format!(
            "hugepages-{}",
            quantity::binary(i64::try_from(*size).unwrap_or(i64::MAX))
        );
        let limit = limits.get(&resource).map_or(0, |milli| quantity::of_milli(*milli));
        (page_size_name(*size), u64::try_from(limit).unwrap_or(0))
    });
    each.collect()
}

/// What a pod asks for beyond its containers, split among them.
fn pod_share_bytes(spec: &PodSpec) -> i64 {
    let given = amounts(spec.resources.as_ref()).memory_request_bytes;
    let all = || spec.containers.iter().chain(sidecars(spec));
    let asked: i64 = all()
        .map(|c| amounts(c.resources.as_ref()).memory_request_bytes.unwrap_or(0))
        .sum();
    let count = i64::try_from(all().count().max(1)).unwrap_or(1);
    given.map_or(0, |given| (given - asked).max(0) / count)
}

fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec::init_containers(spec)
        .iter()
        .filter(|c| spec::role(c, true) == Role::Sidecar)
}

pub fn oom_score_adj(pod: &Pod, container: &Container, memory_bytes: i64) -> i64 {
    let Some(spec) = pod.spec.as_ref() else {
        return OOM_BEST_EFFORT;
    };
    if spec.priority.is_some_and(|p| p >= NODE_CRITICAL_PRIORITY) {
        return OOM_GUARANTEED;
    }
    match super::qos(spec) {
        Qos::Guaranteed => return OOM_GUARANTEED,
        Qos::BestEffort => return OOM_BEST_EFFORT,
        Qos::Burstable => {}
    }
    let share = pod_share_bytes(spec);
    let of = |c: &Container| {
        let asked = amounts(c.resources.as_ref()).memory_request_bytes.unwrap_or(0) + share;
        let part = i128::from(asked) * 1_000 / i128::from(memory_bytes.max(1));
        1_000 - i64::try_from(part).unwrap_or(1_000)
    };
    let mut score = of(container);
    // A sidecar goes no sooner than those that it serves.
    if sidecars(spec).any(|c| c.name == container.name) {
        score = spec
            .containers
            .iter()
            .map(of)
            .min()
            .map_or(score, |least| least.min(score));
    }
    score.clamp(OOM_BEST_EFFORT + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
}

/// What a container may use: its own limits, else the pod's.
fn effective(spec: &PodSpec, container: &Container) -> Amounts {
    let mut found = amounts(container.resources.as_ref());
    let pod = amounts(spec.resources.as_ref());
    found.cpu_limit_milli = found.cpu_limit_milli.filter(|v| *v > 0).or(pod.cpu_limit_milli);
    found.memory_limit_bytes = found.memory_limit_bytes.filter(|v| *v > 0).or(pod.memory_limit_bytes);
    found
}

/// A container's limits as the runtime sets them.
pub fn container(pod: &Pod, container: &Container, host: &Host) -> cri::LinuxContainerResources {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let found = effective(spec, container);
    let memory = found.memory_limit_bytes.unwrap_or(0);
    let mut unified = std::collections::HashMap::new();
    if host.cgroup_v2 {
        // A container ends as a whole when it has used its memory up.
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        if host.counts_swap {
            // Of a container without a memory limit too.
            unified.insert("memory.swap.max".to_owned(), "0".to_owned());
        }
    }
    let pages = hugepages(&sums::of_limits(container.resources.as_ref()), host);
    cri::LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: found.cpu_limit_milli.filter(|m| *m > 0).map_or(0, cpu_quota_us),
        // What is not asked for counts as the limit.
        cpu_shares: cpu_shares(found.cpu_request_milli.or(found.cpu_limit_milli).unwrap_or(0)),
        memory_limit_in_bytes: memory,
        // v1 counts memory and swap together: equal to the memory, no swap is left.
        memory_swap_limit_in_bytes: if host.counts_swap && !host.cgroup_v2 { memory } else { 0 },
        oom_score_adj: oom_score_adj(pod, container, host.memory_bytes),
        hugepage_limits: pages
            .into_iter()
            .map(|(page_size, limit)| cri::HugepageLimit { page_size, limit })
            .collect(),
        unified,
        ..Default::default()
    }
}

/// The memory that all of the pod together may use; `None` when something is unlimited.
pub fn memory_limit(spec: &PodSpec) -> Option<i64> {
    let limit = sums::limits(spec).get("memory").map(|milli| quantity::of_milli(*milli));
    limit.filter(|_| sums::bounded(spec, "memory"))
}

/// What the pod's own cgroup is set to: the sums, a limit only where all have one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota_us: Option<i64>,
    pub memory_bytes: Option<i64>,
    /// By the size's name in cgroups.
    pub hugepages: Vec<(String, u64)>,
    pub pids_max: Option<i64>,
}

pub fn pod_limits(spec: &PodSpec, host: &Host, pids_max: Option<i64>) -> PodLimits {
    let limits = sums::limits(spec);
    let milli = |sums: &Sums, name: &str| {
        sums.get(name)
            .map(|m| i64::try_from(*m).unwrap_or(i64::MAX / CPU_PERIOD_US))
    };
    PodLimits {
        cpu_shares: cpu_shares(milli(&sums::requests(spec), "cpu").unwrap_or(0)),
        cpu_quota_us: milli(&limits, "cpu")
            .filter(|_| sums::bounded(spec, "cpu"))
            .map(cpu_quota_us),
        memory_bytes: memory_limit(spec),
        hugepages: hugepages(&limits, host),
        pids_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("valid")
    }

    fn host(v2: bool) -> Host {
        Host {
            memory_bytes: 8 << 30,
            page_sizes: vec![2 << 20, 1 << 30],
            cgroup_v2: v2,
            counts_swap: true,
        }
    }

    #[test]
    fn shares_weights_and_quotas() {
        for (milli, shares, quota) in [
            (0, 2, 1_000),
            (1, 2, 1_000),
            (5, 5, 1_000),
            (250, 256, 25_000),
            (2_000, 2_048, 200_000),
        ] {
            assert_eq!((cpu_shares(milli), cpu_quota_us(milli)), (shares, quota), "{milli}m");
        }
        assert_eq!(cpu_shares(1_000_000), 262_144);
        for (shares, weight) in [(2, 1), (102, 17), (1_024, 100), (2_048, 174), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight, "{shares} shares");
        }
        assert_eq!(
            (page_size_name(2 << 20), page_size_name(1 << 30)),
            ("2MB".into(), "1GB".into())
        );
    }

    #[test]
    fn classes_and_limits() {
        let full = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
        let some = json!({"requests": {"cpu": "250m"}});
        for (resources, class, limits) in [
            (vec![json!({})], Qos::BestEffort, (2, None, None)),
            (vec![full.clone()], Qos::Guaranteed, (512, Some(50_000), Some(64 << 20))),
            (vec![full.clone(), some.clone()], Qos::Burstable, (768, None, None)),
            (vec![some], Qos::Burstable, (256, None, None)),
        ] {
            let list: Vec<Value> = resources
                .iter()
                .enumerate()
                .map(|(i, r)| json!({"name": format!("c{i}"), "resources": r}))
                .collect();
            let pod = pod(json!({ "containers": list }));
            let spec = pod.spec.as_ref().expect("given");
            assert_eq!(super::super::qos(spec), class, "{resources:?}");
            let found = pod_limits(spec, &host(false), None);
            let found = (found.cpu_shares, found.cpu_quota_us, found.memory_bytes);
            assert_eq!(found, limits, "{resources:?}");
        }
    }

    #[test]
    fn a_container_in_both_versions() {
        let pod = pod(json!({"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi", "hugepages-2Mi": "4Mi"}}}]}));
        let of = |v2| container(&pod, &pod.spec.as_ref().expect("given").containers[0], &host(v2));
        let one = of(false);
        assert_eq!((one.cpu_shares, one.cpu_quota, one.cpu_period), (102, 100_000, 100_000));
        assert_eq!(
            (one.memory_limit_in_bytes, one.memory_swap_limit_in_bytes),
            (2 << 30, 2 << 30)
        );
        assert_eq!(one.oom_score_adj, 875);
        let pages: Vec<(&str, u64)> = one
            .hugepage_limits
            .iter()
            .map(|p| (p.page_size.as_str(), p.limit))
            .collect();
        assert_eq!(pages, [("2MB", 4 << 20), ("1GB", 0)]);
        assert!(one.unified.is_empty());
        let two = of(true);
        assert_eq!(two.unified["memory.oom.group"], "1");
        assert_eq!(
            (two.unified["memory.swap.max"].as_str(), two.memory_swap_limit_in_bytes),
            ("0", 0)
        );
        let uncounted = Host {
            counts_swap: false,
            ..host(true)
        };
        let three = container(&pod, &pod.spec.as_ref().expect("given").containers[0], &uncounted);
        assert_eq!(
            three.unified.get("memory.swap.max"),
            None,
            "the kernel has no such file"
        );
    }

    #[test]
    fn limits_of_the_pod_bound_containers_that_have_none() {
        let pod = pod(
            json!({"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "100m"}}}],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}}),
        );
        let spec = pod.spec.as_ref().expect("given");
        let of = |at: usize| container(&pod, &spec.containers[at], &host(false));
        assert_eq!((of(0).cpu_quota, of(0).memory_limit_in_bytes), (200_000, 2 << 30));
        assert_eq!((of(1).cpu_quota, of(1).cpu_shares), (10_000, 102));
        // Half of the pod's request each: 512 MiB of 8 GiB.
        assert_eq!(of(0).oom_score_adj, 938);
        let whole = pod_limits(spec, &host(false), Some(100));
        assert_eq!((whole.cpu_shares, whole.cpu_quota_us), (1_024, Some(200_000)));
        assert_eq!((whole.memory_bytes, whole.pids_max), (Some(2 << 30), Some(100)));
    }

    #[test]
    fn who_dies_first() {
        let with = |spec: Value, name: &str| {
            let pod = pod(spec);
            let all = pod.spec.clone().expect("given");
            let found = spec::find(&all, name).expect("named").0.clone();
            oom_score_adj(&pod, &found, 8 << 30)
        };
        let memory = |text: &str| json!({"requests": {"memory": text}});
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(with(json!({"containers": [{"name": "a"}]}), "a"), 1_000);
        assert_eq!(
            with(json!({"containers": [{"name": "a", "resources": full}]}), "a"),
            -997
        );
        assert_eq!(
            with(json!({"priority": 2_000_001_000, "containers": [{"name": "a"}]}), "a"),
            -997
        );
        assert_eq!(
            with(json!({"containers": [{"name": "a", "resources": memory("1Ki")}]}), "a"),
            999
        );
        assert_eq!(
            with(json!({"containers": [{"name": "a", "resources": memory("1Ti")}]}), "a"),
            3
        );
        let beside = json!({"containers": [{"name": "a", "resources": memory("4Gi")}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": memory("1Mi")}]});
        assert_eq!(with(beside, "s"), 500);
    }
}
