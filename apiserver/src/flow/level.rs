//! A priority level at work: how many of its seats are taken, and who waits for one.
//!
//! While nobody waits, taking and giving back a seat is one atomic operation each.
//! Only when the seats run out are the fair queues looked at, under a lock.

use super::balance::Balance;
use super::queues::{QueueSet, Queuing};
use http::HeaderValue;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a request got no seat, in the words of upstream's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    pub const ALL: [Self; 3] = [Self::ConcurrencyLimit, Self::QueueFull, Self::TimeOut];

    pub fn name(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

pub struct Level {
    /// Itself, for the seats that it gives out.
    me: Weak<Level>,
    pub name: String,
    /// For the response header.
    pub uid: HeaderValue,
    pub exempt: bool,
    /// Whether requests are refused at once when the seats are taken.
    rejects: AtomicBool,
    limit: AtomicU32,
    in_use: AtomicU32,
    waiting: AtomicU32,
    queues: Mutex<QueueSet<oneshot::Sender<Seat>>>,
    balance: Weak<Balance>,
    wait_max: Duration,
    started: Instant,
    pub dispatched: AtomicU64,
    pub refused: [AtomicU64; 3],
    pub cancelled: AtomicU64,
}

impl Level {
    pub fn new(name: &str, uid: HeaderValue, exempt: bool, balance: &Arc<Balance>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            name: name.to_string(),
            uid,
            exempt,
            rejects: AtomicBool::new(true),
            limit: AtomicU32::new(1),
            in_use: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queues: Mutex::new(QueueSet::new(Queuing {
                queues: 0,
                hand_size: 0,
                length_limit: 0,
            })),
            balance: Arc::downgrade(balance),
            wait_max: balance.wait_max,
            started: Instant::now(),
            dispatched: AtomicU64::new(0),
            refused: Default::default(),
            cancelled: AtomicU64::new(0),
        })
    }

    /// `None`: requests are refused when the seats are taken.
    pub fn configure(&self, queuing: Option<Queuing>) {
        self.rejects.store(queuing.is_none(), Ordering::SeqCst);
        if let Some(queuing) = queuing {
            self.lock().configure(queuing);
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Seats taken now.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::SeqCst)
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Seats that are taken or waited for.
    pub fn demand(&self) -> u32 {
        let waiting = if self.waiting() == 0 {
            0
        } else {
            u32::try_from(self.lock().waiting_seats()).unwrap_or(u32::MAX)
        };
        self.in_use().saturating_add(waiting)
    }

    /// Sets the limit, and calls those who have a seat now.
    pub fn set_limit(&self, limit: u32) {
        let before = self.limit.swap(limit.max(1), Ordering::SeqCst);
        if before < limit && self.waiting() > 0 {
            let mut queues = self.lock();
            self.call(&mut queues);
        }
    }

    /// What the queues hold, for people.
    pub fn shown<T>(&self, show: impl FnOnce(&QueueSet<oneshot::Sender<Seat>>) -> T) -> T {
        show(&self.lock())
    }

    /// A seat at once, or after waiting for it, or not.
    pub async fn acquire(self: &Arc<Self>, flow: u64, width: u32) -> Result<Seat, Refusal> {
        if self.exempt {
            self.in_use.fetch_add(width, Ordering::Relaxed);
            self.dispatched.fetch_add(1, Ordering::Relaxed);
            return Ok(Seat::of(self, width));
        }
        if self.waiting.load(Ordering::SeqCst) == 0 && self.take(width) {
            self.dispatched.fetch_add(1, Ordering::Relaxed);
            return Ok(Seat::of(self, width));
        }
        let outcome = self.acquire_slowly(flow, width).await;
        match &outcome {
            Ok(_) => self.dispatched.fetch_add(1, Ordering::Relaxed),
            Err(refusal) => self.refused[*refusal as usize].fetch_add(1, Ordering::Relaxed),
        };
        outcome
    }

    async fn acquire_slowly(self: &Arc<Self>, flow: u64, width: u32) -> Result<Seat, Refusal> {
        // Others may have seats that they do not need, or that are lent by this level.
        if let Some(balance) = self.balance.upgrade() {
            balance.divide(self);
        }
        let (id, receiver) = {
            let mut queues = self.lock();
            // From here on whoever gives a seat back looks at the queues.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            if queues.len() == 0 && self.take(width) {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                return Ok(Seat::of(self, width));
            }
            let refused = |refusal| {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                Err(refusal)
            };
            if self.rejects.load(Ordering::SeqCst) {
                return refused(Refusal::ConcurrencyLimit);
            }
            let (sender, receiver) = oneshot::channel();
            let Ok(id) = queues.enqueue(flow, width, self.now(), sender) else {
                return refused(Refusal::QueueFull);
            };
            self.call(&mut queues);
            (id, receiver)
        };
        let mut place = Place {
            level: self,
            id: Some(id),
        };
        let called = tokio::time::timeout(self.wait_max, receiver).await;
        match called {
            Ok(Ok(seat)) => {
                place.id = None;
                Ok(seat)
            }
            _ => {
                place.leave();
                Err(Refusal::TimeOut)
            }
        }
    }

    /// Takes seats if they are free. A request that is wider than the whole level goes alone.
    fn take(&self, width: u32) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        self.in_use
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                (used == 0 || used.saturating_add(width) <= limit).then_some(used.saturating_add(width))
            })
            .is_ok()
    }

    /// Calls those whose turn it is while there are seats.
    fn call(&self, queues: &mut QueueSet<oneshot::Sender<Seat>>) {
        loop {
            let (used, limit) = (self.in_use(), self.limit.load(Ordering::SeqCst));
            let free = |width: u32| used == 0 || used.saturating_add(width) <= limit;
            let Some(level) = self.me.upgrade() else { return };
            let Some(next) = queues.next(free, self.now()) else {
                return;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.in_use.fetch_add(next.width, Ordering::SeqCst);
            let seat = Seat {
                level: Some(level),
                width: next.width,
                queued: Some((next.queue, self.now())),
            };
            if let Err(mut seat) = next.payload.send(seat) {
                // Who waited is gone. Giving the seat back here would want the lock that is held.
                seat.level = None;
                self.in_use.fetch_sub(next.width, Ordering::SeqCst);
                queues.finished(next.queue, next.width, 0.0, self.now());
            }
        }
    }

    fn release(&self, width: u32, queued: Option<(u32, f64)>) {
        self.in_use.fetch_sub(width, Ordering::SeqCst);
        let wanted = self.waiting.load(Ordering::SeqCst) > 0;
        if !wanted && queued.is_none() {
            return;
        }
        {
            let mut queues = self.lock();
            if let Some((queue, since)) = queued {
                let now = self.now();
                queues.finished(queue, width, now - since, now);
            }
            self.call(&mut queues);
        }
        if wanted && let Some(balance) = self.balance.upgrade() {
            balance.divide_now_and_then();
        }
    }

    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn lock(&self) -> MutexGuard<'_, QueueSet<oneshot::Sender<Seat>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, left when whoever has it goes.
struct Place<'a> {
    level: &'a Arc<Level>,
    id: Option<u64>,
}

impl Place<'_> {
    /// Whether it was still waiting.
    fn leave(&mut self) -> bool {
        let Some(id) = self.id.take() else { return false };
        let left = self.level.lock().cancel(id);
        if left {
            self.level.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        left
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.leave() {
            self.level.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Seats taken; given back when dropped.
pub struct Seat {
    level: Option<Arc<Level>>,
    width: u32,
    /// The queue it came from, and when.
    queued: Option<(u32, f64)>,
}

impl Seat {
    fn of(level: &Arc<Level>, width: u32) -> Self {
        Self {
            level: Some(level.clone()),
            width,
            queued: None,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(level) = self.level.take() {
            level.release(self.width, self.queued.take());
        }
    }
}
