//! What a transaction does to the state: which branch, in which order, with which
//! events. All or nothing: what can refuse it is looked at before anything changes. Pure.

use super::*;
use std::collections::HashMap;

/// One transaction under way.
struct Run {
    revision: Revision,
    events: Vec<Arc<Event>>,
}

impl State {
    pub fn apply(&mut self, txn: &Txn) -> Result<Applied, Refused> {
        let mut path = Vec::new();
        self.choose(txn, &mut path);
        self.admit(txn, &mut path.iter().copied())?;
        let mut run = Run {
            revision: self.revision + 1,
            events: Vec::new(),
        };
        let result = self.branch(txn, &mut path.into_iter(), &mut run);
        Ok(self.conclude(result, run.events))
    }

    /// Takes a lease into the books; it lives until it is revoked.
    pub fn grant(&mut self, lease: Lease) -> Result<(), Refused> {
        self.leases.grant(lease)
    }

    /// Ends a lease, and with it its keys, in one revision.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Applied, Refused> {
        let keys = self.leases.revoke(id)?;
        let revision = self.revision + 1;
        let mut events = Vec::with_capacity(keys.len());
        let previous = keys
            .iter()
            .filter_map(|key| self.delete(key, revision, &mut events))
            .collect();
        let result = TxnResult {
            succeeded: true,
            revision,
            results: vec![OpResult::Deleted { previous }],
        };
        Ok(self.conclude(result, events))
    }

    fn conclude(&mut self, mut result: TxnResult, mut events: Vec<Arc<Event>>) -> Applied {
        if !events.is_empty() {
            self.revision += 1;
            coalesce(&mut events);
            self.bytes += events.iter().map(|e| space::of_event(e)).sum::<u64>();
            self.history.extend(events.iter().cloned());
            self.bound_history();
        }
        settle(&mut result, self.revision);
        Applied { result, events }
    }

    /// Which branches are taken, outermost first: decided before anything is written.
    fn choose(&self, txn: &Txn, path: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|c| self.holds(c));
        path.push(succeeded);
        for op in branch_of(txn, succeeded) {
            if let Op::Txn(inner) = op {
                self.choose(inner, path);
            }
        }
    }

    /// Refuses what cannot be done, by the state as it was before the transaction.
    fn admit(&self, txn: &Txn, path: &mut impl Iterator<Item = bool>) -> Result<(), Refused> {
        let succeeded = path.next().unwrap_or_default();
        for op in branch_of(txn, succeeded) {
            match op {
                Op::PutWith { key, record, lease } => {
                    if (record.is_none() || lease.is_none()) && self.tree.get(key).is_none() {
                        return Err(Refused::KeyNotFound);
                    }
                    match lease {
                        Some(id) if *id != 0 && !self.leases.contains(*id) => return Err(Refused::LeaseNotFound(*id)),
                        _ => {}
                    }
                }
                Op::Range(query) if query.revision > self.revision => {
                    return Err(Refused::FutureRevision {
                        asked: query.revision,
                        current: self.revision,
                    });
                }
                Op::Range(query) if query.revision > 0 && self.is_compacted(query.revision) => {
                    return Err(Refused::Compacted {
                        asked: query.revision,
                        oldest: self.compacted,
                    });
                }
                Op::Txn(inner) => self.admit(inner, path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn branch(&mut self, txn: &Txn, path: &mut impl Iterator<Item = bool>, run: &mut Run) -> TxnResult {
        let succeeded = path.next().unwrap_or_default();
        let ops = branch_of(txn, succeeded);
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Txn(inner) => OpResult::Txn(Box::new(self.branch(inner, path, run))),
                op => self.operate(op, run),
            });
        }
        TxnResult {
            succeeded,
            revision: run.revision,
            results,
        }
    }

    fn operate(&mut self, op: &Op, run: &mut Run) -> OpResult {
        match op {
            Op::Put { key, record } => OpResult::Put {
                previous: self.put(key, record, 0, run),
            },
            Op::PutWith { key, record, lease } => {
                let old = self.tree.get(key).cloned();
                // That it is there was looked at; a deletion in the same transaction leaves nothing to keep.
                let kept = || old.as_ref().map(Entry::record).unwrap_or_default();
                let record = record.clone().unwrap_or_else(kept);
                let lease = lease.unwrap_or_else(|| old.as_ref().map_or(0, Entry::lease));
                OpResult::Put {
                    previous: self.put(key, &record, lease, run),
                }
            }
            Op::Delete { key } => OpResult::Deleted {
                previous: self.delete(key, run.revision, &mut run.events).into_iter().collect(),
            },
            Op::DeleteRange(range) => self.delete_range(range, run),
            Op::Get { key } => OpResult::Got(self.tree.get(key).cloned()),
            Op::Range(query) => OpResult::Range(self.query(query, run)),
            // Taken apart by the caller.
            Op::Txn(_) => OpResult::Got(None),
        }
    }

    fn query(&self, query: &Query, run: &Run) -> Found {
        let answer = |state: &State| match query.count_only {
            true => Found {
                entries: Vec::new(),
                count: state.count_of(&query.range),
            },
            false => state.find(&query.range, query.limit),
        };
        match query.revision {
            0 => answer(self),
            // The transaction's own writes are of a later revision.
            revision => {
                let mut before = self.clone();
                before.tree.undo(run.events.iter().rev());
                before.at(revision).map(|past| answer(&past)).unwrap_or_default()
            }
        }
    }

    fn delete_range(&mut self, range: &KeyRange, run: &mut Run) -> OpResult {
        let keys = self.find(range, 0).entries;
        let previous = keys
            .iter()
            .filter_map(|e| self.delete(e.key(), run.revision, &mut run.events))
            .collect();
        OpResult::Deleted { previous }
    }

    fn put(&mut self, key: &[u8], record: &Record, lease: LeaseId, run: &mut Run) -> Option<Entry> {
        let mut made = None;
        let previous = self.tree.upsert(key, |previous| {
            let before = previous.map(Entry::numbers);
            let numbers = Numbers {
                create_revision: before.map_or(run.revision, |b| b.create_revision),
                mod_revision: run.revision,
                version: before.map_or(1, |b| b.version + 1),
                lease,
            };
            made.insert(Entry::new(key, record, numbers)).clone()
        });
        let before = previous.as_ref().map_or(0, Entry::lease);
        if before != lease {
            self.leases.moved(key, before, lease);
        }
        self.bytes += made.as_ref().map_or(0, space::of_entry);
        self.bytes -= previous.as_ref().map_or(0, space::of_entry);
        run.events.push(Arc::new(Event {
            revision: run.revision,
            entry: made,
            previous: previous.clone(),
        }));
        previous
    }

    fn delete(&mut self, key: &[u8], revision: Revision, events: &mut Vec<Arc<Event>>) -> Option<Entry> {
        let previous = self.tree.remove(key)?;
        self.bytes -= space::of_entry(&previous);
        let lease = previous.lease();
        if lease != 0 {
            self.leases.moved(key, lease, 0);
        }
        self.mark(key, revision);
        events.push(Arc::new(Event {
            revision,
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
}

fn branch_of(txn: &Txn, succeeded: bool) -> &[Op] {
    match succeeded {
        true => &txn.then,
        false => &txn.or_else,
    }
}

/// The revision that the whole came to, in the results of those inside too.
fn settle(result: &mut TxnResult, revision: Revision) {
    result.revision = revision;
    for inner in &mut result.results {
        if let OpResult::Txn(inner) = inner {
            settle(inner, revision);
        }
    }
}

/// Several changes of one key in one transaction become one event.
fn coalesce(events: &mut Vec<Arc<Event>>) {
    if events.len() < 2 {
        return;
    }
    let mut seen: HashMap<&[u8], usize> = HashMap::with_capacity(events.len());
    let mut merged: Vec<Arc<Event>> = Vec::with_capacity(events.len());
    for event in &*events {
        match seen.get(event.key()) {
            Some(&at) => {
                let previous = merged[at].previous.clone();
                merged[at] = Arc::new(Event {
                    previous,
                    ..(**event).clone()
                });
            }
            None => {
                seen.insert(event.key(), merged.len());
                merged.push(event.clone());
            }
        }
    }
    // A key that was created and deleted again has changed nothing for anybody.
    merged.retain(|e| e.entry.is_some() || e.previous.is_some());
    *events = merged;
}
