//! Short ways to write transactions in tests.
#![allow(dead_code)]

pub mod group;

use bytes::Bytes;
use skiff_store::*;
use std::sync::Arc;
use std::time::Duration;

pub fn record(body: &str) -> Record {
    let labels = [("app", "web")].into_iter().collect();
    let header = Header {
        labels,
        fields: [("spec.nodeName", "n1")].into_iter().collect(),
        rv_offset: 3,
    };
    Record {
        header: Arc::new(header),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub fn put(key: &str, body: &str) -> Txn {
    let op = Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        record: record(body),
    };
    Txn {
        then: vec![op],
        ..Txn::default()
    }
}

pub fn delete(key: &str) -> Txn {
    Txn {
        then: vec![Op::Delete {
            key: Bytes::copy_from_slice(key.as_bytes()),
        }],
        ..Txn::default()
    }
}

pub async fn next(watch: &mut Box<dyn Watch>) -> Option<WatchBatch> {
    tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .expect("the watch says something")
}

/// Everything a reader can see of a store's present and past.
pub fn dump(store: &dyn Store) -> Vec<(Revision, Vec<Entry>)> {
    let now = store.snapshot().revision();
    (store.compacted()..=now)
        .map(|r| {
            (
                r,
                store.snapshot_at(r).expect("kept revision").range(b"", None, 0).entries,
            )
        })
        .collect()
}

/// All kept events, in an order that does not depend on that within a revision.
pub async fn events(store: &dyn Store) -> Vec<Arc<Event>> {
    let now = store.snapshot().revision();
    let mut watch = store.watch(Bytes::new(), store.compacted()).expect("watch");
    let mut events: Vec<Arc<Event>> = Vec::new();
    while events.last().map_or(store.compacted(), |e| e.revision) < now {
        events.extend(next(&mut watch).await.expect("open watch").events);
    }
    events.sort_by(|a, b| (a.revision, a.key()).cmp(&(b.revision, b.key())));
    events
}
