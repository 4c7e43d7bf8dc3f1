//! One life of a simulated server: its tasks, its clock, its chance.

use crate::disk::Life;
use crate::observer::Observer;
use crate::random::{Random, lock};
use crate::schedule::Schedule;
use skiff_store::host::{self, Host};
use skiff_store::mvcc::State;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Finished tasks are forgotten when there are more than this.
const TASKS_KEPT: usize = 256;

#[derive(Default)]
struct Now {
    tasks: Vec<AbortHandle>,
    paused: bool,
    waiting: Vec<Waker>,
    ahead: Duration,
    slow_disk: bool,
}

pub struct SimHost {
    pub id: u64,
    pub life: Arc<Life>,
    random: Random,
    schedule: Schedule,
    observer: Arc<Observer>,
    now: Mutex<Now>,
}

impl SimHost {
    pub fn new(id: u64, schedule: Schedule, random: Random, observer: Arc<Observer>, ahead: Duration) -> Arc<Self> {
        observer.begins(id);
        Arc::new(SimHost {
            id,
            life: Arc::default(),
            random,
            schedule,
            observer,
            now: Mutex::new(Now {
                ahead,
                ..Now::default()
            }),
        })
    }

    /// A task of this server that the store does not know of.
    pub fn spawn<F>(self: &Arc<Self>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = tokio::spawn(host::on(self.clone(), future));
        self.spawned(task.abort_handle());
    }

    /// Ends everything at once, wherever it stands.
    pub fn end(&self) {
        self.life.finish();
        let tasks = std::mem::take(&mut lock(&self.now).tasks);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Stops the process, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let mut now = lock(&self.now);
        now.paused = paused;
        let waiting = std::mem::take(&mut now.waiting);
        drop(now);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn jump(&self, ahead: Duration) {
        lock(&self.now).ahead += ahead;
    }

    pub fn set_slow_disk(&self, slow: bool) {
        lock(&self.now).slow_disk = slow;
    }
}

impl Host for SimHost {
    fn spawned(&self, task: AbortHandle) {
        if self.life.has_ended() {
            task.abort();
            return;
        }
        let mut now = lock(&self.now);
        if now.tasks.len() > TASKS_KEPT {
            now.tasks.retain(|t| !t.is_finished());
        }
        now.tasks.push(task);
    }

    fn begins(&self) -> u64 {
        self.schedule.begin()
    }

    fn may_run(&self, number: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.life.has_ended() {
            return Poll::Pending;
        }
        let mut now = lock(&self.now);
        if now.paused {
            now.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        drop(now);
        self.schedule.turn(number, cx)
    }

    fn random(&self) -> u64 {
        self.random.next()
    }

    fn ahead(&self) -> Duration {
        lock(&self.now).ahead
    }

    fn blocks_for(&self) -> Duration {
        match lock(&self.now).slow_disk {
            true => self.random.millis(5..400),
            false => self.random.millis(0..4),
        }
    }

    fn applied(&self, index: u64, state: &State) {
        if !self.life.has_ended() {
            self.observer.applied(self.id, index, state);
        }
    }
}
