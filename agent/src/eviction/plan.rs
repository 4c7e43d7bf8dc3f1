//! From what is left of the node to what it is short of, as kubelet decides it: grace
//! periods of soft thresholds, minimum reclaims, and pressures that are told for a
//! while after they ended. Pure.

use super::threshold::{Pressure, Settings, Signal, Threshold};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub available: i64,
    pub capacity: i64,
}

pub type Observed = BTreeMap<Signal, Left>;

/// Which threshold: a signal may have a hard and a soft one.
type Key = (Signal, bool);

#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Since when each is crossed.
    since: BTreeMap<Key, Timestamp>,
    pressed: BTreeMap<Pressure, Timestamp>,
    /// Crossed for long enough, until as much is free as is to be.
    acted_on: BTreeSet<Key>,
}

fn crossed(threshold: &Threshold, left: &Left, with_reclaim: bool) -> bool {
    let mut wanted = threshold.value.of(left.capacity);
    if with_reclaim && let Some(more) = &threshold.reclaim {
        wanted = wanted.saturating_add(more.of(left.capacity));
    }
    left.available < wanted
}

/// The thresholds that pods or images must go for, the most pressing first.
pub fn short<'a>(state: &mut State, settings: &'a Settings, seen: &Observed, now: Timestamp) -> Vec<&'a Threshold> {
    let key = |t: &Threshold| (t.signal, t.grace.is_some());
    let met: Vec<&Threshold> = settings
        .thresholds
        .iter()
        .filter(|t| {
            let acted_on = state.acted_on.contains(&key(t));
            seen.get(&t.signal).is_some_and(|left| crossed(t, left, acted_on))
        })
        .collect();
    state.since = met
        .iter()
        .map(|t| (key(t), state.since.get(&key(t)).copied().unwrap_or(now)))
        .collect();
    for threshold in &met {
        state.pressed.insert(threshold.signal.pressure(), now);
    }
    state
        .pressed
        .retain(|_, at| now.duration_since(*at) < settings.transition || *at == now);
    let mut due: Vec<&Threshold> = met
        .into_iter()
        .filter(|t| {
            let since = state.since.get(&key(t)).copied().unwrap_or(now);
            t.grace.is_none_or(|grace| now.duration_since(since) >= grace)
        })
        .collect();
    due.sort_by_key(|t| t.signal);
    state.acted_on = due.iter().map(|t| key(t)).collect();
    due
}

/// Whether enough is free again after images and ended containers have gone.
pub fn relieved(settings: &Settings, seen: &Observed) -> bool {
    !settings
        .thresholds
        .iter()
        .any(|t| seen.get(&t.signal).is_some_and(|left| crossed(t, left, true)))
}

impl State {
    pub fn pressures(&self) -> BTreeSet<Pressure> {
        self.pressed.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn memory(mib: i64) -> Observed {
        let left = Left {
            available: mib * MIB,
            capacity: 1_000 * MIB,
        };
        Observed::from([(Signal::Memory, left)])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("in range")
    }

    #[test]
    fn a_shortage_from_beginning_to_end() {
        let mut settings = Settings::parse(
            "memory.available<100Mi",
            "memory.available<300Mi",
            "memory.available=30s",
            "memory.available=50Mi",
        )
        .expect("right");
        settings.transition = jiff::SignedDuration::from_secs(60);
        let mut state = State::default();
        // (second, MiB left) -> (thresholds that are acted on: soft?, is the pressure told)
        for (second, left, acted_on, told) in [
            (0, 400, vec![], false),
            (10, 250, vec![], true),
            (39, 250, vec![], true),
            (40, 250, vec![true], true),
            (41, 90, vec![false, true], true),
            // Above the threshold, but not by what is to be reclaimed.
            (42, 120, vec![false, true], true),
            (43, 160, vec![true], true),
            (44, 340, vec![true], true),
            (45, 360, vec![], true),
            (100, 360, vec![], true),
            (104, 360, vec![], false),
            // Crossed anew, the grace period begins anew.
            (110, 250, vec![], true),
        ] {
            let due = short(&mut state, &settings, &memory(left), at(second));
            let soft: Vec<bool> = due.iter().map(|t| t.grace.is_some()).collect();
            assert_eq!(soft, acted_on, "after {second} s");
            assert_eq!(!state.pressures().is_empty(), told, "after {second} s");
        }
        assert!(relieved(&settings, &memory(351)) && !relieved(&settings, &memory(349)));
    }

    #[test]
    fn pods_that_take_what_is_kept_for_others_are_short_of_memory() {
        let settings = Settings::parse("memory.available<100Mi", "", "", "").expect("right");
        let mut state = State::default();
        for (node_mib, pods_mib, expected) in [
            (500, 400, vec![]),
            (500, 99, vec![Signal::AllocatableMemory]),
            (99, 99, vec![Signal::Memory, Signal::AllocatableMemory]),
            (99, 400, vec![Signal::Memory]),
        ] {
            let mut seen = memory(node_mib);
            let left = Left {
                available: pods_mib * MIB,
                capacity: 800 * MIB,
            };
            seen.insert(Signal::AllocatableMemory, left);
            let due = short(&mut state, &settings, &seen, at(0));
            let due: Vec<Signal> = due.iter().map(|t| t.signal).collect();
            assert_eq!(due, expected, "{node_mib} {pods_mib}");
            assert_eq!(
                state.pressures().contains(&Pressure::Memory),
                node_mib + pods_mib < 900,
                "{node_mib} {pods_mib}"
            );
        }
    }

    #[test]
    fn memory_comes_first() {
        let settings = Settings::parse(
            "pid.available<10%,nodefs.available<10%,memory.available<10%",
            "",
            "",
            "",
        )
        .expect("right");
        let left = Left {
            available: 1,
            capacity: 100,
        };
        let seen = [Signal::Pids, Signal::Nodefs, Signal::Memory]
            .map(|signal| (signal, left))
            .into();
        let mut state = State::default();
        let due = short(&mut state, &settings, &seen, at(0));
        assert_eq!(
            due.iter().map(|t| t.signal).collect::<Vec<_>>(),
            [Signal::Memory, Signal::Nodefs, Signal::Pids]
        );
        assert_eq!(state.pressures().len(), 3);
        assert!(
            short(&mut state, &settings, &Observed::new(), at(1)).is_empty(),
            "what is not known is not short"
        );
    }
}
