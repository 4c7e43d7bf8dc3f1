//! Watches: resuming, compaction, slow consumers, closing.

mod support;

use skiff_store::*;
use std::time::Duration;
use support::*;

async fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    for i in 0..10 {
        store.txn(put(&format!("/p/{i}"), "v")).await.expect("put");
        store.txn(put(&format!("/q/{i}"), "v")).await.expect("put");
    }
    store
}

#[tokio::test]
async fn resumes_from_any_revision_and_goes_on_live() {
    let store = filled().await;
    let mut watch = store.watch("/p/".into(), 11).expect("watch");
    let batch = next(&mut watch).await.expect("backlog");
    let revisions: Vec<_> = batch.events.iter().map(|e| e.revision).collect();
    assert_eq!(revisions, [12, 14, 16, 18, 20]);
    store.txn(put("/q/x", "v")).await.expect("put");
    store.txn(put("/p/x", "v")).await.expect("put");
    store.txn(delete("/p/x")).await.expect("delete");
    let batch = next(&mut watch).await.expect("live");
    assert_eq!(batch.events.len(), 2);
    assert_eq!(batch.events[1].previous.as_ref().map(|p| p.mod_revision()), Some(23));
    assert_eq!((batch.events[1].entry.is_none(), batch.revision), (true, 24));
}

#[tokio::test]
async fn refuses_compacted_and_future_revisions() {
    let store = filled().await;
    store.compact(10).await.expect("compact");
    assert_eq!(store.compacted(), 10);
    let compacted = store.watch("/p/".into(), 9).err();
    assert!(matches!(
        compacted,
        Some(StoreError::Compacted { asked: 9, oldest: 10 })
    ));
    assert!(matches!(store.snapshot_at(9).err(), Some(StoreError::Compacted { .. })));
    assert!(matches!(
        store.watch("/p/".into(), 99).err(),
        Some(StoreError::FutureRevision { .. })
    ));
    let mut watch = store.watch("/p/".into(), 10).expect("watch");
    assert_eq!(next(&mut watch).await.expect("batch").events[0].revision, 12);
    assert!(matches!(
        store.compact(99).await,
        Err(StoreError::FutureRevision { .. })
    ));
}

#[tokio::test]
async fn a_slow_watcher_is_closed_and_holds_up_nobody() {
    let store = MemoryStore::new();
    let mut slow = store.watch("/p/".into(), 1).expect("watch");
    let mut quick = store.watch("/p/".into(), 1).expect("watch");
    let mut seen = 0;
    for _ in 0..FEED_EVENTS_MAX + 1 {
        store.txn(put("/p/a", "v")).await.expect("put");
        seen += next(&mut quick).await.expect("the quick one stays").events.len();
    }
    assert_eq!(seen, FEED_EVENTS_MAX + 1);
    assert!(next(&mut slow).await.is_none());
    // It resumes from what it knows.
    let mut again = store.watch("/p/".into(), 1).expect("watch");
    assert_eq!(next(&mut again).await.expect("batch").events[0].revision, 2);
}

#[tokio::test]
async fn a_batch_holds_whole_revisions() {
    let store = MemoryStore::new();
    let ops = (0..700).map(|i| put(&format!("/p/{i}"), "v").then.remove(0)).collect();
    let mut watch = store.watch("/p/".into(), 1).expect("watch");
    store
        .txn(Txn {
            then: ops,
            ..Txn::default()
        })
        .await
        .expect("txn");
    store.txn(put("/p/z", "v")).await.expect("put");
    assert_eq!(next(&mut watch).await.expect("batch").events.len(), 700);
    assert_eq!(next(&mut watch).await.expect("batch").events.len(), 1);
}

#[tokio::test]
async fn an_event_is_in_the_snapshot_by_the_time_it_is_seen() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let mut watch = store.watch("/".into(), 1).expect("watch");
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 0..500 {
                store.txn(put("/a", &i.to_string())).await.expect("put");
                tokio::task::yield_now().await;
            }
        }
    });
    let mut last = 1;
    while last < 501 {
        let batch = next(&mut watch).await.expect("batch");
        assert!(batch.events.iter().all(|e| e.revision > last));
        last = batch.events.last().map_or(last, |e| e.revision);
        assert!(store.snapshot().revision() >= last);
    }
    writer.await.expect("writer");
}

#[tokio::test]
async fn closing_ends_watches() {
    let store = MemoryStore::new();
    let mut watch = store.watch("/".into(), 1).expect("watch");
    store.close();
    assert!(next(&mut watch).await.is_none());
    assert!(matches!(store.txn(put("/a", "v")).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn waits_for_a_revision() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let late = store.wait_for(3, Duration::from_millis(20)).await.err();
    assert!(matches!(
        late,
        Some(StoreError::FutureRevision { asked: 3, current: 1 })
    ));
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for(3, Duration::from_secs(10)).await.map(|s| s.revision()) }
    });
    store.txn(put("/a", "1")).await.expect("put");
    store.txn(put("/a", "2")).await.expect("put");
    assert_eq!(waiting.await.expect("task").expect("in time"), 3);
}

#[tokio::test]
async fn pages_of_a_list_see_one_revision() {
    let store = filled().await;
    let revision = store.snapshot().revision();
    let first = store.snapshot().range(b"/p/", None, 4);
    store.txn(delete("/p/7")).await.expect("delete");
    store.txn(put("/p/55", "late")).await.expect("put");
    let then = store
        .snapshot_at(revision)
        .expect("kept")
        .range(b"/p/", Some(b"/p/3"), 0);
    assert_eq!((first.remaining, then.entries.len()), (6, 6));
}
