//! Several servers: joining, leaving, losing the leader, and each write applied once.

mod support;

use skiff_store::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::group::Group;
use support::{delete, put};

fn has(store: &RaftStore, key: &str) -> bool {
    store.snapshot().get(key.as_bytes()).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_join_and_every_one_takes_writes_and_reads() {
    let mut group = Group::of_one().await;
    group.store(1).txn(put("/before", "1")).await.expect("put");
    group.join(2).await;
    group.join(3).await;
    let members = group.store(2).members();
    assert_eq!(
        members.iter().map(|m| (m.id, m.voter)).collect::<Vec<_>>(),
        [(1, true), (2, true), (3, true)]
    );
    for id in 1..=3 {
        let key = format!("/by/{id}");
        group.store(id).txn(put(&key, "x")).await.expect("put");
        assert!(has(group.store(id), &key), "whoever took a write has applied it");
        for reader in 1..=3 {
            let seen = group.store(reader).snapshot_linearizable().await.expect("read");
            assert!(
                seen.get(key.as_bytes()).is_some(),
                "server {reader} reads what {id} wrote"
            );
        }
    }
    // A watch on a follower sees what another wrote.
    let from = group.agree().await;
    let mut watch = group.store(3).watch("/w".into(), from).expect("watching");
    group.store(2).txn(put("/w", "1")).await.expect("put");
    assert_eq!(support::next(&mut watch).await.expect("open").events.len(), 1);
    // Leases are kept alive by whoever is asked.
    let lease = group.store(3).lease_grant(0, 60).await.expect("granted");
    for id in 1..=3 {
        let kept = group.store(id).lease_keep_alive(lease.id).await.expect("kept");
        assert_eq!(kept, Duration::from_secs(60));
    }
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_does_not_apply_a_write_twice() {
    let group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let follower = group
        .stores
        .iter()
        .find(|(id, _)| **id != leader)
        .expect("one")
        .1
        .clone();
    follower.txn(put("/count", "")).await.expect("put");
    for round in 0..10 {
        group.network.lose_answers(round % 3);
        follower.txn(put("/count", "")).await.expect("put");
    }
    let entry = follower.snapshot().get(b"/count").expect("there");
    assert_eq!(entry.version(), 11);
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_leader_loses_nothing() {
    let mut group = Group::of(3).await;
    let old = group.leader(&[]).await;
    let others: Vec<Arc<RaftStore>> = group
        .stores
        .iter()
        .filter(|(id, _)| **id != old)
        .map(|(_, s)| s.clone())
        .collect();
    // Clients of the other two, while the leader's link is cut.
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = others
        .iter()
        .enumerate()
        .map(|(at, store)| {
            let (store, stop, failed) = (store.clone(), stop.clone(), failed.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return written;
                    }
                    let key = format!("/c{at}/{n}");
                    match store.txn(put(&key, "x")).await {
                        Ok(result) => written.push((key, result.revision)),
                        Err(_) => {
                            failed.fetch_add(1, Ordering::AcqRel);
                        }
                    }
                }
                unreachable!("clients are told to stop")
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cut = Instant::now();
    group.network.cut(old);
    let new = group.leader(&[old]).await;
    let probe = group.store(new).txn(put("/probe", "x")).await;
    probe.expect("the new leader takes writes");
    eprintln!("another led and wrote {} ms after the cut", cut.elapsed().as_millis());
    // The old one cannot serve what it is not sure of.
    let stale = group.store(old).snapshot_linearizable().await;
    assert!(stale.is_err(), "a leader that is cut off is not read from");
    tokio::time::sleep(Duration::from_millis(300)).await;
    group.network.mend(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Release);
    let written = futures::future::join_all(clients).await;
    // Whoever led a moment ago may have to catch up by now.
    group.agree().await;
    for written in written {
        for (key, revision) in written.expect("client") {
            let entry = group
                .store(new)
                .snapshot()
                .get(key.as_bytes())
                .expect("what was acknowledged is there");
            assert_eq!(
                (entry.mod_revision(), entry.version()),
                (revision, 1),
                "{key} was applied once"
            );
        }
    }
    assert_eq!(
        failed.load(Ordering::Acquire),
        0,
        "clients of the majority notice nothing"
    );
    group.agree().await;
    // It comes back after a stop as well.
    group.stop(old).await;
    group.store(new).txn(put("/meanwhile", "x")).await.expect("put");
    group.start(old, false).await;
    group.agree().await;
    assert!(has(group.store(old), "/meanwhile"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over() {
    let mut group = Group::of(3).await;
    let old = group.leader(&[]).await;
    let began = Instant::now();
    group.stop(old).await;
    let new = group.leader(&[old]).await;
    group.store(new).txn(put("/a", "1")).await.expect("put");
    eprintln!("handed over in {} ms", began.elapsed().as_millis());
    group.store(new).remove_member(old).await.expect("removed");
    assert_eq!(group.store(new).members().len(), 2);
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_says_so_and_recovers() {
    let mut group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let others: Vec<u64> = group.stores.keys().copied().filter(|id| *id != leader).collect();
    let lease = group.store(leader).lease_grant(0, 3600).await.expect("granted");
    for id in &others {
        group.network.cut(*id);
    }
    let refused = group.store(leader).txn(put("/a", "1")).await;
    assert!(
        matches!(refused, Err(StoreError::Unknown | StoreError::NoLeader)),
        "{refused:?}"
    );
    assert!(group.store(leader).snapshot_linearizable().await.is_err());
    // Another may lead by now, and end the lease by its own books.
    let kept = group.store(leader).lease_keep_alive(lease.id).await;
    assert!(matches!(kept, Err(StoreError::Unavailable(_))), "{kept:?}");
    for id in &others {
        group.network.mend(*id);
    }
    group.leader(&[]).await;
    let kept = group.store(others[0]).lease_keep_alive(lease.id).await;
    assert_eq!(kept.expect("kept"), Duration::from_secs(3600));
    group.store(others[0]).txn(put("/b", "1")).await.expect("put");
    // What was unknown is now known: it is there or not, everywhere alike.
    group.agree().await;
    group.stop(others[1]).await;
    group
        .store(others[0])
        .txn(delete("/b"))
        .await
        .expect("two of three are a majority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_away_too_long_gets_a_snapshot() {
    let mut group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let away = group.stores.keys().copied().find(|id| *id != leader).expect("one");
    group.stop(away).await;
    let body = "x".repeat(256 << 10);
    for n in 0..600 {
        group
            .store(leader)
            .txn(put(&format!("/big/{}", n % 40), &body))
            .await
            .expect("put");
    }
    let before = group.network.snapshots();
    group.start(away, false).await;
    group.agree().await;
    assert!(group.network.snapshots() > before);
    let mut files = std::fs::read_dir(group.dir(away).join("snapshots"))
        .expect("directory")
        .flatten();
    assert!(files.any(|f| f.path().extension().is_some_and(|e| e == "snap")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_does_not_go_on_without_its_log() {
    let mut group = Group::of(3).await;
    let leader = group.leader(&[]).await;
    let written = group.store(leader).txn(put("/before", "x")).await;
    written.expect("put");
    group.agree().await;
    let lost = (1..=3).find(|id| *id != leader).expect("a follower");
    group.stop(lost).await;
    std::fs::rename(group.dir(lost).join("log"), group.dir(lost).join("log.damaged")).expect("moved");
    // What it acknowledged and whom it voted for is gone: another leader could be made without the write.
    let error = RaftStore::open(group.config(lost)).await.err().expect("refused");
    assert!(error.to_string().contains("skiff server remove"), "{error}");
    assert!(error.to_string().contains("--force-single"), "{error}");
    std::fs::remove_dir_all(group.dir(lost).join("log")).expect("what the try has made");
    std::fs::rename(group.dir(lost).join("log.damaged"), group.dir(lost).join("log")).expect("put back");
    group.start(lost, false).await;
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_left_goes_on_without_its_log_when_it_is_forced() {
    let mut group = Group::of(3).await;
    let written = group.store(1).txn(put("/before", "x")).await;
    written.expect("put");
    group.agree().await;
    for id in 1..=3 {
        group.stop(id).await;
    }
    std::fs::rename(group.dir(2).join("log"), group.dir(2).join("log.damaged")).expect("moved");
    let forced = RaftStore::force_single(&group.config(2)).await.expect("forced");
    assert_eq!(forced.expect("there were others").left_behind, [1, 3]);
    for round in 0..2 {
        let alone = group.start(2, false).await;
        assert!(alone.snapshot().get(b"/before").is_some());
        let written = alone.txn(put(&format!("/alone/{round}"), "x")).await;
        written.expect("it takes writes by itself");
        group.stop(2).await;
    }
    let alone = group.start(2, false).await;
    assert_eq!(alone.snapshot().range(b"", None, 0).entries.len(), 3);
}
