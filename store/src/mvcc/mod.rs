//! The replicated state machine: keys with their revisions, and history back to the
//! compaction point. Pure: the same transactions in the same order give the same
//! state on every server. Must not do I/O, read clocks or draw random numbers.
//!
//! History is the list of events, each with what was there before. A past state is
//! the present one with the later events undone, so keeping history costs no copy
//! of the tree and nothing per key.

mod apply;
mod compare;
mod leases;
mod limits;
mod sessions;
mod space;
mod tree;

pub use leases::Leases;
pub use limits::check_limits;
pub(crate) use limits::txn_bytes;
pub use sessions::{Session, Sessions};
pub use space::{Alarms, grows};
pub use tree::Tree;

use crate::codec::Change;
use crate::contract::*;
use bytes::Bytes;
use imbl::{OrdMap, Vector};
use std::sync::Arc;

/// History is cut to half of this when it grows past it, whatever its age: at some
/// 300 bytes an event beside the values, 200,000 events bound it to tens of MB.
pub const HISTORY_EVENTS_MAX: usize = 200_000;

/// A transaction larger than this is refused. Kubernetes' request bodies end at 3 MiB.
pub const TXN_BYTES_MAX: usize = 4 << 20;

/// Compares and operations of one transaction.
pub const TXN_OPS_MAX: usize = 16_384;

/// Transactions inside of transactions, the outermost counted.
pub const TXN_DEPTH_MAX: usize = 8;

/// Deletion marks kept before they are folded into coarser ones.
const MARKS_MAX: usize = 4096;

/// Depth (number of slashes) of a deletion mark, and the depth it is folded to.
const MARK_DEPTH: usize = 4;
const MARK_DEPTH_FOLDED: usize = 3;

/// All that is known at one revision. Cloning is O(1).
#[derive(Clone)]
pub struct State {
    revision: Revision,
    /// Oldest revision that can be read; the events of later ones are in `history`.
    compacted: Revision,
    tree: Tree,
    history: Vector<Arc<Event>>,
    /// Latest deletion under a directory of keys. A deleted key leaves no entry
    /// behind, and `last_change` must still not go back.
    marks: OrdMap<Bytes, Revision>,
    /// As they are now, in a past state too.
    leases: Leases,
    sessions: Sessions,
    /// Of the present and of history; in a past state, those of the present.
    bytes: u64,
    alarms: Alarms,
}

/// What a transaction did.
#[derive(Debug)]
pub struct Applied {
    pub result: TxnResult,
    pub events: Vec<Arc<Event>>,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of `key` up to and including its `depth`th slash (all of it, if it has fewer).
fn directory(key: &[u8], depth: usize) -> usize {
    let mut seen = 0;
    for (i, b) in key.iter().enumerate() {
        if *b == b'/' {
            seen += 1;
            if seen == depth {
                return i + 1;
            }
        }
    }
    // Fewer slashes: up to the last one.
    key.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1)
}

impl State {
    pub fn new() -> Self {
        State {
            revision: 1,
            compacted: 1,
            tree: Tree::default(),
            history: Vector::new(),
            marks: OrdMap::new(),
            leases: Leases::default(),
            sessions: Sessions::default(),
            bytes: 0,
            alarms: Alarms::new(),
        }
    }

    /// Puts a state back together from what was stored: the live entries, the changes
    /// after `compacted` in order, and the deletion marks. What a change led to is what
    /// the next change of its key found, or what is there now: the changes are undone,
    /// newest first, to meet it.
    pub fn restore(
        revision: Revision,
        compacted: Revision,
        entries: Vec<Entry>,
        changes: Vec<Change>,
        marks: impl IntoIterator<Item = (Bytes, Revision)>,
        leases: Vec<Lease>,
        sessions: Vec<(u64, Session)>,
        alarms: impl IntoIterator<Item = u64>,
    ) -> Self {
        let leases = Leases::restore(leases, &entries);
        let tree = Tree::from_entries(entries);
        let mut past = tree.clone();
        let mut history = Vec::with_capacity(changes.len());
        for Change {
            revision,
            key,
            previous,
        } in changes.into_iter().rev()
        {
            let entry = match &previous {
                Some(p) => past.insert(p.clone()),
                None => past.remove(&key),
            };
            history.push(Arc::new(Event {
                revision,
                entry,
                previous,
            }));
        }
        let (history, marks) = (history.into_iter().rev().collect(), marks.into_iter().collect());
        let mut state = State {
            revision,
            compacted,
            tree,
            history,
            marks,
            leases,
            sessions: Sessions::restore(sessions),
            bytes: 0,
            alarms: alarms.into_iter().collect(),
        };
        state.bytes = state.weigh();
        state
    }

    /// The same keys as the beginning of a new history, at a later revision: what anybody
    /// knows of the old one is older than all there is.
    pub fn reborn(mut self, revision: Revision) -> Self {
        self.revision = self.revision.max(revision);
        self.compacted = self.revision;
        self.history = Vector::new();
        self.sessions = Sessions::default();
        self.alarms = Alarms::new();
        self.bytes = self.weigh();
        self
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    pub fn history(&self) -> &Vector<Arc<Event>> {
        &self.history
    }

    pub fn marks(&self) -> &OrdMap<Bytes, Revision> {
        &self.marks
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    fn bound_history(&mut self) {
        if self.history.len() > HISTORY_EVENTS_MAX
            && let Some(event) = self.history.get(self.history.len() - HISTORY_EVENTS_MAX / 2)
        {
            self.compact(event.revision);
        }
    }

    /// Forgets history before `revision`. Returns the first revisions dropped and kept,
    /// or `None` if there was nothing to forget.
    pub fn compact(&mut self, revision: Revision) -> bool {
        let revision = revision.min(self.revision);
        if revision <= self.compacted {
            return false;
        }
        let kept = self.history.split_off(self.events_until(revision));
        let gone = std::mem::replace(&mut self.history, kept);
        self.bytes -= gone.iter().map(|e| space::of_event(e)).sum::<u64>();
        self.compacted = revision;
        true
    }

    /// Number of events in history whose revision is at most `revision`.
    fn events_until(&self, revision: Revision) -> usize {
        let (mut low, mut high) = (0, self.history.len());
        while low < high {
            let mid = low + (high - low) / 2;
            if self.history[mid].revision <= revision {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        low
    }

    /// A store that was never compacted knows everything since the beginning.
    fn is_compacted(&self, revision: Revision) -> bool {
        revision < self.compacted && self.compacted > 1
    }

    /// Is a reader at `revision`, or a watcher after it, still (and already) served?
    pub fn check_revision(&self, revision: Revision) -> Result<(), StoreError> {
        if self.is_compacted(revision) {
            return Err(StoreError::Compacted {
                asked: revision,
                oldest: self.compacted,
            });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current: self.revision,
            });
        }
        Ok(())
    }

    /// The state as it was at `revision`: the later events undone, O(events undone).
    pub fn at(&self, revision: Revision) -> Result<State, StoreError> {
        self.check_revision(revision)?;
        let mut past = self.clone();
        let until = self.events_until(revision);
        past.tree.undo(self.history.iter().skip(until).rev());
        past.history = past.history.take(until);
        past.revision = revision;
        Ok(past)
    }

    /// Events under `prefix` with a revision in `after+1..=until`.
    pub fn events(&self, prefix: &[u8], after: Revision, until: Revision) -> Vec<Arc<Event>> {
        let (from, to) = (self.events_until(after), self.events_until(until));
        if from >= to {
            return Vec::new();
        }
        let focus = self.history.focus().narrow(from..to);
        focus
            .into_iter()
            .filter(|e| e.key().starts_with(prefix))
            .cloned()
            .collect()
    }

    fn count_of(&self, range: &KeyRange) -> usize {
        match &range.end {
            RangeEnd::One => usize::from(self.tree.get(&range.start).is_some()),
            RangeEnd::Before(end) => self.tree.count(&range.start, Some(end)),
            RangeEnd::Open => self.tree.count(&range.start, None),
        }
    }

    fn entries<'a>(&'a self, prefix: &'a [u8], after: Option<&[u8]>) -> impl Iterator<Item = &'a Entry> {
        // The smallest key behind `after` is `after` followed by a zero byte.
        let from = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        self.tree
            .iter_from(&from)
            .take_while(move |e| e.key().starts_with(prefix))
    }
}

impl Snapshot for State {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.tree.get(key).cloned()
    }

    fn range(&self, prefix: &[u8], start_after: Option<&[u8]>, limit: usize) -> Page {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries: Vec<_> = self.entries(prefix, start_after).take(limit).cloned().collect();
        let remaining = match entries.last() {
            Some(last) if entries.len() == limit => {
                let end = prefix_end(prefix);
                self.tree.count(&[last.key(), &[0]].concat(), end.as_deref())
            }
            _ => 0,
        };
        Page { entries, remaining }
    }

    fn find(&self, range: &KeyRange, limit: usize) -> Found {
        if range.end == RangeEnd::One {
            let entries: Vec<_> = self.tree.get(&range.start).cloned().into_iter().collect();
            let count = entries.len();
            return Found { entries, count };
        }
        let count = self.count_of(range);
        let wanted = match limit {
            0 => count,
            limit => limit.min(count),
        };
        let entries = self.tree.iter_from(&range.start).take(wanted).cloned().collect();
        Found { entries, count }
    }

    fn count(&self, prefix: &[u8]) -> usize {
        self.tree.count(prefix, prefix_end(prefix).as_deref())
    }

    fn last_change(&self, prefix: &[u8]) -> Revision {
        let live = self.tree.max_mod(prefix, prefix_end(prefix).as_deref());
        let below = self
            .marks
            .range(Bytes::copy_from_slice(prefix)..)
            .take_while(|(k, _)| k.starts_with(prefix));
        let above = [MARK_DEPTH, MARK_DEPTH_FOLDED].into_iter().filter_map(|d| {
            let dir = &prefix[..directory(prefix, d)];
            self.marks.get(dir)
        });
        // A mark of a folded map may lie at the root; a past state (see `at`) has the
        // present marks, and at its own revision it is as fresh as can be.
        let root = self.marks.get(&b""[..]);
        let deleted = below
            .map(|(_, r)| r)
            .chain(above)
            .chain(root)
            .copied()
            .max()
            .unwrap_or(0);
        live.max(deleted).min(self.revision)
    }
}

#[cfg(test)]
#[path = "mvcc_test.rs"]
mod mvcc_test;
#[cfg(test)]
#[path = "txn_test.rs"]
mod txn_test;
