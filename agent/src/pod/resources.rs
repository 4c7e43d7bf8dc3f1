//! Quantities, QoS classes and what they mean to the kernel. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;

/// The value in thousandths, rounded up; `None` when it is no quantity.
pub fn milli(quantity: &str) -> Option<i128> {
    let digits = quantity
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits);
    let (scale_up, scale_down): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    };
    let negative = number.starts_with('-');
    let unsigned = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Nine places are Kubernetes' precision.
    let fraction = &fraction[..fraction.len().min(9)];
    let places = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let numerator = whole
        .checked_mul(places)?
        .checked_add(part)?
        .checked_mul(scale_up)?
        .checked_mul(1_000)?;
    let divisor = places * scale_down;
    let value = numerator / divisor + i128::from(numerator % divisor != 0);
    Some(if negative { -value } else { value })
}

fn get(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    milli(&map?.get(name)?.0).and_then(|m| i64::try_from(m).ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    pub cpu_request_milli: Option<i64>,
    pub cpu_limit_milli: Option<i64>,
    pub memory_request_bytes: Option<i64>,
    pub memory_limit_bytes: Option<i64>,
}

pub fn amounts(resources: Option<&ResourceRequirements>) -> Amounts {
    let Some(resources) = resources else {
        return Amounts::default();
    };
    let bytes = |m: i64| m / 1_000;
    let mut found = Amounts {
        cpu_request_milli: get(resources.requests.as_ref(), "cpu"),
        cpu_limit_milli: get(resources.limits.as_ref(), "cpu"),
        memory_request_bytes: get(resources.requests.as_ref(), "memory").map(bytes),
        memory_limit_bytes: get(resources.limits.as_ref(), "memory").map(bytes),
    };
    // A limit without a request is also the request.
    found.cpu_request_milli = found.cpu_request_milli.or(found.cpu_limit_milli);
    found.memory_request_bytes = found.memory_request_bytes.or(found.memory_limit_bytes);
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

pub fn qos(spec: &PodSpec) -> Qos {
    let all = || spec.containers.iter().chain(super::spec::init_containers(spec));
    let of = |c: &Container| amounts(c.resources.as_ref());
    let pod_level = amounts(spec.resources.as_ref());
    let positive = |v: Option<i64>| v.is_some_and(|v| v > 0);
    let any = |a: Amounts| {
        positive(a.cpu_request_milli)
            || positive(a.cpu_limit_milli)
            || positive(a.memory_request_bytes)
            || positive(a.memory_limit_bytes)
    };
    let full = |a: Amounts| {
        positive(a.cpu_limit_milli)
            && positive(a.memory_limit_bytes)
            && a.cpu_request_milli == a.cpu_limit_milli
            && a.memory_request_bytes == a.memory_limit_bytes
    };
    if any(pod_level) {
        return if full(pod_level) {
            Qos::Guaranteed
        } else {
            Qos::Burstable
        };
    }
    if !all().any(|c| any(of(c))) {
        Qos::BestEffort
    } else if all().all(|c| full(of(c))) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// The pod's cgroup below the hierarchy's root, e.g. `/kubepods/burstable/pod<uid>`.
pub fn cgroup_path(root: &str, qos: Qos, uid: &str) -> String {
    match qos {
        Qos::Guaranteed => format!("/{root}/pod{uid}"),
        Qos::Burstable => format!("/{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("/{root}/besteffort/pod{uid}"),
    }
}

const CPU_PERIOD_US: i64 = 100_000;

pub fn cpu_shares(milli: i64) -> i64 {
    (milli * 1_024 / 1_000).clamp(2, 262_144)
}

pub fn cpu_quota_us(milli: i64) -> i64 {
    // Below 1 ms the kernel refuses.
    (milli * CPU_PERIOD_US / 1_000).max(1_000)
}

pub fn oom_score_adj(qos: Qos, memory_request_bytes: i64, capacity_bytes: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1_000,
        Qos::Burstable if capacity_bytes > 0 => {
            let share = 1_000 - 1_000 * memory_request_bytes / capacity_bytes;
            share.clamp(3, 999)
        }
        Qos::Burstable => 999,
    }
}

pub fn linux(container: &Container, qos: Qos, capacity_bytes: i64) -> cri::LinuxContainerResources {
    let found = amounts(container.resources.as_ref());
    cri::LinuxContainerResources {
        cpu_period: if found.cpu_limit_milli.is_some() {
            CPU_PERIOD_US
        } else {
            0
        },
        cpu_quota: found.cpu_limit_milli.filter(|m| *m > 0).map_or(0, cpu_quota_us),
        cpu_shares: cpu_shares(found.cpu_request_milli.unwrap_or(0)),
        memory_limit_in_bytes: found.memory_limit_bytes.unwrap_or(0),
        oom_score_adj: oom_score_adj(qos, found.memory_request_bytes.unwrap_or(0), capacity_bytes),
        ..Default::default()
    }
}

/// What the pod's own cgroup is set to: the sums, a limit only when all have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota_us: Option<i64>,
    pub memory_bytes: Option<i64>,
}

pub fn pod_limits(spec: &PodSpec) -> PodLimits {
    let pod_level = amounts(spec.resources.as_ref());
    let apps: Vec<Amounts> = spec.containers.iter().map(|c| amounts(c.resources.as_ref())).collect();
    let init: Vec<Amounts> = super::spec::init_containers(spec)
        .iter()
        .map(|c| amounts(c.resources.as_ref()))
        .collect();
    let total = |pick: fn(&Amounts) -> Option<i64>| -> Option<i64> {
        let sum: Option<i64> = apps.iter().map(pick).sum();
        let top: Option<i64> = init.iter().map(pick).try_fold(0, |a, b| Some(a.max(b?)));
        Some(sum?.max(top?)).filter(|v| *v > 0)
    };
    let requests: i64 = apps.iter().filter_map(|a| a.cpu_request_milli).sum();
    let init_request = init.iter().filter_map(|a| a.cpu_request_milli).max().unwrap_or(0);
    PodLimits {
        cpu_shares: cpu_shares(pod_level.cpu_request_milli.unwrap_or(requests.max(init_request))),
        cpu_quota_us: pod_level
            .cpu_limit_milli
            .or_else(|| total(|a| a.cpu_limit_milli))
            .map(cpu_quota_us),
        memory_bytes: pod_level.memory_limit_bytes.or_else(|| total(|a| a.memory_limit_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("2E", Some(2_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("-1", Some(-1_000)),
            ("", None),
            ("x", None),
            ("1x", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }

    fn spec(resources: &[serde_json::Value]) -> PodSpec {
        let containers: Vec<_> = resources
            .iter()
            .enumerate()
            .map(|(i, r)| json!({"name": format!("c{i}"), "resources": r}))
            .collect();
        serde_json::from_value(json!({ "containers": containers })).expect("valid")
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
            let spec = spec(&resources);
            assert_eq!(qos(&spec), class, "{resources:?}");
            let found = pod_limits(&spec);
            assert_eq!(
                (found.cpu_shares, found.cpu_quota_us, found.memory_bytes),
                limits,
                "{resources:?}"
            );
        }
    }
}
