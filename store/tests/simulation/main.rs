//! The store in a simulated world: every server, its disk, its clock and the network
//! between them are made of one seed, so a failure comes again whenever it is asked for.
//!
//! ```text
//! nemesis ── cuts, kills, power losses, pauses, clock jumps ──► world ◄── clients, watchers
//!                                                                │             │
//!            RaftStore on SimHost, SimDisk, Network ◄────────────┘             │
//!                     └── every applied state ──► observer ──► invariants ◄────┘ what they were told
//! ```
//!
//! First things go wrong for a while and whatever is safe must stay so; then all is
//! mended, and the servers must come to one mind and take writes again.
//!
//! How it is one world: a tokio runtime of one thread whose time is paused and runs ahead
//! when nobody has anything to do; chance decides whose turn is next (`schedule`); all chance comes from one generator; nothing of the
//! store is a thread, reads a clock or a file (`skiff_store::host` is the seam). The state
//! database is simulated as a table that loses or mixes up what it wrote last, since what
//! sled leaves behind is trusted no further.
//!
//! `SKIFF_SIM_SEEDS=n` runs that many seeds, `SKIFF_SIM_SEED=s` one, `SKIFF_SIM_TRACE=1` says
//! what happens.
//!
//! MUTANTS.md says which faults, put into the store on purpose, were found, and by what.

mod backups;
mod bad_histories;
mod clients;
mod disk;
mod full;
mod host;
mod invariants;
mod nemesis;
mod network;
mod observer;
mod random;
mod schedule;
mod world;

use backups::Backups;
use clients::Clients;
use invariants::Report;
use invariants::one_leader::Leaders;
use observer::{number, text};
use random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use world::World;

/// How many seeds are run when nothing else is asked for.
const SEEDS: u64 = 300;

/// Seeds that once found a fault, with what it was.
const ONCE_FAILED: &[(u64, &str)] = &[
    (
        4,
        "a leader that lost power led on in its term, and gave places in the log that others had committed to something else",
    ),
    (
        138,
        "a leader took itself out, then changed the group once more, which ended its Raft",
    ),
];

/// How long the servers may take to come to one mind once all is well.
const HEAL_MAX: Duration = Duration::from_secs(180);

/// Longer than any lease lives.
const LEASES_END: Duration = Duration::from_secs(7);

/// What a simulation ends with: its trace, and what was wrong.
type Ended = (u64, Result<(), String>);

async fn simulate(seed: u64) -> Ended {
    let random = Random::new(seed);
    let world = World::new(random.clone());
    let clients = Arc::new(Clients::default());
    let (living, asking) = (world.clone(), clients.clone());
    let life = world.schedule.spawn(async move { live(&living, &asking).await });
    let outcome = life.await.unwrap_or_else(|e| Err(e.to_string()));
    let outcome = match world.observer.failure() {
        Some(failure) => Err(failure),
        None => outcome,
    };
    (random.trace(), outcome)
}

async fn live(world: &Arc<World>, clients: &Arc<Clients>) -> Result<(), String> {
    let random = &world.random;
    let servers = if random.once_in(3) { 5 } else { 3 };
    if !world.start(world.add(false)).await {
        return Err("the first server does not start".into());
    }
    for _ in 1..servers {
        let id = world.add(true);
        if !world.join(id).await {
            return Err(format!("server {id} does not join though all is well"));
        }
    }
    let watched = world.clone();
    world.schedule.spawn(async move {
        let mut leaders = Leaders::default();
        loop {
            leaders.check(&watched);
            sleep(Duration::from_millis(50)).await;
        }
    });
    for client in 1..=random.below(2..6) {
        world.schedule.spawn(clients.clone().run(world.clone(), client));
    }
    let backups = Arc::new(Backups::default());
    world.schedule.spawn(backups.clone().take(world.clone()));
    for watcher in 0..2 {
        world.schedule.spawn(clients.clone().watch(world.clone(), watcher));
    }
    nemesis::rage(world, random.millis(3000..10_000)).await;
    // Clients end with it: servers that take writes do not stand at one place.
    world.healed.store(true, Ordering::Release);
    nemesis::heal(world, HEAL_MAX).await?;
    clients.write_all(world).await?;
    clients.read_all(world).await;
    sleep(LEASES_END).await;
    nemesis::heal(world, HEAL_MAX).await?;
    let report = report(world, clients);
    report.check()?;
    backups.check(world, &report).await
}

fn report(world: &World, clients: &Clients) -> Report {
    let finals = world.members_up().into_iter().map(|up| {
        use skiff_store::Store;
        let state = up.store.snapshot();
        let entries = state.range(b"", None, 0).entries;
        let values = entries.iter().map(|e| (text(e.key()), number(e))).collect();
        (up.host.id, (state.revision(), values))
    });
    Report {
        history: world.observer.history(),
        records: clients.records(),
        glances: clients.glances(),
        watched: clients.watched(),
        revoked: clients.revoked(),
        finals: finals.collect(),
    }
}

fn run(seed: u64) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(simulate(seed))
}

fn commit() -> String {
    let git = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    git.map(|out| text(&out.stdout).trim().to_string()).unwrap_or_default()
}

fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs seeds on all processors; fails with all that failed.
fn run_all(seeds: Vec<u64>) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::AcqRel) as usize) {
                        if let (_, Err(why)) = run(*seed) {
                            failed.push(format!("seed {seed}: {why}"));
                        }
                    }
                    failed
                })
            })
            .collect();
        runners.into_iter().flat_map(|r| r.join().expect("no panic")).collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed at commit {} (again: SKIFF_SIM_SEED=<seed> SKIFF_SIM_TRACE=1):\n{}",
        failed.len(),
        seeds.len(),
        commit(),
        failed.join("\n")
    );
}

#[test]
fn whatever_goes_wrong_nothing_is_lost() {
    let seeds = match (asked("SKIFF_SIM_SEED"), asked("SKIFF_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(SEEDS)).collect(),
    };
    run_all(seeds);
}

#[test]
fn what_once_failed_does_not_fail_again() {
    run_all(ONCE_FAILED.iter().map(|(seed, _)| *seed).collect());
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 4, 5] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
