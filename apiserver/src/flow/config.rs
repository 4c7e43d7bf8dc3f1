//! The configuration in force: schemas in the order they are tried, each with the
//! level it leads to. It is read without a lock and replaced as a whole.

use super::balance::{Balance, Row};
use super::bootstrap;
use super::level::{Level, Refusal};
use super::matching::{Schema, sorted};
use super::queues::Queuing;
use super::shares::{Share, bounds};
use crate::registry::text_at;
use crate::request::RequestInfo;
use arc_swap::ArcSwap;
use http::HeaderValue;
use serde_json::Value;
use skiff_access::UserInfo;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Seats of the whole server: upstream's 400 readers and 200 writers.
const SEATS: u32 = 600;
/// Nobody waits longer for a seat: a quarter of the time that a request has, as upstream.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// A schema as requests find it.
pub struct Entry {
    pub schema: Schema,
    pub level: Arc<Level>,
    pub nominal: u32,
    uid: HeaderValue,
    pub counts: Arc<Counts>,
}

/// Requests of one schema so far.
#[derive(Default)]
pub struct Counts {
    pub dispatched: AtomicU64,
    pub refused: [AtomicU64; 3],
    /// Now.
    pub running: AtomicI64,
    pub waiting: AtomicI64,
}

pub struct Config {
    pub entries: Vec<Arc<Entry>>,
}

pub(crate) struct Flow {
    pub config: ArcSwap<Config>,
    pub balance: Arc<Balance>,
    /// Long computations at once: one for each processor.
    pub processors: Semaphore,
}

/// One more in a gauge, until it is dropped.
pub struct Counted(Arc<Counts>, fn(&Counts) -> &AtomicI64);

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a request belongs.
pub struct Placed {
    entry: Arc<Entry>,
    pub level: Arc<Level>,
    pub nominal: u32,
    pub flow: u64,
}

impl Placed {
    pub fn uids(&self) -> (HeaderValue, HeaderValue) {
        (self.entry.uid.clone(), self.level.uid.clone())
    }

    /// It runs until this is dropped.
    pub fn count_dispatched(&self) -> Counted {
        let counts = self.entry.counts.clone();
        counts.dispatched.fetch_add(1, Ordering::Relaxed);
        counts.running.fetch_add(1, Ordering::Relaxed);
        Counted(counts, |counts| &counts.running)
    }

    /// It waits, or is about to run, until this is dropped.
    pub fn count_waiting(&self) -> Counted {
        let counts = self.entry.counts.clone();
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        Counted(counts, |counts| &counts.waiting)
    }

    pub fn count_refused(&self, refusal: Refusal) {
        self.entry.counts.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Flow {
    /// With what exists from the start, until the objects have been read.
    fn default() -> Self {
        Self::with(SEATS, WAIT_MAX)
    }
}

impl Flow {
    /// With so many seats, for which nobody waits longer than `wait_max`.
    pub fn with(seats: u32, wait_max: Duration) -> Self {
        let flow = Self {
            config: ArcSwap::from_pointee(Config { entries: Vec::new() }),
            balance: Balance::new(seats, wait_max),
            processors: Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
        };
        let objects: Vec<Value> = bootstrap::wanted().into_iter().map(|w| w.object).collect();
        flow.configure(objects.iter());
        flow
    }

    /// The schema and flow of a request. There is always one: `catch-all` takes what is left.
    pub fn place(&self, user: &UserInfo, info: &RequestInfo) -> Placed {
        let config = self.config.load();
        let last = config.entries.len() - 1;
        let found = config.entries[..last].iter().find(|e| e.schema.matches(user, info));
        let entry = found.unwrap_or(&config.entries[last]);
        Placed {
            level: entry.level.clone(),
            nominal: entry.nominal,
            flow: entry.schema.flow(entry.schema.distinguisher(user, info)),
            entry: entry.clone(),
        }
    }

    /// Puts these objects (of both kinds) in force. The mandatory ones are in force
    /// whether they are among them or not. Levels that stay keep who is in them.
    pub fn configure<'a>(&self, objects: impl Iterator<Item = &'a Value>) {
        let mut all: HashMap<(String, String), Value> = HashMap::new();
        let id = |o: &Value| {
            (
                text_at(o, &["kind"]).to_string(),
                text_at(o, &["metadata", "name"]).to_string(),
            )
        };
        for wanted in bootstrap::wanted().into_iter().filter(|w| w.mandatory) {
            all.insert(id(&wanted.object), wanted.object);
        }
        for object in objects {
            all.insert(id(object), object.clone());
        }
        let mut levels: Vec<&Value> = all
            .values()
            .filter(|o| o["kind"] == "PriorityLevelConfiguration")
            .collect();
        levels.sort_by_key(|o| text_at(o, &["metadata", "name"]));
        let shares: Vec<Share> = levels.iter().map(|o| share(o)).collect();
        let old = self.balance.rows.load();
        let rows: Vec<Row> = levels
            .iter()
            .zip(bounds(&shares, self.balance.total()))
            .map(|(object, bounds)| {
                let name = text_at(object, &["metadata", "name"]);
                let uid = header(text_at(object, &["metadata", "uid"]));
                let kept = old.iter().find(|row| row.level.name == name && row.level.uid == uid);
                let exempt = text_at(object, &["spec", "type"]) == "Exempt";
                let level = kept.map_or_else(|| Level::new(name, uid, exempt, &self.balance), |row| row.level.clone());
                level.configure(queuing(object));
                Row { level, bounds }
            })
            .collect();
        let schemas = all
            .values()
            .filter(|o| o["kind"] == "FlowSchema")
            .map(Schema::of)
            .collect();
        let before = self.config.load();
        let entries: Vec<Arc<Entry>> = sorted(schemas)
            .into_iter()
            // One that leads nowhere is as if it were not there.
            .filter_map(|schema| {
                let row = rows.iter().find(|row| row.level.name == schema.level)?;
                let counts = before.entries.iter().find(|e| e.schema.name == schema.name);
                Some(Arc::new(Entry {
                    uid: header(&schema.uid),
                    level: row.level.clone(),
                    nominal: row.bounds.nominal,
                    counts: counts.map(|e| e.counts.clone()).unwrap_or_default(),
                    schema,
                }))
            })
            .collect();
        self.balance.reset(rows);
        self.config.store(Arc::new(Config { entries }));
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn share(level: &Value) -> Share {
    let spec = match text_at(level, &["spec", "type"]) {
        "Exempt" => &level["spec"]["exempt"],
        _ => &level["spec"]["limited"],
    };
    let number = |key: &str| spec[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let exempt = text_at(level, &["spec", "type"]) == "Exempt";
    Share {
        shares: number("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
        lendable_percent: number("lendablePercent").unwrap_or(0),
        borrowing_percent: number("borrowingLimitPercent"),
    }
}

fn queuing(level: &Value) -> Option<Queuing> {
    let response = &level["spec"]["limited"]["limitResponse"];
    if response["type"] != "Queue" {
        return None;
    }
    let number = |key: &str, default: u32| {
        let given = response["queuing"][key].as_u64().and_then(|n| u32::try_from(n).ok());
        given.filter(|n| *n > 0).unwrap_or(default)
    };
    Some(Queuing {
        queues: number("queues", 64),
        hand_size: number("handSize", 8),
        length_limit: number("queueLengthLimit", 50),
    })
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
