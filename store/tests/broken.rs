//! A store that can go on no more says so, and why; among others, those go on.

mod support;

use skiff_store::host::{Disk, DiskFile, Lock, Open, OsDisk, Table};
use skiff_store::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use support::group::Group;
use support::*;

const WELL: u8 = 0;
const SYNC_FAILS: u8 = 1;
const SYNC_PANICS: u8 = 2;

/// The machine's disk, until its syncs fail.
#[derive(Clone, Default)]
struct Failing(Arc<AtomicU8>);

impl Failing {
    fn becomes(&self, how: u8) {
        self.0.store(how, Ordering::Release);
    }

    fn sync(&self) -> io::Result<()> {
        match self.0.load(Ordering::Acquire) {
            SYNC_FAILS => Err(io::Error::from_raw_os_error(5)),
            SYNC_PANICS => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

struct File(Arc<dyn DiskFile>, Failing);

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        self.0.reserve(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.sync().and_then(|()| self.0.sync())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.sync().and_then(|()| self.0.sync_data())
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File(OsDisk.open(path, how)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.make_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        OsDisk.lock(path)
    }
    fn table(&self, dir: &Path) -> io::Result<Box<dyn Table>> {
        OsDisk.table(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.remove_dir(dir)
    }
}

async fn why(store: &RaftStore) -> String {
    let broken = tokio::time::timeout(Duration::from_secs(20), store.broken());
    broken.await.expect("it says that it is broken").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_store_and_names_the_file() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Failing::default());
    let config = StoreConfig {
        disk: Arc::new(disk.clone()),
        ..StoreConfig::new(dir.path())
    };
    let store = RaftStore::open(config.clone()).await.expect("open");
    store.txn(put("/before", "1")).await.expect("put");
    let quiet = tokio::time::timeout(Duration::from_millis(50), store.broken()).await;
    assert!(quiet.is_err(), "a store that is well is not broken");
    disk.becomes(SYNC_FAILS);
    let refused = store.txn(put("/during", "1")).await.expect_err("not acknowledged");
    let why = why(&store).await;
    for said in [refused.to_string(), why] {
        assert!(said.contains(".log could not be written (Input/output error"), "{said}");
    }
    // Nothing is acknowledged afterwards either, and what was there is read.
    disk.becomes(WELL);
    assert!(store.txn(put("/after", "1")).await.is_err());
    assert!(store.snapshot().get(b"/before").is_some());
    store.shutdown().await;
    let again = RaftStore::open(config).await.expect("open");
    assert!(again.snapshot().get(b"/before").is_some() && again.snapshot().get(b"/after").is_none());
    let closing = tokio::time::timeout(Duration::from_millis(200), async {
        again.shutdown().await;
        again.broken().await
    });
    assert!(closing.await.is_err(), "one that was shut down is not broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_the_store() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Failing::default());
    let config = StoreConfig {
        disk: Arc::new(disk.clone()),
        ..StoreConfig::new(dir.path())
    };
    let store = RaftStore::open(config).await.expect("open");
    disk.becomes(SYNC_PANICS);
    let writing = tokio::time::timeout(Duration::from_secs(5), store.txn(put("/a", "1")));
    assert!(!matches!(writing.await, Ok(Ok(_))), "not acknowledged");
    let why = why(&store).await;
    assert!(why.contains("writer has ended"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_without_the_one_whose_disk_failed() {
    let mut group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let disk = Failing::default();
    group.stop(leader).await;
    let config = StoreConfig {
        disk: Arc::new(disk.clone()),
        ..group.config(leader)
    };
    let store = group.start_with(config).await;
    group.agree().await;
    for _ in 0..20 {
        match group.leader(&[]).await {
            now if now == leader => break,
            // It may have to catch up first; then another leads, and is asked again.
            now => drop(group.store(now).move_leader(leader).await),
        }
    }
    assert_eq!(group.leader(&[]).await, leader);
    disk.becomes(SYNC_FAILS);
    let others: Vec<Arc<RaftStore>> = group
        .stores
        .iter()
        .filter(|(id, _)| **id != leader)
        .map(|(_, s)| s.clone())
        .collect();
    let _ = store.txn(put("/lost", "1")).await;
    why(&store).await;
    // As the process ends.
    group.stop(leader).await;
    group.leader(&[leader]).await;
    for (n, other) in others.iter().enumerate() {
        other
            .txn(put(&format!("/after/{n}"), "1"))
            .await
            .expect("the others go on");
    }
    group.start(leader, false).await;
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_removed_is_told_so() {
    let mut group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let gone = group.stores.keys().copied().find(|id| *id != leader).expect("one");
    assert!(!group.store(gone).is_removed().await);
    group.stop(gone).await;
    group.store(leader).remove_member(gone).await.expect("removed");
    let again = group.start(gone, false).await;
    assert!(again.is_removed().await);
    assert!(!group.store(leader).is_removed().await);
    // One that is cut off cannot know.
    group.network.cut(gone);
    assert!(!again.is_removed().await);
}
