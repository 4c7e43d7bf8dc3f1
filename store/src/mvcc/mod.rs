//! The replicated state machine: keys with their revisions, and history back to the
//! compaction point. Pure: the same transactions in the same order give the same
//! state on every server. Must not do I/O, read clocks or draw random numbers.
//!
//! History is the list of events, each with what was there before. A past state is
//! the present one with the later events undone, so keeping history costs no copy
//! of the tree and nothing per key.

mod tree;

pub use tree::{Tree, prefix_end};

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

/// Bytes a transaction carries, for limits.
pub fn txn_bytes(txn: &Txn) -> usize {
    let header = |h: &Header| {
        h.labels
            .iter()
            .chain(h.fields.iter())
            .map(|(k, v)| k.len() + v.len() + 4)
            .sum::<usize>()
    };
    let compares = txn.compare.iter().map(|c| match c {
        Compare::Body(k, b) => k.len() + b.len(),
        Compare::ModRevision(k, _) | Compare::CreateRevision(k, _) | Compare::Version(k, _) => k.len(),
    });
    let ops = txn.then.iter().chain(&txn.or_else).map(|op| match op {
        Op::Put { key, record } => key.len() + record.body.len() + header(&record.header),
        Op::Delete { key } | Op::Get { key } => key.len(),
        Op::DeletePrefix { prefix } => prefix.len(),
    });
    compares.chain(ops).sum::<usize>() + 16 * (txn.compare.len() + txn.then.len() + txn.or_else.len())
}

/// Refuses what no server would take, before it reaches the log.
pub fn check_limits(txn: &Txn) -> Result<(), StoreError> {
    let bytes = txn_bytes(txn);
    if bytes > TXN_BYTES_MAX {
        return Err(StoreError::TooLarge {
            bytes,
            max: TXN_BYTES_MAX,
        });
    }
    let ops = txn.compare.len() + txn.then.len() + txn.or_else.len();
    if ops > TXN_OPS_MAX {
        return Err(StoreError::Internal(format!(
            "a transaction of {ops} operations; at most {TXN_OPS_MAX} are allowed"
        )));
    }
    Ok(())
}

/// A value in one allocation of its own, so that it does not pin the buffer (a
/// request, a log record) that it was cut from.
fn own(key: &Bytes, body: &Bytes) -> (Bytes, Bytes) {
    let mut joined = Vec::with_capacity(key.len() + body.len());
    joined.extend_from_slice(key);
    joined.extend_from_slice(body);
    let mut key_bytes = Bytes::from(joined);
    let body = key_bytes.split_off(key.len());
    (key_bytes, body)
}

/// An entry that shares no memory with what it was read from.
pub fn owned_entry(entry: Entry) -> Entry {
    let (key, body) = own(&entry.key, &entry.record.body);
    Entry {
        key,
        record: Record {
            header: entry.record.header,
            body,
        },
        ..entry
    }
}

impl State {
    pub fn new() -> Self {
        State {
            revision: 1,
            compacted: 1,
            tree: Tree::default(),
            history: Vector::new(),
            marks: OrdMap::new(),
        }
    }

    /// Puts a state back together from what was stored: the live entries, the changes
    /// after `compacted` in order, and the deletion marks. What a change led to is what
    /// the next change of its key found, or what is there now: the changes are undone,
    /// newest first, to meet it.
    pub fn restore(
        revision: Revision,
        compacted: Revision,
        entries: Vec<Arc<Entry>>,
        changes: Vec<Change>,
        marks: impl IntoIterator<Item = (Bytes, Revision)>,
    ) -> Self {
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
            let key = entry.as_ref().or(previous.as_ref()).map_or(key, |e| e.key.clone());
            history.push(Arc::new(Event {
                revision,
                key,
                entry,
                previous,
            }));
        }
        let (history, marks) = (history.into_iter().rev().collect(), marks.into_iter().collect());
        State {
            revision,
            compacted,
            tree,
            history,
            marks,
        }
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

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub fn apply(&mut self, txn: &Txn) -> Applied {
        let succeeded = txn.compare.iter().all(|c| self.holds(c));
        let ops = if succeeded { &txn.then } else { &txn.or_else };
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Put { key, record } => OpResult::Put {
                    previous: self.put(key, record, revision, &mut events),
                },
                Op::Delete { key } => OpResult::Deleted {
                    previous: self.delete(key, revision, &mut events).into_iter().collect(),
                },
                Op::DeletePrefix { prefix } => {
                    let keys: Vec<Bytes> = self.entries(prefix, None).map(|e| e.key.clone()).collect();
                    let previous = keys
                        .iter()
                        .filter_map(|k| self.delete(k, revision, &mut events))
                        .collect();
                    OpResult::Deleted { previous }
                }
                Op::Get { key } => OpResult::Got(self.tree.get(key).cloned()),
            });
        }
        if !events.is_empty() {
            self.revision = revision;
            coalesce(&mut events);
            self.history.extend(events.iter().cloned());
            self.bound_history();
        }
        Applied {
            result: TxnResult {
                succeeded,
                revision: self.revision,
                results,
            },
            events,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let at = |key: &Bytes| self.tree.get(key);
        match compare {
            Compare::ModRevision(key, r) => at(key).map_or(0, |e| e.mod_revision) == *r,
            Compare::CreateRevision(key, r) => at(key).map_or(0, |e| e.create_revision) == *r,
            Compare::Version(key, v) => at(key).map_or(0, |e| e.version) == *v,
            Compare::Body(key, body) => at(key).is_some_and(|e| e.record.body == *body),
        }
    }

    fn put(
        &mut self,
        key: &Bytes,
        record: &Record,
        revision: Revision,
        events: &mut Vec<Arc<Event>>,
    ) -> Option<Arc<Entry>> {
        let previous = self.tree.get(key).cloned();
        let (key, body) = own(key, &record.body);
        let entry = Arc::new(Entry {
            key: key.clone(),
            record: Record {
                header: record.header.clone(),
                body,
            },
            create_revision: previous.as_ref().map_or(revision, |p| p.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |p| p.version + 1),
        });
        self.tree.insert(entry.clone());
        events.push(Arc::new(Event {
            revision,
            key,
            entry: Some(entry),
            previous: previous.clone(),
        }));
        previous
    }

    fn delete(&mut self, key: &[u8], revision: Revision, events: &mut Vec<Arc<Event>>) -> Option<Arc<Entry>> {
        let previous = self.tree.remove(key)?;
        let key = previous.key.clone();
        self.mark(&key, revision);
        events.push(Arc::new(Event {
            revision,
            key,
            entry: None,
            previous: Some(previous.clone()),
        }));
        Some(previous)
    }

    fn mark(&mut self, key: &[u8], revision: Revision) {
        self.marks
            .insert(Bytes::copy_from_slice(&key[..directory(key, MARK_DEPTH)]), revision);
        if self.marks.len() > MARKS_MAX {
            let mut folded: OrdMap<Bytes, Revision> = OrdMap::new();
            for (dir, rev) in &self.marks {
                // Should even that not be coarse enough, the marks shrink to one for all keys.
                let depth = directory(dir, MARK_DEPTH_FOLDED);
                let dir = if folded.len() >= MARKS_MAX / 2 {
                    Bytes::new()
                } else {
                    dir.slice(..depth)
                };
                let highest = folded.get(&dir).copied().unwrap_or(0).max(*rev);
                folded.insert(dir, highest);
            }
            self.marks = folded;
        }
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
        self.history = kept;
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

    /// Is a reader at `revision`, or a watcher after it, still (and already) served?
    pub fn check_revision(&self, revision: Revision) -> Result<(), StoreError> {
        // A store that was never compacted knows everything since the beginning.
        if revision < self.compacted && self.compacted > 1 {
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
        for event in self.history.iter().skip(until).rev() {
            match &event.previous {
                Some(entry) => past.tree.insert(entry.clone()),
                None => past.tree.remove(&event.key),
            };
        }
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
            .filter(|e| e.key.starts_with(prefix))
            .cloned()
            .collect()
    }

    fn entries<'a>(&'a self, prefix: &'a [u8], after: Option<&[u8]>) -> impl Iterator<Item = &'a Arc<Entry>> {
        // The smallest key behind `after` is `after` followed by a zero byte.
        let from = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        self.tree
            .iter_from(&from)
            .take_while(move |e| e.key.starts_with(prefix))
    }
}

/// Several changes of one key in one transaction become one event.
fn coalesce(events: &mut Vec<Arc<Event>>) {
    if events.len() < 2 {
        return;
    }
    let mut seen: std::collections::HashMap<Bytes, usize> = std::collections::HashMap::with_capacity(events.len());
    let mut merged: Vec<Option<Arc<Event>>> = Vec::with_capacity(events.len());
    for event in events.drain(..) {
        match seen.get(&event.key) {
            Some(&at) => {
                let first = merged[at].take();
                let previous = first.and_then(|f| f.previous.clone());
                merged[at] = Some(Arc::new(Event {
                    previous,
                    ..(*event).clone()
                }));
            }
            None => {
                seen.insert(event.key.clone(), merged.len());
                merged.push(Some(event));
            }
        }
    }
    // A key that was created and deleted again has changed nothing for anybody.
    events.extend(
        merged
            .into_iter()
            .flatten()
            .filter(|e| e.entry.is_some() || e.previous.is_some()),
    );
}

impl Snapshot for State {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.tree.get(key).cloned()
    }

    fn range(&self, prefix: &[u8], start_after: Option<&[u8]>, limit: usize) -> Page {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries: Vec<_> = self.entries(prefix, start_after).take(limit).cloned().collect();
        let remaining = match entries.last() {
            Some(last) if entries.len() == limit => {
                let end = prefix_end(prefix);
                self.tree.count(&[&last.key[..], &[0]].concat(), end.as_deref())
            }
            _ => 0,
        };
        Page { entries, remaining }
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
