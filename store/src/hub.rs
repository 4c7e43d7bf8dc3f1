//! Fan-out of changes to watchers. Owns the recent events of each watched prefix and
//! the wake-ups; must not decide what a change is (`mvcc` does) nor touch a disk.
//!
//! ```text
//! apply ──publish(events)──► feed "/pods/"  ◄─ cursor ─ watcher 1..n
//!                       └──► feed "/nodes/" ◄─ cursor ─ watcher
//! ```
//!
//! All watchers of one prefix share one feed, and hold a cursor into it: an event
//! costs one push per watched prefix it falls under, whatever the number of watchers.
//! A feed is bounded, so a watcher that falls too far behind finds its place gone and
//! is closed; it never makes a writer wait. Nobody is woken for other prefixes' events.

use crate::contract::*;
use crate::host;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Events a watcher may be behind before it is closed. Each costs a pointer here; the
/// event itself is history's anyway.
pub const FEED_EVENTS_MAX: usize = 16_384;

/// Events in one batch, so that one slow response does not hold thousands of events.
const BATCH_EVENTS_MAX: usize = 512;

/// How often watchers whose keys do not change are told of progress. Driven by
/// writes: in an idle store nobody is woken.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Data behind these locks is whole after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Feed {
    prefix: Bytes,
    recent: Mutex<Recent>,
    notify: Notify,
}

#[derive(Default)]
struct Recent {
    events: VecDeque<Arc<Event>>,
    /// Number of the first event in `events`, counted from the feed's beginning.
    first: u64,
    /// Number of watchers; the last one takes the feed away with it.
    watchers: usize,
    /// Raised now and then for those whose keys do not change.
    progress: Revision,
}

struct Feeds {
    by_prefix: BTreeMap<Bytes, Arc<Feed>>,
    /// Lengths of the watched prefixes with the number of feeds of each: an event's key
    /// is looked up once per distinct length, not once per feed.
    lengths: BTreeMap<usize, usize>,
    progress_at: Instant,
}

/// The watchers of one store.
pub struct Hub {
    feeds: Mutex<Feeds>,
    /// All events up to this revision are in the feeds.
    revision: AtomicU64,
    closed: AtomicBool,
}

impl Hub {
    pub fn new(revision: Revision) -> Arc<Hub> {
        Arc::new(Hub {
            feeds: Mutex::new(Feeds {
                by_prefix: BTreeMap::new(),
                lengths: BTreeMap::new(),
                progress_at: host::now(),
            }),
            revision: AtomicU64::new(revision),
            closed: AtomicBool::new(false),
        })
    }

    /// Hands on the events of whole transactions, in order; afterwards all up to
    /// `revision` is known to the feeds.
    pub fn publish(&self, events: &[Arc<Event>], revision: Revision) {
        let mut feeds = lock(&self.feeds);
        if !feeds.by_prefix.is_empty() {
            let mut touched: Vec<(Arc<Feed>, Vec<Arc<Event>>)> = Vec::new();
            for event in events {
                let key = event.key();
                for length in feeds.lengths.keys().copied().take_while(|l| *l <= key.len()) {
                    let Some(feed) = feeds.by_prefix.get(&key[..length]) else {
                        continue;
                    };
                    match touched.iter_mut().find(|(f, _)| Arc::ptr_eq(f, feed)) {
                        Some((_, batch)) => batch.push(event.clone()),
                        None => touched.push((feed.clone(), vec![event.clone()])),
                    }
                }
            }
            for (feed, batch) in touched {
                feed.push(batch);
            }
        }
        self.revision.store(revision, Ordering::Release);
        if host::now().duration_since(feeds.progress_at) >= PROGRESS_EVERY {
            feeds.progress_at = host::now();
            for feed in feeds.by_prefix.values() {
                lock(&feed.recent).progress = revision;
                feed.notify.notify_waiters();
            }
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// A cursor behind all that was published, with the revision it stands at.
    pub fn subscribe(self: &Arc<Self>, prefix: Bytes) -> (Subscription, Revision) {
        let mut feeds = lock(&self.feeds);
        let feed = match feeds.by_prefix.get(&prefix) {
            Some(feed) => feed.clone(),
            None => {
                let prefix = Bytes::copy_from_slice(&prefix);
                let feed = Arc::new(Feed {
                    prefix: prefix.clone(),
                    recent: Mutex::default(),
                    notify: Notify::new(),
                });
                *feeds.lengths.entry(prefix.len()).or_default() += 1;
                feeds.by_prefix.insert(prefix, feed.clone());
                feed
            }
        };
        let next = {
            let mut recent = lock(&feed.recent);
            recent.watchers += 1;
            recent.first + recent.events.len() as u64
        };
        let revision = self.revision.load(Ordering::Acquire);
        (
            Subscription {
                hub: self.clone(),
                feed,
                next,
                backlog: VecDeque::new(),
                told: revision,
            },
            revision,
        )
    }

    /// Closes all present watchers: the store's state was replaced as a whole.
    pub fn reset(&self, revision: Revision) {
        let feeds = lock(&self.feeds);
        for feed in feeds.by_prefix.values() {
            let mut recent = lock(&feed.recent);
            // Moves every cursor's place out of the feed, except for those who come later.
            recent.first += recent.events.len() as u64 + 1;
            recent.events.clear();
            feed.notify.notify_waiters();
        }
        self.revision.store(revision, Ordering::Release);
    }

    pub fn close(&self) {
        let feeds = lock(&self.feeds);
        self.closed.store(true, Ordering::Release);
        for feed in feeds.by_prefix.values() {
            feed.notify.notify_waiters();
        }
    }
}

impl Feed {
    fn push(&self, batch: Vec<Arc<Event>>) {
        let mut recent = lock(&self.recent);
        recent.events.extend(batch);
        let over = recent.events.len().saturating_sub(FEED_EVENTS_MAX);
        recent.events.drain(..over);
        recent.first += over as u64;
        drop(recent);
        self.notify.notify_waiters();
    }
}

/// A watcher: a cursor into its prefix's feed, and first what happened before it came.
pub struct Subscription {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    next: u64,
    backlog: VecDeque<Arc<Event>>,
    /// Revision up to which the consumer was told of everything.
    told: Revision,
}

enum Step {
    Batch(WatchBatch),
    Closed,
    Wait,
}

/// How many of `events` go into one batch: never part of a revision.
fn batch_len<'a>(events: impl Iterator<Item = &'a Arc<Event>>, max: usize) -> usize {
    let (mut taken, mut last) = (0, 0);
    for event in events {
        if taken >= max && event.revision != last {
            break;
        }
        last = event.revision;
        taken += 1;
    }
    taken
}

impl Subscription {
    /// Events between the revision the consumer knows and the one the cursor stands at.
    pub fn with_backlog(mut self, events: Vec<Arc<Event>>, after: Revision) -> Self {
        if !events.is_empty() {
            self.told = after;
        }
        self.backlog = events.into();
        self
    }

    fn step(&mut self) -> Step {
        if !self.backlog.is_empty() {
            let len = batch_len(self.backlog.iter(), BATCH_EVENTS_MAX);
            let events: Vec<_> = self.backlog.drain(..len).collect();
            return self.batch(events);
        }
        // Read before the feed: all up to here has been pushed already.
        let published = self.hub.revision.load(Ordering::Acquire);
        let feed = self.feed.clone();
        let mut recent = lock(&feed.recent);
        if self.next < recent.first {
            return Step::Closed;
        }
        let skip = (self.next - recent.first) as usize;
        if skip < recent.events.len() {
            let len = batch_len(recent.events.range(skip..), BATCH_EVENTS_MAX);
            let events: Vec<_> = recent.events.range(skip..skip + len).cloned().collect();
            self.next += len as u64;
            let all = skip + len == recent.events.len();
            if recent.watchers == 1 {
                // Nobody else needs what the only watcher has seen.
                let seen = (self.next - recent.first) as usize;
                recent.events.drain(..seen);
                recent.first = self.next;
            }
            if all {
                self.told = self.told.max(published);
            }
            drop(recent);
            return self.batch(events);
        }
        if self.hub.closed.load(Ordering::Acquire) {
            return Step::Closed;
        }
        if recent.progress > self.told {
            self.told = published.max(recent.progress);
            return Step::Batch(WatchBatch {
                revision: self.told,
                events: Vec::new(),
            });
        }
        Step::Wait
    }

    fn batch(&mut self, events: Vec<Arc<Event>>) -> Step {
        if let Some(last) = events.last() {
            self.told = self.told.max(last.revision);
        }
        Step::Batch(WatchBatch {
            revision: self.told,
            events,
        })
    }
}

#[async_trait::async_trait]
impl Watch for Subscription {
    async fn next(&mut self) -> Option<WatchBatch> {
        loop {
            let feed = self.feed.clone();
            let notified = feed.notify.notified();
            tokio::pin!(notified);
            // Registered before looking, so that nothing published in between is slept over.
            notified.as_mut().enable();
            match self.step() {
                Step::Batch(batch) => return Some(batch),
                Step::Closed => return None,
                Step::Wait => notified.await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut feeds = lock(&self.hub.feeds);
        let mut recent = lock(&self.feed.recent);
        recent.watchers -= 1;
        if recent.watchers > 0 {
            return;
        }
        feeds.by_prefix.remove(&self.feed.prefix);
        let length = self.feed.prefix.len();
        if let Some(count) = feeds.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                feeds.lengths.remove(&length);
            }
        }
    }
}
