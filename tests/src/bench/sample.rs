//! Many measurements of one thing, and how they are told. Pure.

use std::time::Duration;

/// Sorted durations.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<Duration>);

impl Sample {
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that `percent` of all do not exceed; zero when there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub fn p99(&self) -> Duration {
        self.percentile(99)
    }

    /// `p50 / p99`.
    pub fn told(&self) -> String {
        format!("{} / {}", duration(self.p50()), duration(self.p99()))
    }
}

/// Three digits are what such a measurement is worth.
pub fn duration(value: Duration) -> String {
    let us = value.as_secs_f64() * 1e6;
    match us {
        _ if us < 999.5 => format!("{us:.0} us"),
        _ if us < 9_995.0 => format!("{:.2} ms", us / 1e3),
        _ if us < 99_950.0 => format!("{:.1} ms", us / 1e3),
        _ if us < 999_500.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// With a comma at each thousand.
pub fn count(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample = Sample::new((1..=50).rev().map(Duration::from_millis).collect());
        assert_eq!(sample.p50(), Duration::from_millis(25));
        assert_eq!(sample.p99(), Duration::from_millis(50));
        assert_eq!(sample.percentile(0), Duration::from_millis(1));
        assert_eq!(sample.percentile(100), Duration::from_millis(50));
        assert_eq!(Sample::default().p99(), Duration::ZERO);
    }

    #[test]
    fn three_digits() {
        for (us, told) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_234_567, "1.23 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(us)), told);
        }
        for (value, told) in [
            (1.26, "1.3"),
            (12.3, "12"),
            (999.0, "999"),
            (1_234.4, "1,234"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(count(value), told);
        }
        assert_eq!(mebibytes(3 << 19), "1.5 MiB");
    }
}
