//! CPU rates from two readings of counters. Nothing is read while nobody asks, so the
//! earlier reading is that of an earlier question. Pure.

use super::observe::NodeUse;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A rate over less says little; the reading before is taken instead.
const WINDOW_MIN: SignedDuration = SignedDuration::from_secs(5);
/// A rate over more is none of now.
const WINDOW_MAX: SignedDuration = SignedDuration::from_secs(120);

/// By pod UID (or name of a system container) and container, the CPU counters of one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    at: Timestamp,
    used_ns: BTreeMap<(String, String), u64>,
}

impl Counters {
    pub fn of(node: &NodeUse) -> Self {
        let mut used_ns = BTreeMap::new();
        let mut put = |a: &str, b: &str, value| used_ns.insert((a.to_owned(), b.to_owned()), value);
        put("", "", node.reading.cpu.usage_ns);
        for system in &node.system {
            put("", system.name, system.reading.cpu.usage_ns);
        }
        for pod in &node.pods {
            put(&pod.uid, "", pod.reading.cpu.usage_ns);
            for container in &pod.containers {
                put(&pod.uid, &container.id, container.reading.cpu.usage_ns);
            }
        }
        Self { at: node.at, used_ns }
    }

    /// Billionths of a core since then; `None`: it was not there, or began anew.
    pub fn rate(&self, uid: &str, container: &str, now: Timestamp, used_ns: u64) -> Option<u64> {
        let before = *self.used_ns.get(&(uid.to_owned(), container.to_owned()))?;
        let passed = u128::try_from(now.duration_since(self.at).as_nanos())
            .ok()
            .filter(|ns| *ns > 0)?;
        let used = u128::from(used_ns.checked_sub(before)?);
        u64::try_from(used * 1_000_000_000 / passed).ok()
    }
}

/// The last readings.
#[derive(Debug, Default)]
pub struct Rates {
    newer: Option<Counters>,
    older: Option<Counters>,
}

impl Rates {
    /// The reading to compare one of now with.
    pub fn base(&self, now: Timestamp) -> Option<&Counters> {
        let age = |counters: &&Counters| now.duration_since(counters.at);
        let usable = |c: &&Counters| (WINDOW_MIN..WINDOW_MAX).contains(&age(c));
        let newer = self.newer.as_ref();
        newer
            .filter(usable)
            .or(self.older.as_ref().filter(usable))
            // Two questions in a row: the first one's pause is all there is.
            .or(self.older.as_ref().filter(|c| age(c) < WINDOW_MAX))
    }

    pub fn keep(&mut self, counters: Counters) {
        let recent = |c: &Counters| counters.at.duration_since(c.at) < WINDOW_MIN;
        if self.older.is_none() || !self.newer.as_ref().is_some_and(recent) {
            self.older = self.newer.take();
        }
        self.newer = Some(counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(second: i64, used_ns: u64) -> Counters {
        Counters {
            at: at(second),
            used_ns: BTreeMap::from([(("u".into(), "c".into()), used_ns)]),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    #[test]
    fn rates_are_differences_over_time() {
        let before = counters(0, 1_000_000_000);
        assert_eq!(before.rate("u", "c", at(2), 2_000_000_000), Some(500_000_000));
        assert_eq!(before.rate("u", "c", at(2), 1), None, "it began anew");
        assert_eq!(before.rate("u", "d", at(2), 1), None);
        assert_eq!(before.rate("u", "c", at(0), 2_000_000_000), None);
    }

    #[test]
    fn which_reading_is_compared_with() {
        let mut rates = Rates::default();
        assert_eq!(rates.base(at(0)), None);
        rates.keep(counters(0, 0));
        assert_eq!(rates.base(at(1)), None, "one question is not enough so soon");
        rates.keep(counters(1, 0));
        assert_eq!(rates.base(at(2)).map(|c| c.at), Some(at(0)));
        rates.keep(counters(2, 0));
        assert_eq!(
            rates.base(at(4)).map(|c| c.at),
            Some(at(0)),
            "the window does not shrink"
        );
        assert_eq!(rates.base(at(17)).map(|c| c.at), Some(at(2)));
        assert_eq!(rates.base(at(500)), None, "that says nothing of now");
    }
}
