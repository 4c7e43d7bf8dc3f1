//! What a state weighs, and the alarm that stops writes that would add to it. Both are
//! replicated: every server counts the same and refuses the same. Pure.

use super::{Applied, State};
use crate::contract::*;
use imbl::OrdSet;

/// Beside the bytes of an entry: its node, its numbers, its places in memory and on disk.
const ENTRY_BYTES: u64 = 128;

/// Beside what a step of history kept.
const EVENT_BYTES: u64 = 96;

/// Servers that found the quota used up; while there is one, nothing grows.
pub type Alarms = OrdSet<u64>;

pub(super) fn of_entry(entry: &Entry) -> u64 {
    let pairs = entry.labels().as_bytes().len() + entry.fields().as_bytes().len();
    (entry.key().len() + entry.body().len() + pairs) as u64 + ENTRY_BYTES
}

/// What an event keeps that would else be gone.
pub(super) fn of_event(event: &Event) -> u64 {
    EVENT_BYTES + event.previous.as_ref().map_or(event.key().len() as u64, of_entry)
}

/// Is there a write in it, whichever branch is taken?
pub fn grows(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put { .. } | Op::PutWith { .. } => true,
        Op::Txn(inner) => grows(inner),
        Op::Delete { .. } | Op::DeleteRange(_) | Op::Get { .. } | Op::Range(_) => false,
    })
}

impl State {
    /// Bytes of keys, values and history.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Raises or takes back the alarm of a server; true if that changed something.
    pub fn alarm(&mut self, server: u64, on: bool) -> bool {
        match on {
            true => self.alarms.insert(server).is_none(),
            false => self.alarms.remove(&server).is_some(),
        }
    }

    /// As `apply`, unless it may grow and there is an alarm.
    pub fn apply_within(&mut self, txn: &Txn) -> Result<Applied, Refused> {
        match !self.alarms.is_empty() && grows(txn) {
            true => Err(Refused::NoSpace),
            false => self.apply(txn),
        }
    }

    /// As `grant`, unless there is an alarm.
    pub fn grant_within(&mut self, lease: Lease) -> Result<(), Refused> {
        match self.alarms.is_empty() {
            true => self.grant(lease),
            false => Err(Refused::NoSpace),
        }
    }

    /// Counted from the beginning.
    pub(super) fn weigh(&self) -> u64 {
        let live: u64 = self.tree.iter_from(b"").map(of_entry).sum();
        live + self.history.iter().map(|e| of_event(e)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(key: &str, body: usize) -> Txn {
        let record = Record {
            body: vec![b'x'; body].into(),
            ..Record::default()
        };
        Txn {
            then: vec![Op::Put {
                key: Bytes::copy_from_slice(key.as_bytes()),
                record,
            }],
            ..Txn::default()
        }
    }

    fn delete(key: &str) -> Txn {
        Txn {
            then: vec![Op::Delete {
                key: Bytes::copy_from_slice(key.as_bytes()),
            }],
            ..Txn::default()
        }
    }

    #[test]
    fn what_is_counted_step_by_step_is_what_there_is() {
        let mut state = State::new();
        let mut seed = 7_u64;
        for step in 0..2_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = format!("/k/{}", (seed >> 33) % 40);
            let txn = match (seed >> 60) % 4 {
                0 => delete(&key),
                _ => put(&key, ((seed >> 20) % 500) as usize),
            };
            state.apply(&txn).expect("applied");
            if step % 97 == 0 {
                state.compact(state.revision().saturating_sub(20));
            }
            assert_eq!(state.bytes(), state.weigh(), "at step {step}");
        }
        let before = state.bytes();
        state.compact(state.revision());
        assert!(state.bytes() < before);
        assert_eq!(state.bytes(), state.weigh());
    }

    #[test]
    fn an_alarm_stops_what_grows_and_nothing_else() {
        let mut state = State::new();
        state.apply_within(&put("/a", 10)).expect("put");
        assert!(state.alarm(2, true));
        assert!(!state.alarm(2, true));
        assert_eq!(state.apply_within(&put("/b", 1)).err(), Some(Refused::NoSpace));
        let nested = Txn {
            or_else: vec![Op::Txn(Box::new(put("/b", 1)))],
            ..Txn::default()
        };
        assert_eq!(state.apply_within(&nested).err(), Some(Refused::NoSpace));
        let lease = Lease { id: 1, ttl_s: 5 };
        assert_eq!(state.grant_within(lease), Err(Refused::NoSpace));
        state.apply_within(&delete("/a")).expect("deleted");
        state.compact(state.revision());
        assert!(state.alarm(2, false));
        state.apply_within(&put("/b", 1)).expect("put again");
    }
}
