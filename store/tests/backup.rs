//! Backups: taken of a running store, put back on an empty directory, refused when damaged;
//! going on alone; and the quota.

mod support;

use bytes::Bytes;
use skiff_store::backup::{self, BackupError, SecretFile};
use skiff_store::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::group::Group;
use support::{delete, put};

const KEY: [u8; 32] = [9; 32];

fn encryption() -> Encryption {
    Encryption {
        key: [4; 32],
        prefixes: vec![Bytes::from_static(b"/secret/")],
    }
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        encryption: Some(encryption()),
        ..StoreConfig::new(dir)
    }
}

fn files() -> Vec<SecretFile> {
    vec![SecretFile {
        path: "server/tls/ca.key".into(),
        bytes: b"hidden words".to_vec(),
    }]
}

async fn filled(dir: &Path) -> Arc<RaftStore> {
    let store = RaftStore::open(config(dir)).await.expect("opened");
    for n in 0..50 {
        store.txn(put(&format!("/a/{n:02}"), "one")).await.expect("put");
    }
    store.txn(put("/secret/x", "hunter2")).await.expect("put");
    store.txn(delete("/a/07")).await.expect("deleted");
    let lease = store.lease_grant(77, 600).await.expect("granted");
    let key = Bytes::from_static(b"/leased");
    let record = support::record("two");
    let op = Op::PutWith {
        key,
        record: Some(record),
        lease: Some(lease.id),
    };
    let txn = Txn {
        then: vec![op],
        ..Txn::default()
    };
    store.txn(txn).await.expect("put");
    store
}

/// Keys with their values, without the revisions of the store as a whole.
fn content(store: &RaftStore) -> Vec<Entry> {
    store.snapshot().range(b"", None, 0).entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_backed_up_is_put_back_as_a_group_of_its_own() {
    let dir = tempfile::tempdir().expect("directory");
    let store = filled(&dir.path().join("old")).await;
    let file = dir.path().join("one.skiff");
    let about = store
        .back_up(&file, Some((files(), KEY)), "test")
        .await
        .expect("backed up");
    assert_eq!((about.keys, about.sealed_files), (51, 1));
    let again = store.back_up(&file, None, "test").await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    let (before, seen) = (content(&store), store.snapshot().revision());
    store.shutdown().await;

    assert_eq!(backup::check(&file).expect("whole"), about);
    let bytes = std::fs::read(&file).expect("read");
    for word in ["hunter2", "hidden words"] {
        assert!(
            !bytes.windows(word.len()).any(|w| w == word.as_bytes()),
            "{word} is readable"
        );
    }
    assert_eq!(backup::open_files(&file, &KEY).expect("opened"), files());
    let wrong = backup::open_files(&file, &[1; 32]);
    assert!(matches!(wrong, Err(BackupError::WrongKey(_))), "{wrong:?}");

    let new = dir.path().join("new");
    let other_key = Encryption {
        key: [5; 32],
        ..encryption()
    };
    let refused = backup::restore(&file, &new, Some(&other_key), 1, "").await;
    assert!(
        refused.is_err() && !new.exists(),
        "a store that cannot be read is not begun"
    );
    let restored = backup::restore(&file, &new, Some(&encryption()), 1, "")
        .await
        .expect("restored");
    assert!(restored.revision >= seen + backup::REVISION_STEP);
    let taken = backup::restore(&file, &new, Some(&encryption()), 1, "").await;
    assert!(matches!(taken, Err(BackupError::Exists(_))), "{taken:?}");
    for _ in 0..2 {
        let store = RaftStore::open(config(&new)).await.expect("opened");
        assert_eq!(content(&store), before);
        assert_eq!(store.leases().len(), 1);
        // Whoever watched before is told to read anew.
        assert!(matches!(
            store.watch(Bytes::new(), seen),
            Err(StoreError::Compacted { .. })
        ));
        store.shutdown().await;
    }
    let store = RaftStore::open(config(&new)).await.expect("opened");
    let written = store.txn(put("/new", "three")).await.expect("put");
    assert!(written.revision > restored.revision);
    store.shutdown().await;
    let store = RaftStore::open(config(&new)).await.expect("opened");
    assert_eq!(
        store.snapshot().get(b"/new").expect("there").mod_revision(),
        written.revision
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("directory");
    let store = filled(&dir.path().join("old")).await;
    let file = dir.path().join("whole.skiff");
    store
        .back_up(&file, Some((files(), KEY)), "test")
        .await
        .expect("backed up");
    store.shutdown().await;
    let whole = std::fs::read(&file).expect("read");
    let bad = dir.path().join("bad.skiff");
    let check = async |bytes: &[u8]| {
        std::fs::write(&bad, bytes).expect("written");
        let target = dir.path().join("target");
        let restored = backup::restore(&bad, &target, Some(&encryption()), 1, "").await;
        assert!(!target.exists(), "nothing is left of what was refused");
        let checked = backup::check(&bad).expect_err("refused").to_string();
        assert_eq!(restored.expect_err("refused").to_string(), checked);
        checked
    };
    for cut in [21, 100, whole.len() - 512, whole.len() - 1] {
        let said = check(&whole[..cut]).await;
        assert!(said.contains("cut short or damaged"), "{cut}: {said}");
    }
    for at in (20..whole.len()).step_by(whole.len() / 40) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        let said = check(&flipped).await;
        assert!(said.contains("cut short or damaged"), "{at}: {said}");
    }
    assert!(check(b"").await.contains("no snapshot of Skiff's"));
    assert!(check(&[7; 5000]).await.contains("no snapshot of Skiff's"));
    let mut later = whole.clone();
    later[8] = 9;
    assert!(check(&later).await.contains("format 9"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_alone_and_the_others_are_not_heard() {
    let mut group = Group::of(3).await;
    let led = group.leader(&[]).await;
    for n in 0..20 {
        group.store(led).txn(put(&format!("/k/{n}"), "1")).await.expect("put");
    }
    group.agree().await;
    let left: Vec<u64> = group.stores.keys().copied().filter(|id| *id != 1).collect();
    for id in 1..=3 {
        group.stop(id).await;
    }
    let forced = RaftStore::force_single(&group.config(1))
        .await
        .expect("forced")
        .expect("there were others");
    assert_eq!(forced.left_behind, left);
    let alone = group.start(1, false).await;
    alone.txn(put("/alone", "1")).await.expect("it takes writes by itself");
    assert_eq!(content(&alone).len(), 21);
    // The two that were left behind are a majority of what they know.
    let old = [group.start(2, false).await, group.start(3, false).await];
    let elected = async {
        while !old.iter().any(|s| s.leader().is_some_and(|l| l != 1)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), elected)
        .await
        .expect("they elect one");
    old[0].txn(put("/theirs", "1")).await.expect("put");
    alone.txn(put("/mine", "1")).await.expect("put");
    assert_eq!(alone.members().iter().map(|m| m.id).collect::<Vec<_>>(), [1]);
    assert!(alone.snapshot().get(b"/theirs").is_none() && old[0].snapshot().get(b"/mine").is_none());
    // Done again, it has nothing to do.
    drop((alone, old));
    for id in 1..=3 {
        group.stop(id).await;
    }
    assert_eq!(RaftStore::force_single(&group.config(1)).await.expect("looked"), None);
    let alone = group.start(1, false).await;
    assert_eq!(content(&alone).len(), 22);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_quota_only_what_shrinks_is_taken() {
    let dir = tempfile::tempdir().expect("directory");
    let small = StoreConfig {
        quota_bytes: 200_000,
        ..StoreConfig::new(dir.path())
    };
    let store = RaftStore::open(small.clone()).await.expect("opened");
    let body = "x".repeat(10_000);
    let mut taken = 0;
    let error = loop {
        match store.txn(put(&format!("/k/{taken:03}"), &body)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the quota is kept");
    };
    assert!(matches!(error, StoreError::NoSpace), "{error}");
    assert_eq!(error.to_string(), "etcdserver: mvcc: database space exceeded");
    assert!(taken > 10);
    assert_eq!(store.alarms(), [1]);
    // A small one is refused too, and a lease; what shrinks is not.
    assert!(matches!(store.txn(put("/s", "x")).await, Err(StoreError::NoSpace)));
    assert!(matches!(store.lease_grant(0, 60).await, Err(StoreError::NoSpace)));
    store.shutdown().await;
    let store = RaftStore::open(small).await.expect("opened");
    assert_eq!(store.alarms(), [1], "the alarm is part of the state");
    for n in 0..taken {
        store
            .txn(delete(&format!("/k/{n:03}")))
            .await
            .expect("deletions are taken");
    }
    assert!(store.snapshot_linearizable().await.is_ok());
    store
        .compact(store.snapshot().revision())
        .await
        .expect("compactions are taken");
    assert!(
        matches!(store.txn(put("/s", "x")).await, Err(StoreError::NoSpace)),
        "until the alarm ends"
    );
    store.set_alarm(1, false).await.expect("taken back");
    store.txn(put("/s", "x")).await.expect("all is taken again");
    assert!(store.bytes() < 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_ends_though_there_is_nothing_to_compact() {
    let dir = tempfile::tempdir().expect("directory");
    let config = StoreConfig {
        history: Duration::from_millis(100),
        ..StoreConfig::new(dir.path())
    };
    let store = RaftStore::open(config).await.expect("opened");
    store.txn(put("/a", "1")).await.expect("put");
    let revision = store.snapshot().revision();
    store.compact(revision).await.expect("compacted");
    // Nothing moves from here on; once while history is waited for, once raised anew.
    for _ in 0..2 {
        store.set_alarm(1, true).await.expect("raised");
        let ended = async {
            while !store.alarms().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        ended.expect("there is room: it is taken back");
        assert_eq!(store.snapshot().revision(), revision);
    }
    store.txn(put("/b", "1")).await.expect("put");
    store.shutdown().await;
}
