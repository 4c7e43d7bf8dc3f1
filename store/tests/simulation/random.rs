//! Chance, all of it from one seed; and the trace of what happened, as a hash.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct State {
    next: u64,
    trace: u64,
}

/// Shared by all that happens in one simulation.
#[derive(Clone)]
pub struct Random(Arc<Mutex<State>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        let next = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        Random(Arc::new(Mutex::new(State { next, trace: seed })))
    }

    pub fn next(&self) -> u64 {
        let mut state = lock(&self.0);
        state.next = state.next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state.next)
    }

    pub fn below(&self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "something to choose from");
        range.start + self.next() % (range.end - range.start)
    }

    /// True once in `times`.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(0..times) == 0
    }

    pub fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.below(range))
    }

    pub fn pick<T: Clone>(&self, of: &[T]) -> Option<T> {
        match of.len() as u64 {
            0 => None,
            len => Some(of[self.below(0..len) as usize].clone()),
        }
    }

    /// Takes something that happened into the trace.
    pub fn note(&self, what: u64) {
        let mut state = lock(&self.0);
        state.trace = mix(state.trace.rotate_left(7) ^ what);
    }

    pub fn trace(&self) -> u64 {
        lock(&self.0).trace
    }
}
