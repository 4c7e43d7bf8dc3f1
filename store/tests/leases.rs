//! Leases through the real store: they end, they live on through a restart, and what
//! goes with them goes at once.

use skiff_store::*;
use std::time::Duration;

fn leased(key: &str, lease: LeaseId) -> Txn {
    let op = Op::PutWith {
        key: key.to_owned().into(),
        record: Some(Record::default()),
        lease: Some(lease),
    };
    Txn {
        then: vec![op],
        ..Txn::default()
    }
}

#[tokio::test]
async fn a_lease_that_is_not_kept_alive_takes_its_keys() {
    let dir = tempfile::tempdir().expect("directory");
    let store = RaftStore::open(StoreConfig::new(dir.path())).await.expect("opened");
    // Raised to the shortest there is.
    let short = store.lease_grant(0, 1).await.expect("granted");
    let long = store.lease_grant(77, 3600).await.expect("granted");
    assert!(short.id > 0 && short.ttl_s == 2 && long.id == 77);
    let again = store.lease_grant(77, 5).await;
    assert!(
        matches!(again, Err(StoreError::Refused(Refused::LeaseExists(77)))),
        "{again:?}"
    );
    store.txn(leased("/a", short.id)).await.expect("put");
    let put = store.txn(leased("/b", 77)).await.expect("put");
    let mut watch = store.watch("/a".into(), put.revision).expect("watching");
    let gone = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let batch = watch.next().await.expect("open");
            if let Some(event) = batch.events.first() {
                break event.clone();
            }
        }
    });
    let gone = gone.await.expect("it ends");
    assert_eq!((gone.entry.is_none(), gone.key()), (true, &b"/a"[..]));
    let (time, keys) = store.lease_time_to_live(77).await.expect("there");
    assert_eq!((time.granted, keys), (Duration::from_secs(3600), vec!["/b".into()]));
    assert!(matches!(
        store.lease_keep_alive(short.id).await,
        Err(StoreError::Refused(Refused::LeaseNotFound(_)))
    ));
    assert_eq!(store.leases(), [long]);
    store.shutdown().await;
}

#[tokio::test]
async fn leases_live_on_through_restarts() {
    let dir = tempfile::tempdir().expect("directory");
    let open = || RaftStore::open(StoreConfig::new(dir.path()));
    let store = open().await.expect("opened");
    store.lease_grant(5, 3600).await.expect("granted");
    store.lease_grant(6, 3600).await.expect("granted");
    store.txn(leased("/a", 5)).await.expect("put");
    store.lease_revoke(6).await.expect("revoked");
    store.shutdown().await;
    drop(store);
    // From the state database; and from the log alone.
    for forget in [false, true] {
        if forget {
            std::fs::remove_dir_all(dir.path().join("state")).expect("removed");
        }
        let store = open().await.expect("opened");
        assert_eq!(store.leases(), [Lease { id: 5, ttl_s: 3600 }]);
        let (time, keys) = store.lease_time_to_live(5).await.expect("there");
        assert_eq!(keys, ["/a"]);
        assert!(time.left > Duration::from_secs(3500));
        store.shutdown().await;
    }
    let store = open().await.expect("opened");
    let revoked = store.lease_revoke(5).await.expect("revoked");
    let current = store.snapshot();
    assert_eq!((current.get(b"/a"), current.revision()), (None, revoked.revision));
    store.shutdown().await;
}
