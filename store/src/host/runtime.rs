//! openraft's runtime: tokio, with tasks, clock and random numbers of this server.

use super::current;
use openraft::async_runtime::{AsyncRuntime, Instant};
use openraft::impls::TokioRuntime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

#[derive(Debug)]
pub struct Runtime(TokioRuntime);

/// A time on this server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(std::time::Instant);

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0 + time)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0 - time)
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, other: Moment) -> Duration {
        self.0 - other.0
    }
}

impl Instant for Moment {
    fn now() -> Moment {
        Moment(super::now())
    }
}

impl Moment {
    /// When it is that time by the runtime's clock.
    fn on_runtime(self) -> tokio::time::Instant {
        match current() {
            None => self.0.into(),
            Some(host) => (self.0 - host.ahead()).into(),
        }
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: Send + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = Moment;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = tokio::time::Timeout<T>;
    type ThreadLocalRng = StdRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        super::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Moment) -> Self::Sleep {
        tokio::time::sleep_until(deadline.on_runtime())
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: Moment, future: F) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(deadline.on_runtime(), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    /// Asked for a number at an election and at a start, so making one each time costs nothing.
    fn thread_rng() -> StdRng {
        match current() {
            None => StdRng::from_rng(&mut rand::rng()),
            Some(host) => StdRng::seed_from_u64(host.random()),
        }
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        super::blocking(work).await.map_err(io::Error::other)
    }
}
