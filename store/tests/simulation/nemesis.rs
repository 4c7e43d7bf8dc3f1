//! What goes wrong, drawn by chance. Each seed has its own mix, so that rare
//! combinations get their turn.

use crate::network::Weather;
use crate::world::World;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Two groups that do not hear each other.
    Split,
    /// One is not heard, or does not hear.
    Deaf,
    Kill,
    PowerLoss,
    /// In the midst of what is written.
    PowerLossLater,
    AllLosePower,
    /// The process does not run for a while.
    Pause,
    ClockJump,
    /// An operator stops it; a leader hands over.
    Stop,
    /// One leaves, another joins.
    Replace,
    SyncFails,
    DiskFull,
    SlowDisk,
    Weather,
}

const ALL: [Fault; 14] = [
    Fault::Split,
    Fault::Deaf,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::PowerLossLater,
    Fault::AllLosePower,
    Fault::Pause,
    Fault::ClockJump,
    Fault::Stop,
    Fault::Replace,
    Fault::SyncFails,
    Fault::DiskFull,
    Fault::SlowDisk,
    Fault::Weather,
];

/// Steps on the disk until the power fails in the midst of them.
const FUSE_STEPS: std::ops::Range<u64> = 0..40;

/// Starts a server again after a while; another fault may have met it meanwhile.
fn start_later(world: &Arc<World>, id: u64) {
    let (world, later) = (world.clone(), world.random.millis(20..4000));
    world.schedule.clone().spawn(async move {
        sleep(later).await;
        world.start(id).await;
    });
}

/// Lets things go wrong for a while.
pub async fn rage(world: &Arc<World>, time: Duration) {
    let random = &world.random;
    let mut mix: Vec<Fault> = ALL.into_iter().filter(|_| random.once_in(2)).collect();
    if mix.is_empty() {
        mix.push(Fault::Kill);
    }
    world.tell(|| format!("faults: {mix:?}"));
    let uneven = [Fault::Pause, Fault::ClockJump];
    world
        .even
        .store(!mix.iter().any(|f| uneven.contains(f)), Ordering::Release);
    let pace = random.below(300..2500);
    let end = Instant::now() + time;
    let mut calm_at = Instant::now();
    while Instant::now() < end && world.observer.failure().is_none() {
        sleep(random.millis(50..pace)).await;
        if calm_at < Instant::now() {
            world.network.mend();
        }
        if let Some(fault) = random.pick(&mix)
            && strike(world, fault).await
        {
            calm_at = Instant::now() + random.millis(200..6000);
        }
    }
}

/// True if the network was cut.
async fn strike(world: &Arc<World>, fault: Fault) -> bool {
    let (random, network) = (&world.random, &world.network);
    let ids = world.ids();
    // Leaders are more worth being hit.
    let leader = world.leader().map(|up| up.host.id).filter(|_| random.once_in(2));
    let Some(id) = leader.or_else(|| random.pick(&ids)) else {
        return false;
    };
    world.tell(|| format!("{fault:?} {id}"));
    random.note(fault as u64);
    match fault {
        Fault::Split | Fault::Deaf => {
            cut(world, fault, id, &ids);
            return true;
        }
        Fault::Kill => {
            world.kill(id);
            start_later(world, id);
        }
        Fault::PowerLoss => {
            world.lose_power(id);
            start_later(world, id);
        }
        Fault::PowerLossLater => lose_power_later(world, id),
        Fault::AllLosePower => {
            for id in ids {
                world.lose_power(id);
                start_later(world, id);
            }
        }
        Fault::Pause => pause(world, id),
        Fault::ClockJump => {
            if let Some(up) = world.up(id) {
                up.host.jump(random.millis(50..15_000));
            }
        }
        Fault::Stop => {
            let world = world.clone();
            world.schedule.clone().spawn(async move {
                world.stop(id).await;
                start_later(&world, id);
            });
        }
        Fault::Replace => replace(world, id).await,
        Fault::SyncFails => {
            if let Some(disk) = world.disk(id) {
                world.excuse(id);
                disk.fail_sync();
            }
            // Whoever acknowledges nothing any more is started again by its operator.
            let (world, later) = (world.clone(), random.millis(500..3000));
            world.schedule.clone().spawn(async move {
                sleep(later).await;
                world.lose_power(id);
                world.start(id).await;
            });
        }
        Fault::DiskFull => {
            world.excuse(id);
            if let Some(disk) = world.disk(id) {
                disk.set_full(true);
                let later = random.millis(500..12_000);
                world.schedule.clone().spawn(async move {
                    sleep(later).await;
                    disk.set_full(false);
                });
            }
        }
        Fault::SlowDisk => {
            if let Some(up) = world.up(id) {
                up.host.set_slow_disk(random.once_in(2));
            }
        }
        Fault::Weather => network.set_weather(match random.once_in(3) {
            true => Weather::default(),
            false => Weather {
                loss: random.below(5..200),
                twice: random.below(2..30),
                slow: random.below(2..100),
            },
        }),
    }
    false
}

fn cut(world: &Arc<World>, fault: Fault, id: u64, ids: &[u64]) {
    let (random, network) = (&world.random, &world.network);
    if fault == Fault::Deaf {
        let hears = random.once_in(2);
        for other in ids.iter().filter(|other| **other != id) {
            match hears {
                true => network.cut(id, *other),
                false => network.cut(*other, id),
            }
        }
        return;
    }
    let side: Vec<bool> = ids.iter().map(|_| random.once_in(2)).collect();
    for (a, here) in ids.iter().zip(&side) {
        for (b, there) in ids.iter().zip(&side) {
            if here != there {
                network.cut(*a, *b);
            }
        }
    }
}

fn lose_power_later(world: &Arc<World>, id: u64) {
    let Some(up) = world.up(id) else { return };
    let Some(disk) = world.disk(id) else { return };
    disk.lose_power_in(world.random.below(FUSE_STEPS));
    let world = world.clone();
    world.schedule.clone().spawn(async move {
        tokio::select! {
            biased;
            () = up.host.life.ends() => {}
            () = sleep(Duration::from_secs(10)) => {}
        }
        if world.is_healed() && !up.host.life.has_ended() {
            return;
        }
        world.lose_power(id);
        start_later(&world, id);
    });
}

fn pause(world: &Arc<World>, id: u64) {
    let Some(up) = world.up(id) else { return };
    up.host.pause(true);
    let later = world.random.millis(50..6000);
    world.schedule.clone().spawn(async move {
        sleep(later).await;
        up.host.pause(false);
    });
}

/// One that votes leaves, and a new one comes in its place; or one comes first.
async fn replace(world: &Arc<World>, id: u64) {
    if world.ids().len() < 5 {
        let (world, new) = (world.clone(), world.add(true));
        world.schedule.clone().spawn(async move {
            world.join(new).await;
        });
        return;
    }
    // One that is about to join is left alone.
    if !world.members().iter().any(|m| m.id == id && m.voter) {
        return;
    }
    let Some(asked) = world.any_up() else { return };
    let world = world.clone();
    world.schedule.clone().spawn(async move {
        let removed = asked.ask(Duration::from_secs(130), asked.store.remove_member(id)).await;
        world.tell(|| format!("removed {id}: {removed:?}"));
        // A late copy of what made it join may make it join again.
        sleep(Duration::from_secs(4)).await;
        let is_member = world.members().iter().any(|m| m.id == id);
        if matches!(removed, Some(Ok(()))) && !is_member {
            world.forget(id);
        }
    });
}

/// Ends all that is wrong, and waits until all servers are of one mind.
pub async fn heal(world: &Arc<World>, limit: Duration) -> Result<(), String> {
    world.tell(|| "heal".into());
    world.network.set_weather(Weather::default());
    let end = Instant::now() + limit;
    let mut same = 0;
    while same < 5 {
        if let Some(failure) = world.observer.failure() {
            return Err(failure);
        }
        if Instant::now() > end {
            return Err(format!(
                "all is well, but the servers do not agree: {}",
                standing(world)
            ));
        }
        world.network.mend();
        for id in world.ids() {
            if let Some(disk) = world.disk(id) {
                if disk.was_unreserved() {
                    return Err(format!("server {id} took on more for its log than there was space for"));
                }
                disk.calm();
            }
            match world.up(id) {
                Some(up) => {
                    up.host.pause(false);
                    up.host.set_slow_disk(false);
                }
                None => {
                    world.start(id).await;
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
        same = match agreed(world) {
            true => same + 1,
            false => 0,
        };
    }
    Ok(())
}

/// Everybody in the group runs, follows one leader, and stands at the same place.
fn agreed(world: &World) -> bool {
    let members: Vec<u64> = world.members().iter().map(|m| m.id).collect();
    let ups = world.members_up();
    let all_run = members.iter().all(|id| ups.iter().any(|up| up.host.id == *id));
    let leaders = ups.iter().map(|up| up.store.leader());
    let leaders: std::collections::BTreeSet<_> = leaders.collect();
    let indexes: std::collections::BTreeSet<_> = ups.iter().map(|up| up.store.progress().applied_index).collect();
    all_run && leaders.len() == 1 && leaders.first().is_some_and(Option::is_some) && indexes.len() == 1
}

/// Where each server stands, to be read.
fn standing(world: &World) -> String {
    let ups = world.all_up();
    let each = ups.iter().map(|up| {
        let members: Vec<_> = up.store.members().iter().map(|m| (m.id, m.voter)).collect();
        format!(
            "{}: leader {:?}, {:?}, members {members:?}",
            up.host.id,
            up.store.leader(),
            up.store.progress()
        )
    });
    let each: Vec<_> = each.collect();
    format!("of {:?}, {}", world.ids(), each.join("; "))
}
