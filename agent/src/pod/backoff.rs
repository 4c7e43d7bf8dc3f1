//! Exponential back-off as kubelet keeps it: 10 s doubling to 300 s, forgotten
//! when nothing happened for ten minutes. Pure.

use jiff::{SignedDuration, Timestamp};

pub const FIRST_S: i64 = 10;
pub const LAST_S: i64 = 300;
/// Twice the longest delay, as kubelet forgets.
const FORGET_S: i64 = 600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub delay_s: i64,
    pub since: Timestamp,
}

impl Backoff {
    /// The delay that the next failure at `now` deserves.
    pub fn next(previous: Option<Self>, now: Timestamp) -> Self {
        let delay_s = match previous {
            Some(p) if now.duration_since(p.since).as_secs() <= FORGET_S + p.delay_s => (p.delay_s * 2).min(LAST_S),
            _ => FIRST_S,
        };
        Self { delay_s, since: now }
    }

    pub fn until(&self) -> Timestamp {
        self.since
            .checked_add(SignedDuration::from_secs(self.delay_s))
            .unwrap_or(Timestamp::MAX)
    }

    /// Go's notation, as Kubernetes' messages show it: `10s`, `1m20s`, `5m0s`.
    pub fn text(&self) -> String {
        match (self.delay_s / 60, self.delay_s % 60) {
            (0, seconds) => format!("{seconds}s"),
            (minutes, seconds) => format!("{minutes}m{seconds}s"),
        }
    }
}

/// A crashed container's back-off entry. The first restart is immediate; every
/// restart, made at `finished`, sets what the following one has to wait.
pub fn after_restart(previous: Option<Backoff>, ran_s: i64, finished: Timestamp) -> Backoff {
    let kept = previous.filter(|_| ran_s < FORGET_S);
    Backoff::next(kept, finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn doubles_to_five_minutes_and_forgets() {
        let mut entry = None;
        let mut now = 1_000;
        let mut seen = Vec::new();
        for _ in 0..7 {
            let next = Backoff::next(entry, at(now));
            seen.push(next.text());
            now += next.delay_s + 1;
            entry = Some(next);
        }
        assert_eq!(seen, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(Backoff::next(entry, at(now + 2_000)).delay_s, FIRST_S);
        assert_eq!(after_restart(entry, 700, at(now)).delay_s, FIRST_S);
        assert_eq!(after_restart(entry, 1, at(now)).delay_s, LAST_S);
    }
}
