//! One lock per name, for as long as somebody holds or awaits it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

#[derive(Debug, Default)]
pub struct Locks(Mutex<BTreeMap<String, Arc<AsyncMutex<()>>>>);

impl Locks {
    pub async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_by_name_and_nothing_is_left() {
        let locks = Locks::default();
        let first = locks.lock("a").await;
        let mut second = Box::pin(locks.lock("a"));
        assert!((&mut second).now_or_never().is_none(), "waits");
        assert!(locks.lock("b").now_or_never().is_some(), "another name does not");
        drop(first);
        drop(second.await);
        drop(locks.lock("c").await);
        assert_eq!(locks.0.lock().expect("whole").len(), 1);
    }
}
