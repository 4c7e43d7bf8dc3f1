//! Which nodes changed since one last looked. Pure.

use crate::snapshot::Slot;
use std::collections::VecDeque;

/// Who looks less often than this looks at everything again.
const KEPT_MAX: usize = 4096;

#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Number of changes that were dropped.
    dropped: u64,
    kept: VecDeque<Slot>,
}

impl Changes {
    pub fn push(&mut self, slot: Slot) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(slot);
    }

    /// To be given to `since` later.
    pub fn now(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    /// The nodes that changed since then; `None`: it was too long ago to tell.
    pub fn since(&self, then: u64) -> Option<impl Iterator<Item = Slot>> {
        let skipped = usize::try_from(then.checked_sub(self.dropped)?).ok()?;
        Some(self.kept.iter().skip(skipped).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_once_and_lost_ones_noticed() {
        let mut changes = Changes::default();
        let start = changes.now();
        changes.push(3);
        let middle = changes.now();
        changes.push(3);
        changes.push(4);
        let seen = |then| changes.since(then).map(|slots| slots.collect::<Vec<_>>());
        assert_eq!(seen(start), Some(vec![3, 3, 4]));
        assert_eq!(seen(middle), Some(vec![3, 4]));
        assert_eq!(seen(changes.now()), Some(vec![]));
        let mut changes = changes.clone();
        for _ in 0..KEPT_MAX {
            changes.push(7);
        }
        assert!(changes.since(middle).is_none());
        assert_eq!(changes.since(changes.now()).map(Iterator::count), Some(0));
    }
}
