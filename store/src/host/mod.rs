//! What a server stands on: tasks, threads, the clock, random numbers, the disk. The one
//! place where the store meets them, so that a simulator can stand in for all of it.
//!
//! ```text
//! store, openraft ──► host ──► tokio, the kernel          (nothing was put in its place)
//!                          └─► Host of the current task   (a simulated server)
//! ```
//!
//! Who simulates runs everything of one server in a task-local `Host` (`on`), on a runtime
//! of one thread whose time is paused. Whatever is spawned there belongs to the same server,
//! nothing leaves the thread, and a seed decides what happens.
//!
//! **Invariant:** nothing else in the store spawns, reads a clock, draws a random number,
//! or opens a file of the log, the snapshots or the state database.

mod disk;
mod os;
mod runtime;

pub use disk::{Disk, DiskFile, Lock, Open, Stream, Table, TableItem, TableWrite};
pub use os::OsDisk;
pub use runtime::{Moment, Runtime};

use crate::mvcc::State;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

/// A simulated server.
pub trait Host: Send + Sync + 'static {
    /// A number for something that will run as part of this server.
    fn begins(&self) -> u64;

    /// May it run now? Whoever says `Pending` wakes it later.
    fn may_run(&self, number: u64, cx: &mut Context<'_>) -> Poll<()>;

    /// A task belongs to this server: it ends when the server does.
    fn spawned(&self, task: AbortHandle);

    fn random(&self) -> u64;

    /// How far this server's clock is ahead of the runtime's.
    fn ahead(&self) -> Duration;

    /// How long something that blocks takes: a write with its sync, a read.
    fn blocks_for(&self) -> Duration;

    /// This state is what the log up to `index` comes to.
    fn applied(&self, index: u64, state: &State);
}

tokio::task_local! {
    static HOST: Arc<dyn Host>;
}

fn current() -> Option<Arc<dyn Host>> {
    HOST.try_with(Arc::clone).ok()
}

/// A future that runs as part of a simulated server.
pub struct On<F> {
    host: Arc<dyn Host>,
    number: u64,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for On<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        ready!(self.host.may_run(self.number, cx));
        let host = self.host.clone();
        HOST.sync_scope(host, || self.future.as_mut().poll(cx))
    }
}

/// Runs a future, and all that it spawns, as part of a simulated server.
pub fn on<F: Future>(host: Arc<dyn Host>, future: F) -> On<F> {
    On {
        number: host.begins(),
        host,
        future: Box::pin(future),
    }
}

/// Spawns a task of this server.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match current() {
        None => tokio::spawn(future),
        Some(host) => {
            let task = tokio::spawn(on(host.clone(), future));
            host.spawned(task.abort_handle());
            task
        }
    }
}

/// Does work that blocks.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let task = match current() {
        None => tokio::task::spawn_blocking(work),
        Some(host) => spawn(async move {
            tokio::time::sleep(host.blocks_for()).await;
            work()
        }),
    };
    task.await
}

/// Does two things that block at the same time, within `blocking`. `None`: the second panicked.
pub fn both<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, Option<B>) {
    if simulated() {
        return (first(), Some(second()));
    }
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        (first(), second.join().ok())
    })
}

/// Is this server simulated? Then it has no threads of its own.
pub fn simulated() -> bool {
    HOST.try_with(|_| ()).is_ok()
}

/// Waits as long as what a thread of its own does would take.
pub(crate) async fn blocks() {
    if let Some(host) = current() {
        tokio::time::sleep(host.blocks_for()).await;
    }
}

/// The time on this server's clock.
pub fn now() -> Instant {
    let now = tokio::time::Instant::now().into_std();
    match HOST.try_with(|host| host.ahead()) {
        Ok(ahead) => now + ahead,
        Err(_) => now,
    }
}

/// Fills bytes with random ones; false when the system gives none.
pub fn random(bytes: &mut [u8]) -> bool {
    use ring::rand::{SecureRandom, SystemRandom};
    match current() {
        None => SystemRandom::new().fill(bytes).is_ok(),
        Some(host) => {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&host.random().to_le_bytes()[..chunk.len()]);
            }
            true
        }
    }
}

/// Tells a simulator what was applied.
pub(crate) fn applied(index: u64, state: &State) {
    let _ = HOST.try_with(|host| host.applied(index, state));
}
