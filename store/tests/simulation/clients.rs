//! Clients: what they ask, what they are told, and when. Values are numbers that are
//! written once each, so that whoever reads one knows who wrote it.

use crate::observer::{number, text};
use crate::random::lock;
use crate::world::{Up, World};
use bytes::Bytes;
use skiff_store::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Put(u64),
    /// If the first is there, the second takes its place. `None` is no value.
    Swap(Option<u64>, Option<u64>),
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A swap that found another value.
    Found(Option<u64>),
    /// It was promised that this was not done.
    Never,
    /// It was done, or not, or is done later.
    Unknown,
}

/// One thing that a client asked for.
#[derive(Debug, Clone)]
pub struct Record {
    #[allow(dead_code, reason = "read in messages")]
    pub client: u64,
    /// What it is about: a key, or keys that are always written together.
    pub object: String,
    pub action: Action,
    /// Places in the order of all that clients did and heard.
    pub invoked: u64,
    pub returned: u64,
    pub outcome: Outcome,
    /// The store's, as it was told; 0 if it was not.
    pub revision: u64,
    #[allow(dead_code, reason = "read in messages")]
    pub server: u64,
}

/// What a reader of a server's own state saw.
#[derive(Debug, Clone)]
pub struct Glance {
    #[allow(dead_code, reason = "read in messages")]
    pub server: u64,
    pub revision: u64,
    pub key: String,
    pub value: Option<u64>,
}

/// All that one watcher was told, through whatever servers.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Revision, key, value.
    pub events: Vec<(u64, String, Option<u64>)>,
    /// Up to a revision nothing is missing, with the number of events up to then.
    pub progress: Vec<(u64, usize)>,
    /// Jumps over what was compacted: from, to.
    pub jumps: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Book {
    clock: u64,
    next_value: u64,
    records: Vec<Record>,
    glances: Vec<Glance>,
    watched: BTreeMap<u64, Watched>,
    /// Leases that were revoked, with the revision and when that was known.
    revoked: Vec<(i64, u64)>,
}

#[derive(Default)]
pub struct Clients(Mutex<Book>);

pub const SINGLE_KEYS: u64 = 4;
pub const PAIR: [&str; 2] = ["/pair/a", "/pair/b"];

/// A client gives up after this, in milliseconds.
const PATIENCE_MS: std::ops::Range<u64> = 500..14_000;

fn record_of(value: u64, bulk: usize) -> skiff_store::Record {
    let header = Header {
        labels: [("bulk", "x".repeat(bulk))].into_iter().collect(),
        ..Header::default()
    };
    skiff_store::Record {
        header: Arc::new(header),
        body: Bytes::from(value.to_string()),
    }
}

fn keys_of(object: &str) -> Vec<Bytes> {
    match object {
        "/pair" => PAIR.iter().map(|k| Bytes::from_static(k.as_bytes())).collect(),
        key => vec![Bytes::copy_from_slice(key.as_bytes())],
    }
}

fn value_at(state: &dyn Snapshot, key: &[u8]) -> Option<u64> {
    state.get(key).map(|e| number(&e))
}

/// The transaction for an action; compares are on the revisions that were seen.
fn txn_of(object: &str, action: Action, seen: &[u64], bulk: usize) -> Txn {
    let keys = keys_of(object);
    let write = |value: Option<u64>| {
        let op = |key: &Bytes| match value {
            Some(value) => Op::Put {
                key: key.clone(),
                record: record_of(value, bulk),
            },
            None => Op::Delete { key: key.clone() },
        };
        keys.iter().map(op).collect::<Vec<_>>()
    };
    match action {
        Action::Put(value) => Txn {
            then: write(Some(value)),
            ..Txn::default()
        },
        Action::Swap(_, value) => Txn {
            compare: keys
                .iter()
                .zip(seen)
                .map(|(k, r)| Compare::ModRevision(k.clone(), *r))
                .collect(),
            then: write(value),
            or_else: keys.iter().map(|k| Op::Get { key: k.clone() }).collect(),
        },
        Action::Read => Txn::default(),
    }
}

fn outcome_of(result: Option<Result<TxnResult, StoreError>>) -> (Outcome, u64) {
    match result {
        Some(Ok(done)) if done.succeeded => (Outcome::Done, done.revision),
        Some(Ok(done)) => match done.results.first() {
            Some(OpResult::Got(found)) => (Outcome::Found(found.as_ref().map(number)), done.revision),
            _ => (Outcome::Done, done.revision),
        },
        Some(Err(StoreError::NoLeader | StoreError::NoSpace | StoreError::Refused(_))) => (Outcome::Never, 0),
        Some(Err(_)) | None => (Outcome::Unknown, 0),
    }
}

impl Clients {
    fn tick(&self) -> u64 {
        let mut book = lock(&self.0);
        book.clock += 1;
        book.clock
    }

    fn new_value(&self) -> u64 {
        let mut book = lock(&self.0);
        book.next_value += 1;
        book.next_value
    }

    pub fn records(&self) -> Vec<Record> {
        lock(&self.0).records.clone()
    }

    pub fn glances(&self) -> Vec<Glance> {
        lock(&self.0).glances.clone()
    }

    pub fn watched(&self) -> Vec<Watched> {
        lock(&self.0).watched.values().cloned().collect()
    }

    pub fn revoked(&self) -> Vec<(i64, u64)> {
        lock(&self.0).revoked.clone()
    }

    /// Does an action, and records what came of it.
    async fn act(&self, world: &World, client: u64, up: &Up, object: &str, action: Action, seen: &[u64]) -> bool {
        let limit = world.random.millis(PATIENCE_MS);
        let invoked = self.tick();
        let (outcome, revision, action) = match action {
            Action::Read => {
                let read = up.ask(limit, up.store.snapshot_linearizable()).await;
                match read {
                    Some(Ok(state)) => {
                        let values: Vec<_> = keys_of(object).iter().map(|k| value_at(&*state, k)).collect();
                        if values.windows(2).any(|w| w[0] != w[1]) {
                            world
                                .observer
                                .fail(format!("half of a transaction was read: {object} is {values:?}"));
                        }
                        // What a read saw, it found.
                        (Outcome::Found(values[0]), state.revision(), action)
                    }
                    _ => (Outcome::Never, 0, action),
                }
            }
            action => {
                let bulk = world.random.below(0..400) as usize;
                let txn = txn_of(object, action, seen, bulk);
                let answer = up.ask(limit, up.store.txn(txn)).await;
                if let Some(Err(error)) = &answer {
                    world.tell(|| format!("client {client} hears of server {}: {error:?}", up.host.id));
                }
                let (outcome, revision) = outcome_of(answer);
                (outcome, revision, action)
            }
        };
        let returned = self.tick();
        world.random.note(returned << 32 | revision);
        let record = Record {
            client,
            object: object.into(),
            action,
            invoked,
            returned,
            outcome,
            revision,
            server: up.host.id,
        };
        world.tell(|| format!("client {record:?}"));
        lock(&self.0).records.push(record);
        matches!(outcome, Outcome::Done | Outcome::Found(_))
    }

    /// One client's life, until the end of the simulation.
    pub async fn run(self: Arc<Self>, world: Arc<World>, client: u64) {
        let random = world.random.clone();
        while !world.is_healed() {
            sleep(random.millis(5..300)).await;
            let Some(up) = world.any_up() else { continue };
            let object = match random.below(0..SINGLE_KEYS + 1) {
                SINGLE_KEYS => "/pair".to_string(),
                n => format!("/key/{n}"),
            };
            let value = self.new_value();
            match random.below(0..22) {
                0..=6 => self.act(&world, client, &up, &object, Action::Put(value), &[]).await,
                7..=12 => {
                    let new = (!random.once_in(4)).then_some(value);
                    let (seen, revisions) = self.glance(&world, &up, &object);
                    self.act(&world, client, &up, &object, Action::Swap(seen, new), &revisions)
                        .await
                }
                13..=17 => self.act(&world, client, &up, &object, Action::Read, &[]).await,
                18 => self.lease(&world, &up, value).await,
                19 => self.compact(&up, random.below(0..40)).await,
                20 => up.ask(Duration::from_secs(12), up.store.defragment()).await.is_some(),
                _ => self.alarm(&up, !random.once_in(4)).await,
            };
        }
    }

    /// Looks at a server's own state.
    fn glance(&self, world: &World, up: &Up, object: &str) -> (Option<u64>, Vec<u64>) {
        let state = up.store.snapshot();
        let entries: Vec<_> = keys_of(object).iter().map(|k| (k.clone(), state.get(k))).collect();
        let mut book = lock(&self.0);
        for (key, entry) in &entries {
            book.glances.push(Glance {
                server: up.host.id,
                revision: state.revision(),
                key: text(key),
                value: entry.as_ref().map(number),
            });
        }
        let values: Vec<_> = entries.iter().map(|(_, e)| e.as_ref().map(number)).collect();
        if values.windows(2).any(|w| w[0] != w[1]) {
            world
                .observer
                .fail(format!("half of a transaction was seen: {object} is {values:?}"));
        }
        let revisions = entries.iter().map(|(_, e)| e.as_ref().map_or(0, |e| e.mod_revision()));
        (values[0], revisions.collect())
    }

    async fn compact(&self, up: &Up, keep: u64) -> bool {
        let revision = up.store.snapshot().revision().saturating_sub(keep);
        let compacted = up.ask(Duration::from_secs(12), up.store.compact(revision)).await;
        matches!(compacted, Some(Ok(())))
    }

    /// An operator raises a server's alarm, which ends by itself, or takes all back.
    async fn alarm(&self, up: &Up, on: bool) -> bool {
        let servers = if on { vec![up.host.id] } else { up.store.alarms() };
        for server in servers {
            let limit = Duration::from_secs(12);
            up.ask(limit, up.store.set_alarm(server, on)).await;
        }
        true
    }

    /// A lease with a key, kept alive for a while, then revoked or left to end.
    async fn lease(&self, world: &World, up: &Up, value: u64) -> bool {
        let limit = Duration::from_secs(12);
        let ttl_s = world.random.below(2..5) as u32;
        let mut asked = Instant::now();
        let granted = up.ask(limit, up.store.lease_grant(0, ttl_s)).await;
        let Some(Ok(lease)) = granted else { return false };
        let key = Bytes::from(format!("/lease/{value}"));
        let put = Op::PutWith {
            key: key.clone(),
            record: Some(record_of(value, 0)),
            lease: Some(lease.id),
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        let put = up.ask(limit, up.store.txn(txn)).await;
        let put = matches!(put, Some(Ok(_)));
        for _ in 0..world.random.below(0..6) {
            sleep(world.random.millis(100..1500)).await;
            let Some(up) = world.any_up() else { break };
            let now = Instant::now();
            let kept = up.ask(limit, up.store.lease_keep_alive(lease.id)).await;
            let until = asked + Duration::from_secs(lease.ttl_s.into());
            let absent = match &kept {
                Some(Err(StoreError::Refused(Refused::LeaseNotFound(_)))) => true,
                _ if put => {
                    let read = up.ask(limit, up.store.snapshot_linearizable()).await;
                    matches!(read, Some(Ok(state)) if state.get(&key).is_none())
                }
                _ => false,
            };
            if absent && Instant::now() < until && world.even.load(Ordering::Acquire) {
                let early = until - Instant::now();
                let what = format!("lease {} ended {early:?} before its time was over: {kept:?}", lease.id);
                world.observer.fail(what);
            }
            if matches!(kept, Some(Ok(_))) {
                asked = now;
            }
        }
        let Some(up) = world.any_up().filter(|_| world.random.once_in(2)) else {
            return true;
        };
        if let Some(Ok(done)) = up.ask(limit, up.store.lease_revoke(lease.id)).await {
            lock(&self.0).revoked.push((lease.id, done.revision));
        }
        true
    }

    /// The last reads, when all is well again.
    pub async fn read_all(&self, world: &World) {
        for up in world.members_up() {
            for n in 0..SINGLE_KEYS {
                self.act(world, 0, &up, &format!("/key/{n}"), Action::Read, &[]).await;
            }
            self.act(world, 0, &up, "/pair", Action::Read, &[]).await;
        }
    }

    /// One last write on each server, which must succeed.
    pub async fn write_all(&self, world: &World) -> Result<(), String> {
        for id in world.members_up().iter().map(|up| up.host.id) {
            let mut tries = 0;
            // It may be on its way out, or be started again by its operator once more.
            while let Some(up) = world.members_up().into_iter().find(|up| up.host.id == id) {
                if self
                    .act(world, 0, &up, "/key/0", Action::Put(self.new_value()), &[])
                    .await
                {
                    break;
                }
                tries += 1;
                if tries > 15 {
                    return Err(format!("server {id} takes no writes though all is well again"));
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
        Ok(())
    }

    /// Watches all keys through one server after the other.
    pub async fn watch(self: Arc<Self>, world: Arc<World>, watcher: u64) {
        let (mut after, mut started) = (0, false);
        loop {
            sleep(world.random.millis(10..200)).await;
            let Some(up) = world.any_up() else { continue };
            let watch = match up.store.watch(Bytes::new(), after) {
                Ok(watch) => watch,
                Err(StoreError::Compacted { oldest, .. }) => {
                    if started {
                        let mut book = lock(&self.0);
                        book.watched.entry(watcher).or_default().jumps.push((after, oldest));
                    }
                    after = oldest;
                    continue;
                }
                Err(_) => continue,
            };
            if !started {
                let mut book = lock(&self.0);
                book.watched.entry(watcher).or_default().jumps.push((0, after));
                started = true;
            }
            after = self.follow(&world, watcher, &up, watch, after).await;
        }
    }

    async fn follow(&self, world: &World, watcher: u64, up: &Up, mut watch: Box<dyn Watch>, from: u64) -> u64 {
        let (mut after, turns) = (from, world.random.below(1..60));
        for _ in 0..turns {
            let Some(Some(batch)) = up.ask(Duration::from_secs(3), watch.next()).await else {
                return after;
            };
            let mut book = lock(&self.0);
            let watched = book.watched.entry(watcher).or_default();
            for event in &batch.events {
                let value = event.entry.as_ref().map(number);
                watched.events.push((event.revision, text(event.key()), value));
            }
            watched.progress.push((batch.revision, watched.events.len()));
            after = after.max(batch.revision);
        }
        after
    }
}
