//! How many replicas one metric asks for. Pure.
//! Algorithm: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>.

use super::quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::{BTreeMap, BTreeSet};

/// A pod's CPU right after its start says nothing about its load.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(300);
/// A pod that became unready this soon after its start has not been ready yet.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// By how much the ratio of current to wanted may be off before anything is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Tolerance {
    pub const DEFAULT: f64 = 0.1;

    fn bears(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What a pod was measured with, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: SignedDuration,
}

/// By the pod's name.
pub type Samples = BTreeMap<String, Sample>;

/// What a resource metric is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    pub resource: &'a str,
    /// One container, or the whole pod.
    pub container: Option<&'a str>,
}

/// What the calculation knows of the target.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub replicas: i32,
    pub pods: &'a [Pod],
    pub tolerance: Tolerance,
    pub now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn group(pods: &[Pod], samples: &Samples, cpu: bool, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let name = name(pod).to_owned();
        if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
            groups.ignored.insert(name);
        } else if phase == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(&name) {
            if cpu && counts_as_unready(pod, sample, now) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

fn counts_as_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let started = status.and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    let (Some(started), Some(ready)) = (started, ready) else {
        return true;
    };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |t| t.0);
    let is_unready = ready.status == "False";
    let after = |time: Timestamp, span: SignedDuration| time.checked_add(span).unwrap_or(Timestamp::MAX);
    if after(started, CPU_INITIALIZATION) > now {
        is_unready || sample.at < after(since, sample.window)
    } else {
        is_unready && after(started, INITIAL_READINESS) > since
    }
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// Replicas, utilization in percent and average value, for a target in percent of what is requested.
pub fn utilization(
    target: Target<'_>,
    asked: Asked<'_>,
    mut samples: Samples,
    percent: i32,
) -> Result<(i32, i32, i64), String> {
    if target.pods.is_empty() {
        return Err(NO_PODS.into());
    }
    let groups = group(target.pods, &samples, asked.resource == "cpu", target.now);
    samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if samples.is_empty() {
        return Err(NO_METRICS.into());
    }
    let requests = requests(target.pods, asked)?;
    let measure = |samples: &Samples| ratio_of_requests(samples, &requests, percent);
    let (ratio, shown, average) = measure(&samples)?;
    // For targets above all that is requested, more than all is normal.
    let whole = i64::from(percent.max(100));
    let most = |name: &str| requests.get(name).copied().unwrap_or(0) * whole / 100;
    let replicas = settle(target, &groups, samples, ratio, most, |s| Ok(measure(s)?.0))?;
    Ok((replicas, shown, average))
}

/// Replicas and average value, for a target value per pod (in thousandths). `cpu`: the pods' readiness counts.
pub fn plain(target: Target<'_>, mut samples: Samples, cpu: bool, wanted: i64) -> Result<(i32, i64), String> {
    if target.pods.is_empty() {
        return Err(NO_PODS.into());
    }
    let groups = group(target.pods, &samples, cpu, target.now);
    samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if samples.is_empty() {
        return Err(NO_METRICS.into());
    }
    let measure = |samples: &Samples| {
        let average = samples.values().map(|s| s.value).fold(0, i64::saturating_add) / len(samples);
        (average as f64 / wanted as f64, average)
    };
    let (ratio, average) = measure(&samples);
    let replicas = settle(target, &groups, samples, ratio, |_| wanted, |s| Ok(measure(s).0))?;
    Ok((replicas, average))
}

fn len(samples: &Samples) -> i64 {
    i64::try_from(samples.len()).unwrap_or(i64::MAX).max(1)
}

fn rounded_up(replicas: f64) -> i32 {
    // A cast of floats saturates.
    replicas.ceil() as i32
}

/// From the ratio of those that were measured to replicas; those that were not count
/// against the change: as busy (`most`) when it goes down, as idle when it goes up.
fn settle(
    target: Target<'_>,
    groups: &Groups,
    mut samples: Samples,
    ratio: f64,
    most: impl Fn(&str) -> i64,
    again: impl Fn(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if target.tolerance.bears(ratio) {
            return Ok(target.replicas);
        }
        return Ok(rounded_up(ratio * groups.ready as f64));
    }
    let mut assume = |name: &String, value: i64| {
        let sample = Sample {
            value,
            at: target.now,
            window: SignedDuration::ZERO,
        };
        samples.insert(name.clone(), sample);
    };
    for name in &groups.missing {
        assume(name, if ratio < 1.0 { most(name) } else { 0 });
    }
    if up_with_unready {
        groups.unready.iter().for_each(|name| assume(name, 0));
    }
    let new = again(&samples)?;
    let turned = (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0);
    if target.tolerance.bears(new) || turned {
        return Ok(target.replicas);
    }
    let replicas = rounded_up(new * samples.len() as f64);
    if (new < 1.0 && replicas > target.replicas) || (new > 1.0 && replicas < target.replicas) {
        return Ok(target.replicas);
    }
    Ok(replicas)
}

/// Ratio to the target, utilization in percent, average value.
fn ratio_of_requests(
    samples: &Samples,
    requests: &BTreeMap<String, i64>,
    percent: i32,
) -> Result<(f64, i32, i64), String> {
    let (mut used, mut requested, mut count) = (0_i64, 0_i64, 0_i64);
    for (name, sample) in samples {
        if let Some(request) = requests.get(name) {
            used = used.saturating_add(sample.value);
            requested = requested.saturating_add(*request);
            count += 1;
        }
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let now = i32::try_from(i128::from(used) * 100 / i128::from(requested)).unwrap_or(i32::MAX);
    Ok((f64::from(now) / f64::from(percent), now, used / count))
}

fn requests(pods: &[Pod], asked: Asked<'_>) -> Result<BTreeMap<String, i64>, String> {
    pods.iter()
        .map(|pod| Ok((name(pod).to_owned(), request(pod, asked)?)))
        .collect()
}

fn request(pod: &Pod, asked: Asked<'_>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let of = |resources: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| {
        let found = resources?.requests.as_ref()?.get(asked.resource)?;
        quantity::milli(&found.0)
    };
    if asked.container.is_none()
        && let Some(whole) = of(spec.resources.as_ref())
    {
        return Ok(whole);
    }
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars);
    let concerned = all.filter(|c: &&Container| asked.container.is_none_or(|wanted| wanted == c.name));
    concerned
        .map(|c| {
            let missing = || {
                let (resource, container, pod) = (asked.resource, &c.name, name(pod));
                format!("missing request for {resource} in container {container} of Pod {pod}")
            };
            of(c.resources.as_ref()).ok_or_else(missing)
        })
        .sum()
}

/// Replicas for a value that describes the whole target. From zero only the value counts.
pub fn by_value(target: Target<'_>, value: i64, wanted: i64) -> Result<i32, String> {
    let ratio = value as f64 / wanted as f64;
    if target.replicas == 0 {
        return Ok(rounded_up(ratio));
    }
    if target.tolerance.bears(ratio) {
        return Ok(target.replicas);
    }
    if target.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let is_ready = |pod: &&Pod| {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        status.and_then(|s| s.phase.as_deref()) == Some("Running")
            && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    Ok(rounded_up(ratio * target.pods.iter().filter(is_ready).count() as f64))
}

/// Replicas and average, for a value that is shared among pods. `shown`: replicas that there are.
pub fn by_average(tolerance: Tolerance, shown: i32, value: i64, wanted: i64) -> (i32, i64) {
    let ratio = value as f64 / (wanted as f64 * f64::from(shown));
    let replicas = if tolerance.bears(ratio) {
        shown
    } else {
        rounded_up(value as f64 / wanted as f64)
    };
    let average = match shown {
        0 => value,
        _ => (value as f64 / f64::from(shown)).ceil() as i64,
    };
    (replicas, average)
}

#[cfg(test)]
#[path = "calculate_test.rs"]
mod tests;
