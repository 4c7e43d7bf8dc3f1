//! What the scheduler counts about itself, under upstream's names.

use crate::queue::Counts;
use skiff_metrics::{Families, Family};
use std::sync::Arc;
use std::time::Duration;

/// From a tenth of a millisecond, where our decisions are, to upstream's last.
const DECISION_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128,
    0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
/// Upstream's.
const SLI_BUCKETS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1_310.72, 2_621.44, 5_242.88,
];
const ATTEMPTS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];
const VICTIMS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

macro_rules! families {
    ($($id:ident = $name:literal, [$($label:literal),*], $buckets:expr, $help:literal;)*) => {
        $(static $id: Family = Family { name: $name, help: $help, labels: &[$($label),*], buckets: $buckets };)*
    };
}

families! {
    ATTEMPTS = "scheduler_schedule_attempts_total", ["profile", "result"], &[],
        "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.";
    ATTEMPT_DURATION = "scheduler_scheduling_attempt_duration_seconds", ["profile", "result"], DECISION_BUCKETS,
        "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)";
    ALGORITHM_DURATION = "scheduler_scheduling_algorithm_duration_seconds", [], DECISION_BUCKETS,
        "[ALPHA] Scheduling algorithm latency in seconds";
    SLI_DURATION = "scheduler_pod_scheduling_sli_duration_seconds", ["attempts"], SLI_BUCKETS,
        "[BETA] E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.";
    POD_ATTEMPTS = "scheduler_pod_scheduling_attempts", [], ATTEMPTS_BUCKETS,
        "[STABLE] Number of attempts to successfully schedule a pod.";
    PENDING = "scheduler_pending_pods", ["queue"], &[],
        "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.";
    INCOMING = "scheduler_queue_incoming_pods_total", ["event", "queue"], &[],
        "[STABLE] Number of pods added to scheduling queues by event and queue type.";
    PREEMPTION_ATTEMPTS = "scheduler_preemption_attempts_total", [], &[],
        "[STABLE] Total preemption attempts in the cluster till now";
    PREEMPTION_VICTIMS = "scheduler_preemption_victims", [], VICTIMS_BUCKETS,
        "[STABLE] Number of selected preemption victims";
    EVENTS_DROPPED = "skiff_scheduler_events_dropped_total", [], &[],
        "Number of events that were not written because too many waited.";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Families>,
}

impl Metrics {
    pub fn new(families: Arc<Families>) -> Self {
        Self { families }
    }

    pub fn decided(&self, took: Duration) {
        self.families.observe(&ALGORITHM_DURATION, &[], took.as_secs_f64());
    }

    /// An attempt is over; a successful one with its binding.
    pub fn attempted(&self, profile: &str, outcome: Outcome, took: Duration) {
        let labels = [profile, outcome.name()];
        self.families.count(&ATTEMPTS, &labels);
        self.families.observe(&ATTEMPT_DURATION, &labels, took.as_secs_f64());
    }

    /// A pod has its node.
    pub fn scheduled(&self, attempts: u32, waited: Duration) {
        // As upstream's: what is beyond fifteen counts as one.
        let label = match attempts {
            0..=15 => attempts.to_string(),
            _ => "16+".to_string(),
        };
        self.families
            .observe(&SLI_DURATION, &[label.as_str()], waited.as_secs_f64());
        self.families.observe(&POD_ATTEMPTS, &[], f64::from(attempts));
    }

    pub fn pending(&self, counts: Counts) {
        for (queue, count) in [
            ("active", counts.active),
            ("backoff", counts.backoff),
            ("unschedulable", counts.unschedulable),
            ("gated", counts.gated),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.families.set(&PENDING, &[queue], count);
        }
    }

    pub fn incoming(&self, event: &str, queue: &str, count: usize) {
        if count > 0 {
            self.families.add(&INCOMING, &[event, queue], count as u64);
        }
    }

    pub fn preempts(&self, victims: usize) {
        // A node has at most hundreds of pods.
        #[allow(clippy::cast_precision_loss)]
        self.families.observe(&PREEMPTION_VICTIMS, &[], victims as f64);
    }

    pub fn preemption_tried(&self) {
        self.families.count(&PREEMPTION_ATTEMPTS, &[]);
    }

    pub fn event_dropped(&self) {
        self.families.count(&EVENTS_DROPPED, &[]);
    }
}
