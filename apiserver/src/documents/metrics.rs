//! A few figures about the server itself, as Prometheus text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests by class of status code.
#[derive(Default)]
pub(crate) struct Metrics {
    by_class: [AtomicU64; 6],
}

impl Metrics {
    pub fn count(&self, code: u16) {
        self.by_class[usize::from(code / 100).min(5)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn text(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total Requests answered, by class of status code.\n# TYPE apiserver_request_total counter\n",
        );
        for (class, count) in self.by_class.iter().enumerate().skip(1) {
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{class}xx\"}} {}",
                count.load(Ordering::Relaxed)
            );
        }
        out
    }
}
