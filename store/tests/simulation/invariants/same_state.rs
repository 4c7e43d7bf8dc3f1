//! All servers come to the same state at the same place in the log.

use skiff_store::Snapshot;
use skiff_store::mvcc::State;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a state comes to: keys, leases, requests done, history, alarms, weight; apart, so that it is seen
/// in what two differ.
pub type Digest = [u64; 8];

fn of(what: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what(&mut hasher);
    hasher.finish()
}

pub fn digest(state: &State) -> Digest {
    let keys = of(|hasher| {
        for entry in state.tree().iter_from(b"") {
            (entry.key(), entry.body(), entry.numbers().lease).hash(hasher);
            (entry.create_revision(), entry.mod_revision(), entry.version()).hash(hasher);
        }
    });
    let leases = of(|hasher| state.leases().iter().for_each(|l| (l.id, l.ttl_s).hash(hasher)));
    let sessions = of(|hasher| {
        for (origin, session) in state.sessions().iter() {
            (origin, session.boot, session.settled).hash(hasher);
            session.applied.iter().for_each(|number| number.hash(hasher));
        }
    });
    let history = state.history().len() as u64;
    let alarms = of(|hasher| state.alarms().iter().for_each(|server| server.hash(hasher)));
    let [revision, compacted, bytes] = [state.revision(), state.compacted(), state.bytes()];
    [revision, compacted, history, keys, leases, sessions, alarms, bytes]
}
