//! The histogram that openraft counts batch sizes in, in half a kilobyte.
//!
//! openraft keeps such statistics whether or not they are asked for, and nothing here
//! asks. The crate of this name on crates.io fills tables for sixteen resolutions
//! before the first count: 26 MB that stay, and some milliseconds of each start. So the
//! workspace puts this one in its place (`[patch.crates-io]`), with the part of the
//! interface that openraft uses and one bucket per power of two. It can go once
//! upstream fills only the table that it needs.

use std::fmt;
use std::marker::PhantomData;

/// One bucket per bit length, zero included.
const BUCKETS: usize = 65;

/// Counts of values by bit length. `T` is upstream's data beside a slot, of which there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Histogram {
            counts: [0; BUCKETS],
            slot: PhantomData,
        }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let at = |permille| self.at(permille, samples);
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The smallest value of the bucket that holds the sample of that rank.
    fn at(&self, permille: u64, samples: u64) -> u64 {
        let rank = (u128::from(samples) * u128::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return bucket.checked_sub(1).map_or(0, |bit| 1 << bit);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Histogram::new()
    }
}

/// Values that so many of the samples do not exceed by more than a factor of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[samples: {}, P0.1: {}, P1: {}, P5: {}, P10: {}, P50: {}, P90: {}, P99: {}, P99.9: {}]",
            self.samples, self.p0_1, self.p1, self.p5, self.p10, self.p50, self.p90, self.p99, self.p99_9
        )
    }
}

/// Several histograms under each other, as one line of figures each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<String>,
}

impl AsciiChart {
    pub fn new() -> Self {
        AsciiChart::default()
    }

    // The name is upstream's.
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.lines.push(format!("{name}: {}", histogram.percentile_stats()));
        self
    }

    pub fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1000);
        for (found, exact) in [(stats.p1, 10), (stats.p10, 100), (stats.p50, 500), (stats.p99_9, 999)] {
            assert!(found <= exact && exact < found * 2, "{found} for {exact}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_counted() {
        let mut histogram = Histogram::<()>::new();
        histogram.record(0);
        histogram.record_n(u64::MAX, u64::MAX);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50), (u64::MAX, 1 << 63));
        let chart = AsciiChart::new().add("all", histogram).detailed().to_string();
        assert!(chart.starts_with("all: [samples: "), "{chart}");
    }
}
