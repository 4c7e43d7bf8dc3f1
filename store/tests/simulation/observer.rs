//! Sees every state that a server comes to, and keeps what was committed: the history
//! that clients, watchers and final states are held against.

use crate::invariants::{leases, quota, same_state};
use crate::random::lock;
use skiff_store::mvcc::State;
use skiff_store::{Entry, Snapshot};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A change of one key as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// The number that was written; `None`: deleted.
    pub value: Option<u64>,
    pub version: u64,
    pub lease: i64,
}

/// What was committed at each revision.
pub type History = BTreeMap<u64, Vec<Change>>;

#[derive(Default)]
struct Seen {
    history: History,
    /// By log index: what the state there comes to, and who came to it first.
    states: BTreeMap<u64, (same_state::Digest, u64)>,
    /// By server: the revision up to which its history was compared.
    known: BTreeMap<u64, u64>,
    failures: Vec<String>,
}

pub struct Observer {
    seen: Mutex<Seen>,
    quota: u64,
    told: bool,
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Keys' bodies are numbers, each written once.
pub fn number(entry: &Entry) -> u64 {
    text(entry.body()).parse().unwrap_or(u64::MAX)
}

impl Observer {
    /// `quota`: what states may grow to; 0: no end.
    pub fn new(quota: u64) -> Self {
        Observer {
            seen: Mutex::default(),
            quota,
            told: std::env::var_os("SKIFF_SIM_TRACE").is_some(),
        }
    }

    /// A server starts: what it has is compared anew.
    pub fn begins(&self, server: u64) {
        lock(&self.seen).known.remove(&server);
    }

    pub fn applied(&self, server: u64, index: u64, state: &State) {
        let mut seen = lock(&self.seen);
        let seen = &mut *seen;
        if self.told {
            eprintln!(
                "          server {server} has applied {index}, revision {}",
                state.revision()
            );
        }
        let digest = same_state::digest(state);
        let (first, by) = *seen.states.entry(index).or_insert((digest, server));
        if first != digest {
            let what = format!("servers {by} and {server} differ at log index {index}: {first:?}, {digest:?}");
            seen.failures.push(what);
        }
        seen.failures.extend(leases::orphans(state));
        seen.failures.extend(quota::exceeded(state, self.quota));
        let known = seen.known.get(&server).copied().unwrap_or(0).max(state.compacted());
        let mut fresh: History = BTreeMap::new();
        for event in state.history().iter().rev().take_while(|e| e.revision > known) {
            let entry = event.entry.as_ref();
            fresh.entry(event.revision).or_default().push(Change {
                key: text(event.key()),
                value: entry.map(number),
                version: entry.map_or(0, |e| e.version()),
                lease: entry.map_or(0, |e| e.lease()),
            });
        }
        for (revision, mut changes) in fresh {
            changes.reverse();
            let committed = seen.history.entry(revision).or_insert_with(|| changes.clone());
            if *committed != changes {
                let what = format!("server {server} has {changes:?} at revision {revision}, others {committed:?}");
                seen.failures.push(what);
            }
        }
        seen.known.insert(server, state.revision());
    }

    pub fn fail(&self, what: String) {
        lock(&self.seen).failures.push(what);
    }

    pub fn failure(&self) -> Option<String> {
        lock(&self.seen).failures.first().cloned()
    }

    pub fn history(&self) -> History {
        lock(&self.seen).history.clone()
    }
}
