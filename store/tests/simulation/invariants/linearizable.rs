//! Each object behaves as if what its clients asked for was done at one moment between
//! asking and being answered. The search is Wing and Gong's with Lowe's memory: take
//! whatever may come next, go on, and go back where that leads nowhere; which sets of
//! operations were taken, and what the object was then, is not tried twice.
//!
//! Revisions are not looked at: that clients' answers make sense is judged by values.

use crate::clients::{Action, Outcome, Record};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A search that tries more states than this gives up: the seed asks too much.
const STEPS_MAX: usize = 2_000_000;

#[derive(Debug, Clone, Copy)]
struct Operation {
    invoked: u64,
    /// `u64::MAX`: it may be done at any time later, or never.
    returned: u64,
    action: Action,
    outcome: Outcome,
}

impl Operation {
    /// What the object is afterwards, if this could have happened to it.
    fn apply(&self, value: Option<u64>) -> Option<Option<u64>> {
        match (self.action, self.outcome) {
            (Action::Put(new), _) => Some(Some(new)),
            (Action::Read, Outcome::Found(found)) => (found == value).then_some(value),
            (Action::Swap(expected, new), Outcome::Done) => (expected == value).then_some(new),
            (Action::Swap(expected, _), Outcome::Found(found)) => {
                (found == value && found != expected).then_some(value)
            }
            // Of unknown outcome: it may have found another value, and changed nothing.
            (Action::Swap(expected, new), _) if expected == value => Some(new),
            (Action::Swap(..), _) => Some(value),
            (Action::Read, _) => Some(value),
        }
    }
}

/// The operations on each object that matter.
fn operations(records: &[Record]) -> BTreeMap<&str, Vec<Operation>> {
    let mut observed: BTreeSet<(&str, Option<u64>)> = BTreeSet::new();
    for record in records {
        if let Outcome::Found(found) = record.outcome {
            observed.insert((&record.object, found));
        }
        if let (Action::Swap(expected, _), Outcome::Done) = (record.action, record.outcome) {
            observed.insert((&record.object, expected));
        }
    }
    // Who sees what a swap wrote knows that it had found what it expected, and so on.
    loop {
        let before = observed.len();
        for record in records {
            if let (Action::Swap(expected, new), Outcome::Unknown) = (record.action, record.outcome)
                && observed.contains(&(&*record.object, new))
            {
                observed.insert((&record.object, expected));
            }
        }
        if observed.len() == before {
            break;
        }
    }
    let mut objects: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for record in records {
        let wrote = match record.action {
            Action::Put(value) => Some(value),
            Action::Swap(_, value) => value,
            Action::Read => None,
        };
        let matters = match record.outcome {
            Outcome::Never => false,
            // Nobody saw it: that it was never done explains all that is known.
            Outcome::Unknown => record.action != Action::Read && observed.contains(&(&record.object, wrote)),
            Outcome::Done | Outcome::Found(_) => true,
        };
        if matters {
            objects.entry(&record.object).or_default().push(Operation {
                invoked: record.invoked,
                returned: match record.outcome {
                    Outcome::Unknown => u64::MAX,
                    _ => record.returned,
                },
                action: record.action,
                outcome: record.outcome,
            });
        }
    }
    objects
}

/// Those taken so far: all of the first `before`, and these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Taken {
    before: usize,
    further: BTreeSet<usize>,
}

impl Taken {
    fn has(&self, at: usize) -> bool {
        at < self.before || self.further.contains(&at)
    }

    fn with(&self, at: usize) -> Taken {
        let mut taken = self.clone();
        taken.further.insert(at);
        while taken.further.remove(&taken.before) {
            taken.before += 1;
        }
        taken
    }
}

fn search(mut operations: Vec<Operation>) -> Result<(), String> {
    operations.sort_by_key(|o| o.invoked);
    let mut seen: HashSet<(Taken, Option<u64>)> = HashSet::new();
    let mut open = vec![(Taken::default(), None)];
    let mut furthest = Taken::default();
    while let Some((taken, value)) = open.pop() {
        let rest = |at: &usize| !taken.has(*at);
        let left: Vec<usize> = (taken.before..operations.len()).filter(rest).collect();
        if left.iter().all(|at| operations[*at].returned == u64::MAX) {
            return Ok(());
        }
        // What began after another had ended cannot come before it.
        let first_end = left.iter().map(|at| operations[*at].returned).min().unwrap_or(u64::MAX);
        for at in left.into_iter().rev().filter(|at| operations[*at].invoked < first_end) {
            let Some(next) = operations[at].apply(value) else {
                continue;
            };
            let state = (taken.with(at), next);
            if state.0.before > furthest.before {
                furthest = state.0.clone();
            }
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
        if seen.len() > STEPS_MAX {
            return Err("it takes too long to find out".into());
        }
    }
    let around: Vec<_> = operations
        .iter()
        .skip(furthest.before.saturating_sub(3))
        .take(8)
        .collect();
    Err(format!("no order explains it; the search ends around {around:#?}"))
}

pub fn check(records: &[Record]) -> Result<(), String> {
    for (object, operations) in operations(records) {
        search(operations).map_err(|why| format!("{object} is not linearizable: {why}"))?;
    }
    Ok(())
}
