//! From what the metrics ask for to what may be done now: stabilisation, policies, bounds. Pure.
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior>.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Where no behaviour says otherwise, scaling down waits this long.
const DOWN_WINDOW_S: i32 = 300;
/// Entries remembered of one autoscaler: an hour (the longest window) of one a quarter minute, doubled.
const REMEMBERED_MAX: usize = 480;

/// What happened to one autoscaler's target; kept in memory, as upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// What was asked for, before it was limited.
    recommendations: Vec<(i32, Timestamp)>,
    /// How many were added and removed, when.
    added: Vec<(i32, Timestamp)>,
    removed: Vec<(i32, Timestamp)>,
}

impl History {
    /// The size that is there at first counts as asked for.
    pub fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((replicas, now));
        }
    }

    /// The target was given another size.
    pub fn scaled(&mut self, rules: Option<&HorizontalPodAutoscalerBehavior>, from: i32, to: i32, now: Timestamp) {
        let Some(rules) = rules else { return };
        let (list, rules, change) = if to > from {
            (&mut self.added, &rules.scale_up, to - from)
        } else {
            (&mut self.removed, &rules.scale_down, from - to)
        };
        let policies = rules.iter().flat_map(|r| r.policies.iter().flatten());
        let longest = policies.map(|p| p.period_seconds).max().unwrap_or(0);
        list.retain(|(_, at)| *at >= ago(now, longest));
        list.push((change, now));
        drop_oldest(list);
    }

    fn recommended(&mut self, replicas: i32, keep_s: i32, now: Timestamp) {
        self.recommendations.retain(|(_, at)| *at >= ago(now, keep_s));
        self.recommendations.push((replicas, now));
        drop_oldest(&mut self.recommendations);
    }
}

fn drop_oldest(list: &mut Vec<(i32, Timestamp)>) {
    let excess = list.len().saturating_sub(REMEMBERED_MAX);
    list.drain(..excess);
}

fn ago(now: Timestamp, seconds: i32) -> Timestamp {
    let span = SignedDuration::from_secs(i64::from(seconds));
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// A condition's reason and message.
pub type Said = (&'static str, &'static str);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    pub replicas: i32,
    /// Of `AbleToScale`, which is true.
    pub able: Said,
    /// Of `ScalingLimited`.
    pub limited: bool,
    pub why: Said,
}

const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Said = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_LIMIT: Said = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Said = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: Said = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: Said = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const WITHIN: Said = ("DesiredWithinRange", "the desired count is within the acceptable range");

/// Between how many replicas, and how many there are.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub min: i32,
    pub max: i32,
    pub current: i32,
}

/// What is done of `desired`, and why not all of it. Remembers it in the history.
pub fn limit(
    history: &mut History,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    bounds: Bounds,
    desired: i32,
    now: Timestamp,
) -> Limited {
    let (stable, able) = match behavior {
        Some(rules) => stabilize(history, rules, bounds.current, desired, now),
        None => stabilize_by_default(history, desired, now),
    };
    let (replicas, why) = match behavior {
        Some(rules) => by_rules(history, rules, bounds, stable, now),
        None => by_default(bounds, stable),
    };
    Limited {
        replicas,
        able: if stable == desired { READY } else { able },
        limited: replicas != stable,
        why,
    }
}

fn stabilize_by_default(history: &mut History, desired: i32, now: Timestamp) -> (i32, Said) {
    let cutoff = ago(now, DOWN_WINDOW_S);
    let recent = history.recommendations.iter().filter(|(_, at)| *at >= cutoff);
    let highest = recent.map(|(r, _)| *r).fold(desired, i32::max);
    history.recommended(desired, DOWN_WINDOW_S, now);
    (highest, DOWN_STABILIZED)
}

fn by_default(bounds: Bounds, stable: i32) -> (i32, Said) {
    let at_once = bounds.current.saturating_mul(2).max(4);
    let (most, why) = if bounds.max > at_once {
        (at_once, UP_LIMIT)
    } else {
        (bounds.max, TOO_MANY)
    };
    if stable < bounds.min {
        (bounds.min, TOO_FEW)
    } else if stable > most {
        (most, why)
    } else {
        (stable, WITHIN)
    }
}

fn window(rules: Option<&HPAScalingRules>, default: i32) -> i32 {
    rules.and_then(|r| r.stabilization_window_seconds).unwrap_or(default)
}

/// Within what was asked for recently: not below the lowest, not above the highest.
fn stabilize(
    history: &mut History,
    rules: &HorizontalPodAutoscalerBehavior,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> (i32, Said) {
    let up = window(rules.scale_up.as_ref(), 0);
    let down = window(rules.scale_down.as_ref(), DOWN_WINDOW_S);
    let within = |seconds: i32| {
        let cutoff = ago(now, seconds);
        let recent = history.recommendations.iter().filter(move |(_, at)| *at > cutoff);
        recent.map(|(r, _)| *r)
    };
    let lowest = within(up).fold(desired, i32::min);
    let highest = within(down).fold(desired, i32::max);
    history.recommended(desired, up.max(down), now);
    let stable = current.max(lowest).min(highest);
    (
        stable,
        if desired >= current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        },
    )
}

fn by_rules(
    history: &History,
    rules: &HorizontalPodAutoscalerBehavior,
    bounds: Bounds,
    stable: i32,
    now: Timestamp,
) -> (i32, Said) {
    if stable > bounds.current {
        let rate = up_to(history, rules.scale_up.as_ref(), bounds.current, now).max(bounds.current);
        let (most, why) = if bounds.max > rate {
            (rate, UP_LIMIT)
        } else {
            (bounds.max, TOO_MANY)
        };
        if stable > most {
            return (most, why);
        }
    } else if stable < bounds.current {
        let rate = down_to(history, rules.scale_down.as_ref(), bounds.current, now).min(bounds.current);
        let (least, why) = if bounds.min < rate {
            (rate, DOWN_LIMIT)
        } else {
            (bounds.min, TOO_FEW)
        };
        if stable < least {
            return (least, why);
        }
    }
    (stable, WITHIN)
}

/// How many there were when a period began.
fn at_start(history: &History, current: i32, period_s: i32, now: Timestamp) -> i32 {
    let sum = |list: &[(i32, Timestamp)]| {
        let cutoff = ago(now, period_s);
        list.iter()
            .filter(|(_, at)| *at > cutoff)
            .map(|(n, _)| *n)
            .fold(0, i32::saturating_add)
    };
    current
        .saturating_sub(sum(&history.added))
        .saturating_add(sum(&history.removed))
}

fn up_to(history: &History, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let Some(rules) = rules else { return i32::MAX };
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let proposals = rules.policies.iter().flatten().map(|policy| {
        let start = at_start(history, current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            // Rounded up, else a small target would never grow.
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    });
    let chosen = if select == "Min" {
        proposals.min()
    } else {
        proposals.max()
    };
    chosen.unwrap_or(current)
}

fn down_to(history: &History, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let Some(rules) = rules else { return 0 };
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let proposals = rules.policies.iter().flatten().map(|policy| {
        let start = at_start(history, current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_sub(policy.value),
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    });
    // The smallest change leaves the most.
    let chosen = if select == "Min" {
        proposals.max()
    } else {
        proposals.min()
    };
    chosen.unwrap_or(current)
}

#[cfg(test)]
#[path = "limit_test.rs"]
mod tests;
