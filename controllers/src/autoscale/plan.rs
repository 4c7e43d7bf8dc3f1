//! What one look at an autoscaler decides: the target's new size, and the status. Pure.

use super::limit::{self, Bounds, History};
use crate::key::time;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricStatus,
};

pub const ABLE: &str = "AbleToScale";
pub const ACTIVE: &str = "ScalingActive";
pub const LIMITED: &str = "ScalingLimited";

/// What is clear before anything is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// Somebody scaled the target to nothing: it is left alone.
    Disabled,
    Resize {
        to: i32,
        why: &'static str,
    },
    Measure,
}

pub fn least(spec: &HorizontalPodAutoscalerSpec) -> i32 {
    spec.min_replicas.unwrap_or(1)
}

pub fn first(spec: &HorizontalPodAutoscalerSpec, current: i32) -> First {
    let min = least(spec);
    if current == 0 && min != 0 {
        First::Disabled
    } else if current > spec.max_replicas {
        First::Resize {
            to: spec.max_replicas,
            why: "Current number of replicas above Spec.MaxReplicas",
        }
    } else if current < min {
        First::Resize {
            to: min,
            why: "Current number of replicas below Spec.MinReplicas",
        }
    } else {
        First::Measure
    }
}

/// What one metric asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub replicas: i32,
    /// `cpu resource utilization (percentage of request)`.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Of the condition and the event: `FailedGetResourceMetric`.
    pub reason: &'static str,
    /// What went wrong, as the event says it.
    pub message: String,
    /// The same with what was being done, as it is counted among several metrics.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub replicas: i32,
    pub name: String,
}

/// The most that any metric asks for. When some failed it is not followed downwards: they might ask for more.
pub fn choose(current: i32, results: &[Result<Measured, Failed>]) -> Result<Chosen, (Failed, String)> {
    let failed: Vec<&Failed> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    let mut best: Option<&Measured> = None;
    for measured in results.iter().filter_map(|r| r.as_ref().ok()) {
        if best.is_none_or(|b| measured.replicas > b.replicas) {
            best = Some(measured);
        }
    }
    match (best, failed.first()) {
        (Some(best), None) => Ok(chosen(best)),
        (Some(best), Some(_)) if best.replicas >= current => Ok(chosen(best)),
        (_, Some(first)) => {
            let error = format!(
                "invalid metrics ({} invalid out of {}), first error is: {}",
                failed.len(),
                results.len(),
                first.error
            );
            Err(((*first).clone(), error))
        }
        (None, None) => Ok(Chosen {
            replicas: 0,
            name: String::new(),
        }),
    }
}

fn chosen(measured: &Measured) -> Chosen {
    Chosen {
        replicas: measured.replicas,
        name: measured.name.clone(),
    }
}

/// The status in the making.
#[derive(Debug, Clone)]
pub struct Draft {
    pub status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Draft {
    pub fn of(hpa: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        Self {
            status: hpa.status.clone().unwrap_or_default(),
            now,
        }
    }

    /// Keeps the time of the last transition while the condition's status is the same.
    pub fn condition(&mut self, kind: &str, on: bool, reason: &str, message: impl Into<String>) {
        let status = if on { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let at = conditions.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition {
                type_: kind.to_owned(),
                ..Default::default()
            });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status != status {
            condition.last_transition_time = Some(time(self.now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    pub fn found_scale(&mut self) {
        let message = "the HPA controller was able to get the target's current scale";
        self.condition(ABLE, true, "SucceededGetScale", message);
    }

    pub fn disabled(&mut self) {
        let message = "scaling is disabled since the replica count of the target is zero";
        self.condition(ACTIVE, false, "ScalingDisabled", message);
    }

    pub fn no_metric(&mut self, failed: &Failed) {
        let message = format!("the HPA was unable to compute the replica count: {}", failed.message);
        self.condition(ACTIVE, false, failed.reason, message);
    }

    pub fn metric(&mut self, chosen: &Chosen) {
        let message = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            chosen.name
        );
        self.condition(ACTIVE, true, "ValidMetricFound", message);
    }

    /// What may be done of what is asked for.
    pub fn limit(&mut self, history: &mut History, hpa: &HorizontalPodAutoscaler, current: i32, desired: i32) -> i32 {
        let bounds = Bounds {
            min: least(&hpa.spec),
            max: hpa.spec.max_replicas,
            current,
        };
        let limited = limit::limit(history, hpa.spec.behavior.as_ref(), bounds, desired, self.now);
        self.condition(ABLE, true, limited.able.0, limited.able.1);
        self.condition(LIMITED, limited.limited, limited.why.0, limited.why.1);
        limited.replicas
    }

    pub fn rescaled(&mut self, to: i32) {
        let message = format!("the HPA controller was able to update the target scale to {to}");
        self.condition(ABLE, true, "SucceededRescale", message);
        self.status.last_scale_time = Some(time(self.now));
    }

    /// The numbers, once all is decided.
    pub fn sizes(&mut self, current: i32, desired: i32, metrics: Vec<MetricStatus>) {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = Some(metrics).filter(|m| !m.is_empty());
    }
}

/// Why the target gets another size, as the event says it.
pub fn reason(current: i32, chosen: &Chosen) -> String {
    if chosen.replicas > current {
        format!("{} above target", chosen.name)
    } else if chosen.replicas < current {
        "All metrics below target".to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
