//! What the kernel says of this process; read when somebody asks.

use skiff_metrics::{Page, number};
use std::fs;

/// Clock ticks of `/proc` in a second: 100 on every Linux that Skiff runs on.
const TICKS: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

/// Figures of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Since the machine started.
    started_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

fn stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        started_seconds: field(22)? / TICKS,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * PAGE_BYTES,
    })
}

fn boot_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn open_files_max() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

pub fn write(page: &mut Page) {
    let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.family(name, kind, help);
            page.sample(name, &[], number(value));
        }
    };
    let found = fs::read_to_string("/proc/self/stat").ok().and_then(|text| stat(&text));
    let found = found.as_ref();
    let cpu = "Total user and system CPU time spent in seconds.";
    gauge(
        "process_cpu_seconds_total",
        "counter",
        cpu,
        found.map(|s| s.cpu_seconds),
    );
    gauge(
        "process_max_fds",
        "gauge",
        "Maximum number of open file descriptors.",
        open_files_max(),
    );
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| {
        // As many as there are file descriptors.
        #[allow(clippy::cast_precision_loss)]
        let count = entries.count() as f64;
        count
    });
    gauge("process_open_fds", "gauge", "Number of open file descriptors.", open);
    let resident = "Resident memory size in bytes.";
    gauge(
        "process_resident_memory_bytes",
        "gauge",
        resident,
        found.map(|s| s.resident_bytes),
    );
    let started = found.and_then(|s| Some(boot_seconds()? + s.started_seconds));
    let since = "Start time of the process since unix epoch in seconds.";
    gauge("process_start_time_seconds", "gauge", since, started);
    let size = "Virtual memory size in bytes.";
    gauge(
        "process_virtual_memory_bytes",
        "gauge",
        size,
        found.map(|s| s.virtual_bytes),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let text =
            "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000000 300 18446744073709551615";
        let wanted = Stat {
            cpu_seconds: 3.0,
            started_seconds: 123.45,
            virtual_bytes: 1_000_000.0,
            resident_bytes: 300.0 * 4096.0,
        };
        assert_eq!(stat(text), Some(wanted));
        assert_eq!(stat("garbage"), None);
    }
}
