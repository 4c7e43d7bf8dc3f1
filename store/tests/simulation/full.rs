//! One server's disk is full for long, and nothing else is wrong: clients notice nothing
//! but a moment without a leader.

use crate::random::Random;
use crate::world::{Up, World};
use bytes::Bytes;
use skiff_store::*;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From a full disk to writes that are taken, by way of another leader.
const NOTICED_MAX: Duration = Duration::from_secs(3);

fn put(key: &str, body: &str) -> Txn {
    let record = Record {
        header: Arc::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let key = Bytes::copy_from_slice(key.as_bytes());
    Txn {
        then: vec![Op::Put { key, record }],
        ..Txn::default()
    }
}

async fn write(up: &Up, key: &str) -> Result<TxnResult, String> {
    // Segments are small here, so that a few of these fill what was reserved.
    let body = "x".repeat(1000);
    let written = up.ask(Duration::from_secs(20), up.store.txn(put(key, &body))).await;
    match written {
        Some(Ok(result)) => Ok(result),
        other => Err(format!("{key}: {other:?}")),
    }
}

async fn leader_but(world: &Arc<World>, but: u64) -> Result<Up, String> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        match world.leader() {
            Some(up) if up.host.id != but => return Ok(up),
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
    Err(format!("nobody leads but {but}"))
}

async fn group(world: &Arc<World>) -> Result<Up, String> {
    for (id, join) in [
        (world.add(false), false),
        (world.add(true), true),
        (world.add(true), true),
    ] {
        let begun = match join {
            false => world.start(id).await,
            true => world.join(id).await,
        };
        if !begun {
            return Err(format!("server {id} does not start"));
        }
    }
    leader_but(world, 0).await
}

fn has(up: &Up, key: &str) -> bool {
    up.store.snapshot().get(key.as_bytes()).is_some()
}

async fn all_have(world: &Arc<World>, key: &str) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if world.all_up().iter().all(|up| has(up, key)) {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(format!("not everybody has {key}"))
}

/// Writes until what the log of a server with a full disk has reserved is used up.
async fn write_much(up: &Up, name: &str) -> Result<(), String> {
    for n in 0..40 {
        write(up, &format!("/{name}/{n}")).await?;
    }
    Ok(())
}

async fn leader_without_room(world: &Arc<World>) -> Result<(), String> {
    let old = group(world).await?;
    let id = old.host.id;
    let disk = world.disk(id).ok_or("a disk")?;
    disk.set_full(true);
    let mut slowest = Duration::ZERO;
    for n in 0..60 {
        let begun = Instant::now();
        write(&old, &format!("/during/{n}")).await?;
        slowest = slowest.max(begun.elapsed());
    }
    if slowest > NOTICED_MAX {
        return Err(format!("a write took {slowest:?}"));
    }
    let new = leader_but(world, id).await?;
    // It does not lead again as long as it has no room, also when the others stop for a while.
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        if old.store.leader() == Some(id) {
            return Err("a server without room leads again".into());
        }
    }
    write_much(&new, "more").await?;
    if has(&old, "/more/39") {
        return Err("the full disk took what there was no room for".into());
    }
    // What it has is read there.
    if !has(&old, "/during/0") {
        return Err("nothing is read from the server with the full disk".into());
    }
    disk.set_full(false);
    all_have(world, "/more/39").await
}

async fn follower_without_room(world: &Arc<World>) -> Result<(), String> {
    let leader = group(world).await?;
    let id = world
        .ids()
        .into_iter()
        .find(|id| *id != leader.host.id)
        .ok_or("a follower")?;
    let (up, disk) = (world.up(id).ok_or("it runs")?, world.disk(id).ok_or("a disk")?);
    disk.set_full(true);
    write_much(&leader, "during").await?;
    if has(&up, "/during/39") {
        return Err("the full disk took what there was no room for".into());
    }
    // It forwards what it is asked to write, and tells what came of it.
    let forwarded = write(&up, "/forwarded").await?;
    if forwarded.revision == 0 || !has(&leader, "/forwarded") {
        return Err(format!("{forwarded:?}"));
    }
    if world.leader().map(|up| up.host.id) != Some(leader.host.id) {
        return Err("another leads".into());
    }
    disk.set_full(false);
    all_have(world, "/forwarded").await
}

/// Without the one with room there is no majority that has all: the one without leads,
/// and reads go on.
async fn nobody_has_room(world: &Arc<World>) -> Result<(), String> {
    let leader = group(world).await?;
    for id in world.ids() {
        world.disk(id).ok_or("a disk")?.set_full(true);
    }
    let mut refused = None;
    for n in 0..60 {
        if let Err(why) = write(&leader, &format!("/during/{n}")).await {
            refused = Some(why);
            break;
        }
    }
    let why = refused.ok_or("full disks take everything")?;
    if !why.contains("free some") && !why.contains("full") {
        return Err(format!("it is not said what to do: {why}"));
    }
    sleep(Duration::from_secs(20)).await;
    let leads = leader_but(world, 0).await?;
    let read = leads
        .ask(Duration::from_secs(10), leads.store.snapshot_linearizable())
        .await;
    if !matches!(read, Some(Ok(_))) {
        return Err("nothing can be read".into());
    }
    for id in world.ids() {
        world.disk(id).ok_or("a disk")?.set_full(false);
    }
    sleep(Duration::from_secs(5)).await;
    write(&leader, "/after").await?;
    all_have(world, "/after").await
}

fn check<F>(scenario: impl Fn(Arc<World>) -> F)
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    for seed in 1..=3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let outcome = runtime.block_on(async {
            let world = World::without_quota(Random::new(seed));
            let outcome = world.schedule.spawn(scenario(world.clone())).await.expect("no panic");
            let unreserved = world
                .ids()
                .into_iter()
                .filter_map(|id| world.disk(id))
                .any(|d| d.was_unreserved());
            assert!(!unreserved, "seed {seed}: the log met a full disk");
            outcome.and(world.observer.failure().map_or(Ok(()), Err))
        });
        assert_eq!(outcome, Ok(()), "seed {seed}");
    }
}

#[test]
fn a_leader_without_room_lets_another_lead() {
    check(|world| async move { leader_without_room(&world).await });
}

#[test]
fn a_follower_without_room_forwards_and_catches_up() {
    check(|world| async move { follower_without_room(&world).await });
}

#[test]
fn without_room_anywhere_reads_go_on() {
    check(|world| async move { nobody_has_room(&world).await });
}
