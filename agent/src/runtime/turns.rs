//! Sandboxes take turns: more at a time than the processors can make only get in each
//! other's way, and the first pod of many would run no earlier than the last.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Beside those that are computed, so many wait for the disk or for a process to start.
const WAITING: usize = 2;
/// Many times what a sandbox takes: one that hangs holds up no other for longer.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Turns {
    free: Arc<Semaphore>,
    patience: Duration,
}

/// Given back when dropped, or when it took too long.
#[derive(Debug)]
pub struct Turn(AbortHandle);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Turns {
    pub fn new(processors: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(2 * processors + WAITING)),
            patience: PATIENCE,
        }
    }

    /// First come, first served.
    pub async fn take(&self) -> Turn {
        let permit = self.free.clone().acquire_owned().await.ok();
        let patience = self.patience;
        let held = async move {
            let _permit = permit;
            tokio::time::sleep(patience).await;
        };
        Turn(tokio::spawn(held).abort_handle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_hangs_gives_its_turn_up() {
        let all = 2 + WAITING;
        let turns = Turns {
            patience: Duration::from_millis(1),
            ..Turns::new(1)
        };
        let mut hanging = Vec::new();
        for _ in 0..10 * all {
            hanging.push(turns.take().await);
        }
        drop(hanging);
    }

    #[tokio::test]
    async fn a_turn_that_ends_is_the_next_ones() {
        let turns = Turns {
            patience: Duration::MAX,
            ..Turns::new(1)
        };
        for _ in 0..100 {
            let (one, other) = (turns.take().await, turns.take().await);
            drop((one, other));
        }
    }
}
