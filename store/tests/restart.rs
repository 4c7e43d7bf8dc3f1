//! What is on disk: restarts, crashes, damage, locks, modes.

mod support;

use skiff_store::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::*;

async fn open(dir: &Path) -> Arc<RaftStore> {
    RaftStore::open(StoreConfig::new(dir)).await.expect("the store opens")
}

async fn fill(store: &RaftStore) {
    for i in 0..50 {
        store
            .txn(put(&format!("/r/pods/{}", i % 20), &format!("body {i}")))
            .await
            .expect("put");
    }
    store.txn(delete("/r/pods/3")).await.expect("delete");
    let ops = (0..5)
        .map(|i| put(&format!("/r/nodes/{i}"), "n").then.remove(0))
        .collect();
    store
        .txn(Txn {
            then: ops,
            ..Txn::default()
        })
        .await
        .expect("txn");
    store.compact(20).await.expect("compact");
}

fn log_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("log")).expect("log").flatten().map(|e| e.path());
    files
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .max()
        .expect("a segment")
}

/// Where the records of a segment end.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).expect("a segment is not empty") + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_history_survive_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    fill(&store).await;
    let (state, history, revision) = (dump(&*store), events(&*store).await, store.snapshot().revision());
    let last = store.snapshot().last_change(b"/r/pods/");
    store.shutdown().await;
    assert!(matches!(store.txn(put("/a", "")).await, Err(StoreError::Closed)));
    for _ in 0..2 {
        let again = open(dir.path()).await;
        assert_eq!((again.snapshot().revision(), again.compacted()), (revision, 20));
        assert_eq!(dump(&*again), state);
        assert_eq!(events(&*again).await, history);
        assert_eq!(again.snapshot().last_change(b"/r/pods/"), last);
        assert_eq!(again.txn(Txn::default()).await.expect("txn").revision, revision);
        again.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_database_is_rebuilt_from_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    fill(&store).await;
    let state = dump(&*store);
    store.shutdown().await;
    for damage in ["flip", "remove", "garbage"] {
        let db = dir.path().join("state/db");
        match damage {
            "flip" => {
                let mut bytes = fs::read(&db).expect("db");
                bytes.iter_mut().skip(64).step_by(97).for_each(|b| *b ^= 0x5a);
                fs::write(&db, bytes).expect("write");
            }
            "remove" => fs::remove_dir_all(dir.path().join("state")).expect("remove"),
            _ => fs::write(dir.path().join("state/conf"), "nonsense").expect("write"),
        }
        let again = open(dir.path()).await;
        assert_eq!(dump(&*again), state, "{damage}");
        again.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    fill(&store).await;
    let state = dump(&*store);
    store.shutdown().await;
    fs::remove_dir_all(dir.path().join("state")).expect("remove");
    let file = log_file(dir.path());
    let mut bytes = fs::read(&file).expect("log");
    let end = end_of(&bytes);
    bytes[end..end + 40].copy_from_slice(&[0x17; 40]);
    fs::write(&file, bytes).expect("write");
    let again = open(dir.path()).await;
    assert_eq!(dump(&*again), state);
    again.txn(put("/after", "x")).await.expect("put");
    again.shutdown().await;
    assert!(open(dir.path()).await.snapshot().get(b"/after").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    fill(&store).await;
    let state = dump(&*store);
    store.shutdown().await;
    let file = log_file(dir.path());
    let mut bytes = fs::read(&file).expect("log");
    let at = end_of(&bytes) / 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("write");
    let error = RaftStore::open(StoreConfig::new(dir.path()))
        .await
        .err()
        .expect("refused");
    let StoreError::Corrupt {
        file: named,
        offset,
        why,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(Path::new(named), file);
    let offset = *offset as usize;
    assert!(offset <= at && offset + 512 > at, "{offset} for {at}");
    assert!(why.contains("move the log directory away"), "{why}");
    // What it says is of use.
    fs::rename(dir.path().join("log"), dir.path().join("log.damaged")).expect("moved");
    let again = open(dir.path()).await;
    assert_eq!(dump(&*again), state);
    again.txn(put("/after", "x")).await.expect("put");
    again.shutdown().await;
    assert!(open(dir.path()).await.snapshot().get(b"/after").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_that_is_needed_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    fill(&store).await;
    store.defragment().await.expect("a snapshot");
    store.shutdown().await;
    let mut files = fs::read_dir(dir.path().join("snapshots")).expect("snapshots").flatten();
    let file = files.next().expect("one").path();
    let mut bytes = fs::read(&file).expect("snapshot");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("write");
    // The state database has it all.
    open(dir.path()).await.shutdown().await;
    fs::remove_dir_all(dir.path().join("state")).expect("remove");
    let error = RaftStore::open(StoreConfig::new(dir.path())).await.err();
    let Some(StoreError::Corrupt {
        file: named,
        offset,
        why,
    }) = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(Path::new(named), file);
    assert!(*offset > 0 && *offset <= at as u64, "{offset} for {at}");
    assert!(why.contains("skiff snapshot restore"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_log_is_purged_behind_a_snapshot() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    let body = "x".repeat(256 << 10);
    for i in 0..200 {
        store.txn(put(&format!("/big/{}", i % 8), &body)).await.expect("put");
    }
    let mut bytes = 0;
    for _ in 0..600 {
        let logs = fs::read_dir(dir.path().join("log")).expect("log").flatten();
        bytes = logs.map(|e| e.metadata().map_or(0, |m| m.len())).sum();
        if bytes < 40 << 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(bytes < 40 << 20, "50 MB were written, {bytes} are left");
    assert_eq!(
        fs::read_dir(dir.path().join("snapshots")).expect("snapshots").count(),
        1
    );
    let state = dump(&*store);
    store.shutdown().await;
    // Without the database, the snapshot and the rest of the log are enough.
    fs::remove_dir_all(dir.path().join("state")).expect("remove");
    let again = open(dir.path()).await;
    assert_eq!(dump(&*again), state);
    again.shutdown().await;
    // Without both, it says so.
    fs::remove_dir_all(dir.path().join("state")).expect("remove");
    fs::remove_dir_all(dir.path().join("snapshots")).expect("remove");
    let error = RaftStore::open(StoreConfig::new(dir.path()))
        .await
        .err()
        .expect("refused");
    assert!(
        matches!(&error, StoreError::Corrupt { why, .. } if why.contains("snapshot")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_ends_by_age_and_idle_writes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let config = StoreConfig {
        history: Duration::from_millis(200),
        ..StoreConfig::new(dir.path())
    };
    let store = RaftStore::open(config).await.expect("open");
    for i in 0..5 {
        store.txn(put("/a", &i.to_string())).await.expect("put");
    }
    for _ in 0..100 {
        if store.compacted() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.compacted(), 6);
    let written = || end_of(&fs::read(log_file(dir.path())).expect("log"));
    let before = written();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(written(), before, "an idle store writes nothing");
    store.shutdown().await;
    assert_eq!(open(dir.path()).await.compacted(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_and_nobody_else_reads_it() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(&dir.path().join("store")).await;
    store.txn(put("/a", "1")).await.expect("put");
    let error = RaftStore::open(StoreConfig::new(dir.path().join("store")))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("another process"), "{error}");
    let mut todo = vec![dir.path().join("store")];
    while let Some(path) = todo.pop() {
        let meta = fs::metadata(&path).expect("meta");
        // sled makes its own files; their directory keeps others out.
        if path.parent().is_some_and(|p| p.ends_with("state")) {
            continue;
        }
        if meta.is_dir() {
            assert_eq!(meta.permissions().mode() & 0o777, 0o700, "{}", path.display());
            todo.extend(fs::read_dir(&path).expect("dir").flatten().map(|e| e.path()));
        } else {
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_get_distinct_revisions() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).await;
    let tasks: Vec<_> = (0..64)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for i in 0..20 {
                    revisions.push(store.txn(put(&format!("/w/{w}/{i}"), "v")).await.expect("put").revision);
                }
                revisions
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("task"));
    }
    all.sort_unstable();
    assert_eq!(all, (2..2 + 64 * 20).collect::<Vec<_>>());
    store.shutdown().await;
}
