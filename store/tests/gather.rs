//! Commands that wait go through Raft together, and each is answered for itself.

mod support;

use skiff_store::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use support::*;

fn refused_put(key: String) -> Txn {
    let record = Record::default();
    let op = Op::PutWith {
        key: key.into(),
        record: Some(record),
        // There is no such lease.
        lease: Some(404),
    };
    Txn {
        then: vec![op],
        ..Txn::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_entries_and_each_has_its_own_answer() {
    const WRITERS: usize = 200;
    let dir = tempfile::tempdir().expect("dir");
    let store = RaftStore::open(StoreConfig::new(dir.path()))
        .await
        .expect("the store opens");
    let (log_before, revision_before) = (store.progress().log_index, store.snapshot().revision());
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let store = store.clone();
            let txn = match n % 4 {
                3 => refused_put(format!("/r/refused/{n}")),
                _ => put(&format!("/r/pods/{n}"), &format!("body {n}")),
            };
            tokio::spawn(async move { (n, store.txn(txn).await) })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for writer in writers {
        let (n, outcome) = writer.await.expect("a writer ends well");
        if n % 4 == 3 {
            assert!(
                matches!(outcome, Err(StoreError::Refused(Refused::LeaseNotFound(404)))),
                "{n}: {outcome:?}"
            );
            continue;
        }
        let revision = outcome.expect("put").revision;
        assert!(revisions.insert(revision), "two transactions have revision {revision}");
        let entry = store
            .snapshot()
            .get(format!("/r/pods/{n}").as_bytes())
            .expect("it is there");
        assert_eq!(
            (entry.body(), entry.mod_revision()),
            (format!("body {n}").as_bytes(), revision)
        );
    }
    assert_eq!(store.snapshot().revision() - revision_before, revisions.len() as u64);
    let entries = store.progress().log_index - log_before;
    assert!(entries < WRITERS as u64 / 2, "{entries} entries for {WRITERS} commands");
    let (state, history) = (dump(&*store), events(&*store).await);
    store.shutdown().await;
    drop(store);
    let again = RaftStore::open(StoreConfig::new(dir.path()))
        .await
        .expect("the store opens again");
    assert_eq!((dump(&*again), events(&*again).await), (state, history));
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_makes_nobody_wait() {
    let dir = tempfile::tempdir().expect("dir");
    let store: Arc<RaftStore> = RaftStore::open(StoreConfig::new(dir.path()))
        .await
        .expect("the store opens");
    for round in 0..20 {
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.txn(put(&format!("/r/{round}/{n}"), "x")).await.map(|_| ()) })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            match n % 3 {
                0 => task.abort(),
                _ => task.await.expect("a writer ends well").expect("put"),
            }
        }
    }
    store.txn(put("/r/last", "x")).await.expect("put");
    store.shutdown().await;
}
