//! Figures of priority and fairness.

use crate::flow::{Flow, Refusal};
use skiff_metrics::Page;
use std::sync::atomic::Ordering;

impl Flow {
    pub(super) fn write_metrics(&self, page: &mut Page) {
        let rows = self.balance.rows.load();
        let config = self.config.load();
        let entries = &config.entries;
        let by_level =
            |name: &'static str, help: &'static str, page: &mut Page, value: &dyn Fn(&crate::flow::Row) -> u32| {
                page.samples(
                    name,
                    "gauge",
                    help,
                    rows.iter()
                        .map(|row| (vec![("priority_level", row.level.name.as_str())], value(row))),
                );
            };
        let name = "apiserver_flowcontrol_current_executing_requests";
        page.samples(
            name,
            "gauge",
            "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            entries.iter().map(|e| {
                let labels = vec![("flow_schema", e.schema.name.as_str()), ("priority_level", e.level.name.as_str())];
                (labels, e.counts.running.load(Ordering::Relaxed))
            }),
        );
        by_level(
            "apiserver_flowcontrol_current_executing_seats",
            "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
            page,
            &|row| row.level.in_use(),
        );
        page.samples(
            "apiserver_flowcontrol_current_inqueue_requests",
            "gauge",
            "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            entries.iter().map(|e| {
                let labels = vec![
                    ("flow_schema", e.schema.name.as_str()),
                    ("priority_level", e.level.name.as_str()),
                ];
                (labels, e.counts.waiting.load(Ordering::Relaxed))
            }),
        );
        by_level(
            "apiserver_flowcontrol_current_limit_seats",
            "[ALPHA] current derived number of execution seats available to each priority level",
            page,
            &|row| row.level.limit(),
        );
        page.samples(
            "apiserver_flowcontrol_dispatched_requests_total",
            "counter",
            "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            entries.iter().map(|e| {
                let labels = vec![
                    ("flow_schema", e.schema.name.as_str()),
                    ("priority_level", e.level.name.as_str()),
                ];
                (labels, e.counts.dispatched.load(Ordering::Relaxed))
            }),
        );
        by_level(
            "apiserver_flowcontrol_lower_limit_seats",
            "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
            page,
            &|row| row.bounds.min,
        );
        by_level(
            "apiserver_flowcontrol_nominal_limit_seats",
            "[BETA] Nominal number of execution seats configured for each priority level",
            page,
            &|row| row.bounds.nominal,
        );
        let name = "apiserver_flowcontrol_rejected_requests_total";
        page.family(
            name,
            "counter",
            "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
        );
        for entry in entries {
            for refusal in Refusal::ALL {
                let count = entry.counts.refused[refusal as usize].load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [
                        ("flow_schema", entry.schema.name.as_str()),
                        ("priority_level", entry.level.name.as_str()),
                        ("reason", refusal.name()),
                    ];
                    page.sample(name, &labels, count);
                }
            }
        }
        by_level(
            "apiserver_flowcontrol_upper_limit_seats",
            "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
            page,
            &|row| row.bounds.max,
        );
    }
}
