//! Requests of this server on their way through Raft: numbered, so that each is
//! applied once however often it is sent, and answered when this server applies it.

use crate::contract::StoreError;
use crate::host::{self, Disk, Open};
use crate::mvcc::Sessions;
use crate::raft_types::{Response, Tag};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OnceCell, oneshot};

/// `None`: it was applied, but what came of it is not known here.
pub type Outcome = Option<Response>;

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    senders: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

pub struct Once {
    origin: u64,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Counts this server's starts; 0 until it is needed.
    boot: AtomicU64,
    counted: OnceCell<()>,
    waiting: Mutex<Waiting>,
}

/// Ends the wait when it goes: what is given up is settled, and its late copies are void.
pub struct Pending<'a> {
    once: &'a Once,
    pub tag: Tag,
    pub outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.once.waiting().senders.remove(&self.tag.number);
    }
}

impl Once {
    pub fn new(origin: u64, disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Once {
            origin,
            disk,
            dir: dir.into(),
            boot: AtomicU64::new(0),
            counted: OnceCell::new(),
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts this start, unless that was done: while there is space for it.
    pub async fn count(&self) -> Result<(), StoreError> {
        let counted = self
            .counted
            .get_or_try_init(|| async {
                let (disk, dir) = (self.disk.clone(), self.dir.clone());
                let counted = host::blocking(move || count_boot(&*disk, &dir)).await;
                let counted = counted.map_err(|e| StoreError::Internal(format!("counting starts: {e}")))?;
                let boot = counted.map_err(|source| StoreError::Io {
                    action: format!("counting starts in {}", self.dir.display()),
                    source,
                })?;
                self.boot.store(boot, Ordering::Release);
                Ok::<_, StoreError>(())
            })
            .await;
        counted.map(|_| ())
    }

    pub async fn begin(&self) -> Result<Pending<'_>, StoreError> {
        self.count().await?;
        let (sender, outcome) = oneshot::channel();
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.senders.insert(number, sender);
        let settled = waiting.senders.keys().next().copied().unwrap_or(number);
        drop(waiting);
        let tag = Tag {
            origin: self.origin,
            boot: self.boot.load(Ordering::Acquire),
            number,
            settled,
        };
        Ok(Pending {
            once: self,
            tag,
            outcome,
        })
    }

    pub fn is_mine(&self, tag: &Tag) -> bool {
        tag.origin == self.origin && tag.boot == self.boot.load(Ordering::Acquire)
    }

    /// A request of this server was applied here.
    pub fn applied(&self, number: u64, response: Response) {
        if let Some(sender) = self.waiting().senders.remove(&number) {
            let _ = sender.send(Some(response));
        }
    }

    /// The state was replaced: what it says was applied has no outcome to be seen here.
    pub fn replaced(&self, sessions: &Sessions) {
        let mut waiting = self.waiting();
        let boot = self.boot.load(Ordering::Acquire);
        let over: Vec<u64> = waiting
            .senders
            .keys()
            .copied()
            .filter(|number| {
                let (origin, settled) = (self.origin, 0);
                sessions.is_over(&Tag {
                    origin,
                    boot,
                    number: *number,
                    settled,
                })
            })
            .collect();
        for number in over {
            if let Some(sender) = waiting.senders.remove(&number) {
                let _ = sender.send(None);
            }
        }
    }
}

/// One more start: on the disk before it is used, so that no two have the same number.
fn count_boot(disk: &dyn Disk, dir: &Path) -> std::io::Result<u64> {
    let (path, beside) = (dir.join("boot"), dir.join("boot.new"));
    let before = match disk.open(&path, Open::Read).and_then(|file| file.read_all()) {
        Ok(text) => String::from_utf8_lossy(&text)
            .trim()
            .parse::<u64>()
            .map_err(std::io::Error::other)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let boot = before + 1;
    let write = |path: &Path, how| {
        let file = disk.open(path, how)?;
        file.write_all_at(format!("{boot}\n").as_bytes(), 0)?;
        file.sync()
    };
    match write(&beside, Open::Empty) {
        // Without space for another file the number is changed where it is, within one sector.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull && before > 0 => {
            write(&path, Open::Write)?;
            return Ok(boot);
        }
        written => written?,
    }
    disk.rename(&beside, &path)?;
    disk.sync_dir(dir)?;
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::OsDisk;

    #[tokio::test]
    async fn numbers_settle_in_order_and_starts_are_counted() {
        let dir = tempfile::tempdir().expect("directory");
        let once = Once::new(3, Arc::new(OsDisk), dir.path());
        let first = once.begin().await.expect("begun");
        let mut second = once.begin().await.expect("begun");
        assert_eq!((first.tag.number, first.tag.settled), (0, 0));
        assert_eq!((second.tag.number, second.tag.settled, second.tag.boot), (1, 0, 1));
        assert!(once.is_mine(&second.tag));
        once.applied(1, Response::Done);
        assert_eq!(second.outcome.try_recv().ok(), Some(Some(Response::Done)));
        drop(second);
        drop(first);
        assert_eq!(once.begin().await.expect("begun").tag.settled, 2);
        let again = Once::new(3, Arc::new(OsDisk), dir.path());
        assert_eq!(again.begin().await.expect("begun").tag.boot, 2);
    }

    #[tokio::test]
    async fn what_a_snapshot_has_done_is_over() {
        let dir = tempfile::tempdir().expect("directory");
        let once = Once::new(3, Arc::new(OsDisk), dir.path());
        let mut first = once.begin().await.expect("begun");
        let mut second = once.begin().await.expect("begun");
        let mut sessions = Sessions::default();
        sessions.begin(&second.tag);
        once.replaced(&sessions);
        assert_eq!(second.outcome.try_recv().ok(), Some(None));
        assert!(first.outcome.try_recv().is_err());
    }
}
