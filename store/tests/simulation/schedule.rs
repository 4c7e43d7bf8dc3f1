//! Who runs next. Tokio wakes some tasks in an order that no seed decides (those that wait
//! for one `watch`), so a task that was woken only says so; when all have, chance brings
//! them into an order, and lets each run.

use crate::random::{Random, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct Turns {
    next: u64,
    /// Tasks that were woken.
    ready: BTreeMap<u64, Waker>,
    /// Tasks whose turn it is.
    granted: BTreeSet<u64>,
    bell: Option<Waker>,
}

#[derive(Clone)]
pub struct Schedule {
    turns: Arc<Mutex<Turns>>,
    random: Random,
}

impl Schedule {
    /// Within a runtime.
    pub fn new(random: Random) -> Self {
        let schedule = Schedule {
            turns: Arc::default(),
            random,
        };
        let granting = schedule.clone();
        tokio::spawn(std::future::poll_fn(move |cx| granting.grant(cx)));
        schedule
    }

    fn grant(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut turns = lock(&self.turns);
        let mut ready: Vec<(u64, Waker)> = std::mem::take(&mut turns.ready).into_iter().collect();
        while !ready.is_empty() {
            let at = self.random.below(0..ready.len() as u64) as usize;
            let (task, waker) = ready.swap_remove(at);
            self.random.note(task);
            turns.granted.insert(task);
            waker.wake();
        }
        turns.bell = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A task's number.
    pub fn begin(&self) -> u64 {
        let mut turns = lock(&self.turns);
        turns.next += 1;
        turns.next
    }

    /// Is it this task's turn? If not, it is woken when it is.
    pub fn turn(&self, task: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut turns = lock(&self.turns);
        if turns.granted.remove(&task) {
            turns.ready.remove(&task);
            return Poll::Ready(());
        }
        turns.ready.insert(task, cx.waker().clone());
        if let Some(bell) = turns.bell.take() {
            bell.wake();
        }
        Poll::Pending
    }

    /// Spawns what belongs to the world, not to a server.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(Scheduled {
            task: self.begin(),
            schedule: self.clone(),
            future: Box::pin(future),
        })
    }
}

struct Scheduled<F> {
    task: u64,
    schedule: Schedule,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Scheduled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let turn = self.schedule.turn(self.task, cx);
        match turn {
            Poll::Ready(()) => self.future.as_mut().poll(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}
