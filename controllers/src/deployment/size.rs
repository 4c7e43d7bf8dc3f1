//! How large each ReplicaSet of a Deployment may be: surge and unavailability, and the shares when a
//! Deployment is scaled in the middle of a rollout. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::key::{created, name};

use super::revision::max_annotation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub replicas: i32,
    /// Pods above `replicas` during a rolling update; 0 for other strategies.
    pub max_surge: i32,
    /// Pods below `replicas` during a rolling update; 0 for other strategies.
    pub max_unavailable: i32,
    pub rolling: bool,
}

pub fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// A count, or a percentage of `total` rounded up or down. Validation keeps nonsense out; what slips
/// through counts as zero.
pub fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse::<i64>().ok())
                .unwrap_or(0);
            let hundredths = i64::from(total) * percent;
            let count = if round_up {
                (hundredths + 99) / 100
            } else {
                hundredths / 100
            };
            i32::try_from(count).unwrap_or(i32::MAX)
        }
        None => 0,
    }
}

impl Size {
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self {
                replicas,
                max_surge: 0,
                max_unavailable: 0,
                rolling: false,
            };
        }
        let quarter = IntOrString::String("25%".to_string());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling
            .and_then(|rolling| rolling.max_surge.as_ref())
            .unwrap_or(&quarter);
        let unavailable = rolling
            .and_then(|rolling| rolling.max_unavailable.as_ref())
            .unwrap_or(&quarter);
        let max_surge = resolve(Some(surge), replicas, true);
        let mut max_unavailable = resolve(Some(unavailable), replicas, false);
        // Percentages may both round to nothing; then a rollout could never begin.
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self {
            replicas,
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
            rolling: true,
        }
    }

    pub fn max_total(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// How large the current set may be beside the others.
    pub fn current_set(&self, total: i32, current: i32) -> i32 {
        if !self.rolling {
            return self.replicas;
        }
        if total >= self.max_total() {
            return current;
        }
        current + (self.max_total() - total).min(self.replicas - current).max(0)
    }
}

/// Spreads a change of the Deployment's size over its active sets in proportion to their sizes, so that a
/// rollout in flight keeps its ratio. Returns the new size of each, in the order given.
pub fn proportional(size: &Size, status_replicas: i32, sets: &[&ReplicaSet]) -> Vec<i32> {
    let total: i32 = sets.iter().map(|set| spec_replicas(set)).sum();
    let allowed = if size.replicas > 0 { size.max_total() } else { 0 };
    let change = allowed - total;
    let mut order: Vec<usize> = (0..sets.len()).collect();
    // Larger sets first; of equal ones the newer grows and the older shrinks.
    order.sort_by(|&a, &b| {
        let by_size = spec_replicas(sets[b]).cmp(&spec_replicas(sets[a]));
        let by_age = created(&sets[a].metadata).cmp(&created(&sets[b].metadata));
        by_size
            .then(if change > 0 { by_age.reverse() } else { by_age })
            .then_with(|| name(&sets[a].metadata).cmp(name(&sets[b].metadata)))
    });
    let mut sizes: Vec<i32> = sets.iter().map(|set| spec_replicas(set)).collect();
    if change == 0 {
        return sizes;
    }
    let mut spread = 0;
    for &index in &order {
        let share = share(size, status_replicas, sets[index]);
        let left = change - spread;
        let share = if change > 0 { share.min(left) } else { share.max(left) };
        sizes[index] += share;
        spread += share;
    }
    if let Some(&first) = order.first() {
        sizes[first] = (sizes[first] + change - spread).max(0);
    }
    for size in &mut sizes {
        *size = (*size).max(0);
    }
    sizes
}

/// What this set would gain or lose if it kept its part of the whole.
fn share(size: &Size, status_replicas: i32, set: &ReplicaSet) -> i32 {
    let have = spec_replicas(set);
    if size.replicas == 0 {
        return -have;
    }
    let before = max_annotation(set).filter(|max| *max > 0).unwrap_or(status_replicas);
    if before <= 0 {
        return 0;
    }
    let scaled = f64::from(have) * f64::from(size.max_total()) / f64::from(before);
    // Both are small pod counts, far from where the cast could lose anything.
    scaled.round() as i32 - have
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_surge_up_and_unavailability_down() {
        let quarter = IntOrString::String("25%".to_string());
        assert_eq!(resolve(Some(&quarter), 3, true), 1);
        assert_eq!(resolve(Some(&quarter), 3, false), 0);
        assert_eq!(resolve(Some(&IntOrString::Int(2)), 3, false), 2);
    }

    #[test]
    fn the_current_set_grows_into_the_surge() {
        let size = Size {
            replicas: 10,
            max_surge: 3,
            max_unavailable: 2,
            rolling: true,
        };
        assert_eq!(size.current_set(10, 0), 3);
        assert_eq!(size.current_set(13, 3), 3);
        assert_eq!(size.current_set(11, 9), 10);
    }
}
