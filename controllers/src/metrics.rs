//! What the controllers count about themselves, under the names that upstream's work queues have.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use skiff_metrics::{Families, Family, Histogram};

/// Upstream's: from 10 ns, each ten times the one before.
const SECONDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

const fn family(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family {
        name,
        help,
        labels,
        buckets: &[],
    }
}

static DEPTH: Family = family("workqueue_depth", "[ALPHA] Current depth of workqueue", &["name"]);
static ADDS: Family = family(
    "workqueue_adds_total",
    "[ALPHA] Total number of adds handled by workqueue",
    &["name"],
);
static RETRIES: Family = family(
    "workqueue_retries_total",
    "[ALPHA] Total number of retries handled by workqueue",
    &["name"],
);
static WAITED: Family = Family {
    buckets: SECONDS,
    ..family(
        "workqueue_queue_duration_seconds",
        "[ALPHA] How long in seconds an item stays in workqueue before being requested.",
        &["name"],
    )
};
static WORKED: Family = Family {
    buckets: SECONDS,
    ..family(
        "workqueue_work_duration_seconds",
        "[ALPHA] How long in seconds processing an item from workqueue takes.",
        &["name"],
    )
};
static ERRORS: Family = family(
    "skiff_controller_reconcile_errors_total",
    "Reconciles that failed and are tried again, by controller.",
    &["controller"],
);
static PANICS: Family = family(
    "skiff_controller_panics_total",
    "Reconciles and handlers of changes that panicked, by controller or kind.",
    &["controller"],
);
static RESTARTS: Family = family(
    "skiff_controllers_restarts_total",
    "Times that all controllers were started again because a task of theirs had ended.",
    &[],
);

static FAMILIES: LazyLock<Arc<Families>> = LazyLock::new(Arc::default);

/// The figures of this process's controllers, to be shown on `/metrics`.
pub fn families() -> Arc<Families> {
    FAMILIES.clone()
}

pub fn failed(controller: &str) {
    FAMILIES.count(&ERRORS, &[controller]);
}

pub fn panicked(controller: &str) {
    FAMILIES.count(&PANICS, &[controller]);
}

pub fn restarted() {
    FAMILIES.count(&RESTARTS, &[]);
}

/// One queue's rows.
pub struct QueueFigures {
    depth: Arc<AtomicI64>,
    adds: Arc<AtomicU64>,
    retries: Arc<AtomicU64>,
    waited: Arc<Histogram>,
    worked: Arc<Histogram>,
}

impl QueueFigures {
    pub fn new(name: &'static str) -> Self {
        let labels = [name];
        Self {
            depth: FAMILIES.gauge(&DEPTH, &labels),
            adds: FAMILIES.counter(&ADDS, &labels),
            retries: FAMILIES.counter(&RETRIES, &labels),
            waited: FAMILIES.histogram(&WAITED, &labels),
            worked: FAMILIES.histogram(&WORKED, &labels),
        }
    }

    /// A key is to be worked on; it may have to wait for an earlier look at it.
    pub fn added(&self) {
        self.adds.fetch_add(1, Ordering::Relaxed);
    }

    pub fn depth(&self, waiting: usize) {
        self.depth
            .store(i64::try_from(waiting).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn taken(&self, after: Duration) {
        self.waited.observe(after.as_secs_f64());
    }

    pub fn done(&self, after: Duration) {
        self.worked.observe(after.as_secs_f64());
    }
}
