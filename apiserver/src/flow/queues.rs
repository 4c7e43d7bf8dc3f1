//! Fair queues: requests of one priority level that must wait. Pure; the time is an
//! argument, in seconds since some start.
//!
//! Each flow is dealt a few of the level's queues by its hash (shuffle sharding) and
//! waits in the emptiest of them, so that a noisy flow blocks few others. Queues take
//! turns by virtual time (start-time fair queuing): each has a clock that a dispatch
//! moves by the seats and seconds it is thought to take, and the one that is furthest
//! behind comes next. See KEP-1040.

use std::collections::{BTreeMap, VecDeque};

/// How long a request is thought to take until it is known; seconds.
const SERVICE_GUESS: f64 = 0.003;

/// A level's queues as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queuing {
    pub queues: u32,
    pub hand_size: u32,
    pub length_limit: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    width: u32,
    /// Virtual time of its arrival.
    arrived: f64,
    payload: T,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Virtual time up to which it has been served.
    served: f64,
    /// Its requests that run, with the seats they hold.
    running: u32,
    running_seats: u32,
}

impl<T> Queue<T> {
    fn waiting_seats(&self) -> u64 {
        self.waiting.iter().map(|w| u64::from(w.width)).sum()
    }
}

/// What comes next.
#[derive(Debug)]
pub struct Dispatched<T> {
    pub payload: T,
    pub width: u32,
    /// For `finished`.
    pub queue: u32,
}

/// Only queues in use exist: what is configured costs nothing by itself.
#[derive(Debug)]
pub struct QueueSet<T> {
    config: Queuing,
    queues: BTreeMap<u32, Queue<T>>,
    waiting: usize,
    virtual_now: f64,
    real_now: f64,
    next_id: u64,
    /// The queue after which the search for the next one begins: ties go round.
    last: u32,
}

impl<T> QueueSet<T> {
    pub fn new(config: Queuing) -> Self {
        Self {
            config,
            queues: BTreeMap::new(),
            waiting: 0,
            virtual_now: 0.0,
            real_now: 0.0,
            next_id: 0,
            last: 0,
        }
    }

    /// What waits stays where it is.
    pub fn configure(&mut self, config: Queuing) {
        self.config = config;
    }

    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Requests and seats that wait, and requests that run, by queue.
    pub fn shown(&self) -> impl Iterator<Item = (u32, usize, u64, u32, f64)> {
        self.queues
            .iter()
            .map(|(index, q)| (*index, q.waiting.len(), q.waiting_seats(), q.running, q.served))
    }

    pub fn waiting_seats(&self) -> u64 {
        self.queues.values().map(Queue::waiting_seats).sum()
    }

    /// Puts a request of a flow into one of the flow's queues; answers its id.
    pub fn enqueue(&mut self, flow: u64, width: u32, now: f64, payload: T) -> Result<u64, QueueFull> {
        self.advance(now);
        let load = |index: &u32| {
            self.queues
                .get(index)
                .map_or(0, |q| q.waiting_seats() + u64::from(q.running_seats))
        };
        let hand = hand(flow, self.config.queues, self.config.hand_size);
        let Some(index) = hand.into_iter().min_by_key(load) else {
            return Err(QueueFull);
        };
        let virtual_now = self.virtual_now;
        let queue = self.queues.entry(index).or_insert_with(|| Queue {
            waiting: VecDeque::new(),
            served: virtual_now,
            running: 0,
            running_seats: 0,
        });
        if queue.waiting.len() >= usize::try_from(self.config.length_limit).unwrap_or(usize::MAX) {
            return Err(QueueFull);
        }
        if queue.waiting.is_empty() && queue.running == 0 {
            // Time in which it asked for nothing is not saved up.
            queue.served = queue.served.max(virtual_now);
        }
        self.next_id += 1;
        queue.waiting.push_back(Waiting {
            id: self.next_id,
            width,
            arrived: virtual_now,
            payload,
        });
        self.waiting += 1;
        Ok(self.next_id)
    }

    /// Takes a request out that does not want to wait any longer; `false`: it waits no more.
    pub fn cancel(&mut self, id: u64) -> bool {
        for queue in self.queues.values_mut() {
            // Ids grow from front to back.
            if let Ok(at) = queue.waiting.binary_search_by_key(&id, |w| w.id) {
                queue.waiting.remove(at);
                self.waiting -= 1;
                self.tidy();
                return true;
            }
        }
        false
    }

    /// The request whose turn it is, if its seats are free now. One that waits for more
    /// seats than are free holds up the others: else wide requests would never come.
    pub fn next(&mut self, free: impl Fn(u32) -> bool, now: f64) -> Option<Dispatched<T>> {
        self.advance(now);
        let after = self.last.wrapping_add(1);
        let round = self.queues.range(after..).chain(self.queues.range(..after));
        let mut best: Option<(f64, u32)> = None;
        for (index, queue) in round {
            let Some(first) = queue.waiting.front() else { continue };
            let finish = queue.served.max(first.arrived) + SERVICE_GUESS * f64::from(first.width);
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, *index));
            }
        }
        let (_, index) = best?;
        let queue = self.queues.get_mut(&index)?;
        if !free(queue.waiting.front()?.width) {
            return None;
        }
        let first = queue.waiting.pop_front()?;
        queue.served = queue.served.max(first.arrived) + SERVICE_GUESS * f64::from(first.width);
        queue.running += 1;
        queue.running_seats += first.width;
        self.waiting -= 1;
        self.last = index;
        Some(Dispatched {
            payload: first.payload,
            width: first.width,
            queue: index,
        })
    }

    /// A dispatched request ended after `took` seconds: its queue pays what it really cost.
    pub fn finished(&mut self, queue: u32, width: u32, took: f64, now: f64) {
        self.advance(now);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.running = queue.running.saturating_sub(1);
            queue.running_seats = queue.running_seats.saturating_sub(width);
            queue.served += (took - SERVICE_GUESS) * f64::from(width);
        }
        self.tidy();
    }

    /// Virtual time runs as fast as the queues in use are served together.
    fn advance(&mut self, now: f64) {
        let passed = (now - self.real_now).max(0.0);
        self.real_now = self.real_now.max(now);
        let active = self.queues.len();
        if active > 0 {
            let seats: u32 = self.queues.values().map(|q| q.running_seats).sum();
            // A queue count is far below what f64 counts exactly.
            #[allow(clippy::cast_precision_loss)]
            let active = active as f64;
            self.virtual_now += passed * f64::from(seats) / active;
        } else {
            self.virtual_now += passed;
        }
    }

    /// Queues with nothing to do are forgotten once they owe nothing.
    fn tidy(&mut self) {
        if self.waiting == 0 {
            self.queues.retain(|_, q| q.running > 0);
        } else {
            let now = self.virtual_now;
            self.queues
                .retain(|_, q| q.running > 0 || !q.waiting.is_empty() || q.served > now);
        }
    }
}

/// The queues that a flow may use: `hand_size` different ones of `queues`, by its hash.
pub fn hand(flow: u64, queues: u32, hand_size: u32) -> Vec<u32> {
    let size = hand_size.min(queues);
    let mut rest = flow;
    let mut dealt: Vec<u32> = Vec::new();
    for n in 0..size {
        let left = u64::from(queues - n);
        // The n-th card of those that are left; counted past the ones dealt already.
        let mut card = u32::try_from(rest % left).unwrap_or(0);
        rest /= left;
        dealt.sort_unstable();
        for taken in &dealt {
            if card >= *taken {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
#[path = "queues_test.rs"]
mod tests;
