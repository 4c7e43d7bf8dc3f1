//! Rows of batch.

mod cron_job;
mod indexes;
mod job;
mod schedule;
mod status;
mod validate;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "batch";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            short_names: &["cj"],
            categories: &["all"],
            subresources: const { &[status(GROUP, "v1", "CronJob")] },
            columns: cron_job::COLUMNS,
            strategy: &cron_job::STRATEGY,
            ..kind!(GROUP, V1, "CronJob", "cronjobs", "cronjob", true)
        },
        Kind {
            categories: &["all"],
            subresources: const { &[status(GROUP, "v1", "Job")] },
            columns: job::COLUMNS,
            strategy: &job::STRATEGY,
            ..kind!(GROUP, V1, "Job", "jobs", "job", true)
        },
    ]
}
