//! Takes keys from a queue and reconciles them, several at a time. A reconcile that fails or panics costs
//! its own key a back-off and nothing else.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Error;
use crate::queue::Queue;

/// Runs until shutdown, at most `workers` keys at a time.
pub async fn work<K, F, Fut>(
    name: &'static str,
    queue: Arc<Queue<K>>,
    workers: usize,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + std::hash::Hash + std::fmt::Display + Send + Sync + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        while running.len() >= workers {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = running.join_next() => {}
            }
        }
        let key = tokio::select! {
            () = shutdown.cancelled() => return,
            key = queue.next() => key,
        };
        while running.try_join_next().is_some() {}
        let guard = Working {
            name,
            queue: queue.clone(),
            key: key.clone(),
            finished: false,
        };
        let reconciled = reconcile(key);
        running.spawn(async move {
            let mut guard = guard;
            let result = reconciled.await;
            guard.finish(result);
        });
    }
}

/// Gives the key back to its queue, also when the reconcile panicked.
struct Working<K: Clone + Eq + std::hash::Hash + std::fmt::Display> {
    name: &'static str,
    queue: Arc<Queue<K>>,
    key: K,
    finished: bool,
}

impl<K: Clone + Eq + std::hash::Hash + std::fmt::Display> Working<K> {
    fn finish(&mut self, result: Result<(), Error>) {
        self.finished = true;
        match result {
            Ok(()) => self.queue.forget(&self.key),
            Err(error) => {
                if error.is_conflict() || matches!(error, Error::Again(_)) {
                    tracing::debug!(controller = self.name, key = %self.key, %error, "trying again");
                } else {
                    let cause = std::error::Error::source(&error)
                        .map(ToString::to_string)
                        .unwrap_or_default();
                    crate::metrics::failed(self.name);
                    tracing::warn!(controller = self.name, key = %self.key, %error, cause, "reconcile failed");
                }
                self.queue.add_rate_limited(self.key.clone());
            }
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash + std::fmt::Display> Drop for Working<K> {
    fn drop(&mut self) {
        if !self.finished && std::thread::panicking() {
            crate::metrics::panicked(self.name);
            tracing::error!(controller = self.name, key = %self.key, "reconcile panicked; the key is retried");
            self.queue.add_rate_limited(self.key.clone());
        }
        self.queue.done(&self.key);
    }
}
