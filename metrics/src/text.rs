//! Prometheus' text format, as its Go client writes it: labels in the order of their
//! names, histograms cumulative. Pure but for the counters it reads.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A page of figures.
#[derive(Default)]
pub struct Page {
    out: String,
}

pub type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.line(name, labels, None, value);
    }

    /// A family of one kind with its samples.
    pub fn samples<'a, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Iterator<Item = (Vec<(&'a str, &'a str)>, V)>,
    ) {
        self.family(name, kind, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    pub fn histogram(&mut self, name: &str, labels: &Labels<'_>, histogram: &Histogram) {
        let mut total = 0;
        for (count, bound) in histogram
            .buckets
            .iter()
            .zip(histogram.bounds.iter().map(Some).chain([None]))
        {
            total += count.load(Ordering::Relaxed);
            let bound = bound.map_or("+Inf".to_string(), |b| number(*b));
            self.line(&format!("{name}_bucket"), labels, Some(&bound), total);
        }
        self.line(&format!("{name}_sum"), labels, None, number(histogram.sum()));
        self.line(&format!("{name}_count"), labels, None, total);
    }

    fn line(&mut self, name: &str, labels: &Labels<'_>, le: Option<&str>, value: impl Display) {
        self.out.push_str(name);
        let all = labels
            .iter()
            .map(|(k, v)| (*k, *v))
            .chain(le.map(|bound| ("le", bound)));
        let mut open = '{';
        for (key, value) in all {
            self.out.push(open);
            open = ',';
            self.out.push_str(key);
            self.out.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if open == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    pub fn finish(self) -> String {
        self.out
    }
}

/// A number as Go prints it (`%g`): `1e+06` from seven digits on.
pub fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() >= 1e21 || value.abs() < 1e-4) || (value.abs() >= 1e6 && value % 1e5 == 0.0) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// Counts by size; the sum is kept in whole parts of `scale`.
pub struct Histogram {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    scale: f64,
}

impl Histogram {
    /// `scale`: 1e6 keeps seconds as microseconds.
    pub fn new(bounds: &'static [f64], scale: f64) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            scale,
        }
    }

    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        // Durations and sizes: not negative, and far below what u64 holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let parts = (value * self.scale) as u64;
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }

    fn sum(&self) -> f64 {
        // Rounding shows only beyond 2^53 parts.
        #[allow(clippy::cast_precision_loss)]
        let parts = self.sum.load(Ordering::Relaxed) as f64;
        parts / self.scale
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_go_writes_them() {
        let mut page = Page::default();
        page.family("a_total", "counter", "Some.");
        page.sample("a_total", &[], 7);
        page.sample("a_total", &[("k", "a\"b\\c\nd"), ("l", "")], 1.5);
        let histogram = Histogram::new(&[0.1, 1.0, 1e6], 1e6);
        for value in [0.05, 0.1, 0.5, 2e6] {
            histogram.observe(value);
        }
        page.histogram("h", &[("k", "v")], &histogram);
        let wanted = "# HELP a_total Some.\n# TYPE a_total counter\na_total 7\na_total{k=\"a\\\"b\\\\c\\nd\",l=\"\"} 1.5\n\
            h_bucket{k=\"v\",le=\"0.1\"} 2\nh_bucket{k=\"v\",le=\"1\"} 3\nh_bucket{k=\"v\",le=\"1e+06\"} 3\nh_bucket{k=\"v\",le=\"+Inf\"} 4\n\
            h_sum{k=\"v\"} 2000000.65\nh_count{k=\"v\"} 4\n";
        assert_eq!(page.finish(), wanted);
    }

    #[test]
    fn numbers() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.005, "0.005"),
            (60.0, "60"),
            (1000.0, "1000"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1e9, "1e+09"),
            (1.5, "1.5"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }
}
