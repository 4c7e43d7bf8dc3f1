//! A store does not outgrow its quota.

use skiff_store::mvcc::State;

/// What was under way when the alarm was raised, and what deletions add to history.
const SLACK_BYTES: u64 = 24 << 10;

pub fn exceeded(state: &State, quota: u64) -> Option<String> {
    let over = quota > 0 && state.bytes() > quota + SLACK_BYTES;
    over.then(|| format!("a state of {} bytes, with a quota of {quota}", state.bytes()))
}
