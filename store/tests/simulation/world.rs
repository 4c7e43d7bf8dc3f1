//! The cluster: servers that start, end in whatever way, join and leave.

use crate::disk::SimDisk;
use crate::host::SimHost;
use crate::network::Network;
use crate::observer::Observer;
use crate::random::{Random, lock};
use crate::schedule::Schedule;
use skiff_store::host;
use skiff_store::*;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Small, so that segments fill, snapshots are taken and the log is purged within seconds.
const SEGMENT_BYTES: u64 = 16 << 10;

const HISTORY: Duration = Duration::from_secs(6);

/// Little enough that clients use it up now and then.
const QUOTA: std::ops::Range<u64> = 8 << 10..64 << 10;

/// Opening takes no longer: it does not wait for others.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// A server that runs.
#[derive(Clone)]
pub struct Up {
    pub host: Arc<SimHost>,
    pub store: Arc<RaftStore>,
}

impl Up {
    /// Does something on this server; `None` if it ended meanwhile or nothing came of it.
    pub async fn ask<T>(&self, limit: Duration, what: impl Future<Output = T>) -> Option<T> {
        let on = host::on(self.host.clone(), what);
        tokio::select! {
            biased;
            () = self.host.life.ends() => None,
            done = on => (!self.host.life.has_ended()).then_some(done),
            () = sleep(limit) => None,
        }
    }
}

struct Server {
    disk: SimDisk,
    /// It was told to start, and did not end since.
    host: Option<Arc<SimHost>>,
    store: Option<Arc<RaftStore>>,
    join: bool,
    ahead: Duration,
    /// Its disk was made to fail, so that it may not start.
    excused: bool,
}

pub struct World {
    pub random: Random,
    pub schedule: Schedule,
    pub network: Network,
    pub observer: Arc<Observer>,
    servers: Mutex<BTreeMap<u64, Server>>,
    next_id: Mutex<u64>,
    began: Instant,
    told: bool,
    pub healed: AtomicBool,
    /// What the stores may grow to; 0: no end.
    quota: u64,
    /// Clocks and processes run evenly: what is promised for a time can be relied on.
    pub even: AtomicBool,
}

pub fn name(id: u64) -> String {
    format!("server-{id}")
}

impl World {
    pub fn new(random: Random) -> Arc<Self> {
        let quota = match random.once_in(3) {
            true => random.below(QUOTA),
            false => 0,
        };
        let schedule = Schedule::new(random.clone());
        Self::with(schedule, random, quota)
    }

    /// Another cluster in the same world, with quota for all there is.
    pub fn beside(&self) -> Arc<Self> {
        Self::with(self.schedule.clone(), self.random.clone(), 0)
    }

    pub fn without_quota(random: Random) -> Arc<Self> {
        let schedule = Schedule::new(random.clone());
        Self::with(schedule, random, 0)
    }

    fn with(schedule: Schedule, random: Random, quota: u64) -> Arc<Self> {
        Arc::new(World {
            network: Network::new(schedule.clone(), random.clone()),
            schedule,
            random,
            observer: Arc::new(Observer::new(quota)),
            servers: Mutex::default(),
            next_id: Mutex::new(1),
            began: Instant::now(),
            told: std::env::var_os("SKIFF_SIM_TRACE").is_some(),
            healed: AtomicBool::new(false),
            quota,
            even: AtomicBool::new(false),
        })
    }

    /// Says what happens, when a single seed is looked at.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), what());
        }
    }

    /// A new server's number.
    pub fn add(&self, join: bool) -> u64 {
        let mut next = lock(&self.next_id);
        let id = *next;
        *next += 1;
        lock(&self.servers).insert(
            id,
            Server {
                disk: SimDisk::new(self.random.clone()),
                host: None,
                store: None,
                join,
                ahead: Duration::ZERO,
                excused: false,
            },
        );
        id
    }

    pub fn ids(&self) -> Vec<u64> {
        lock(&self.servers).keys().copied().collect()
    }

    pub fn up(&self, id: u64) -> Option<Up> {
        let servers = lock(&self.servers);
        let server = servers.get(&id)?;
        let (host, store) = (server.host.clone()?, server.store.clone()?);
        (!host.life.has_ended()).then_some(Up { host, store })
    }

    pub fn all_up(&self) -> Vec<Up> {
        self.ids().into_iter().filter_map(|id| self.up(id)).collect()
    }

    pub fn any_up(&self) -> Option<Up> {
        self.random.pick(&self.all_up())
    }

    pub fn disk(&self, id: u64) -> Option<SimDisk> {
        lock(&self.servers).get(&id).map(|s| s.disk.clone())
    }

    pub fn leader(&self) -> Option<Up> {
        let ups = self.all_up();
        ups.into_iter().find(|up| up.store.leader() == Some(up.host.id))
    }

    /// Starts a server unless it runs; waits until it is open.
    pub async fn start(self: &Arc<Self>, id: u64) -> bool {
        let (host, disk, join, excused) = {
            let mut servers = lock(&self.servers);
            let Some(server) = servers.get_mut(&id) else {
                return false;
            };
            if server.host.as_ref().is_some_and(|h| !h.life.has_ended()) {
                return server.store.is_some();
            }
            let host = SimHost::new(
                id,
                self.schedule.clone(),
                self.random.clone(),
                self.observer.clone(),
                server.ahead,
            );
            server.host = Some(host.clone());
            server.store = None;
            let excused = std::mem::take(&mut server.excused);
            server.disk = server.disk.for_life(host.life.clone());
            (host, server.disk.clone(), server.join, excused)
        };
        self.tell(|| format!("start {id}"));
        let config = StoreConfig {
            node_id: id,
            address: name(id),
            join,
            history: HISTORY,
            quota_bytes: self.quota,
            transport: Arc::new(self.network.link(host.clone())),
            disk: Arc::new(disk),
            segment_bytes: SEGMENT_BYTES,
            ..StoreConfig::new(format!("/{}", name(id)))
        };
        let opening = host::on(host.clone(), RaftStore::open(config));
        let opened = tokio::select! {
            biased;
            () = host.life.ends() => { self.end(id); return false },
            opened = timeout(OPEN_MAX, opening) => opened,
        };
        match opened {
            _ if host.life.has_ended() => {
                self.end(id);
                false
            }
            Ok(Ok(store)) => {
                self.network.plug_in(host.clone(), store.clone());
                if let Some(server) = lock(&self.servers).get_mut(&id) {
                    server.store = Some(store);
                }
                self.watch_over(id, host);
                true
            }
            Ok(Err(error)) => {
                if !excused {
                    self.observer.fail(format!("server {id} does not start: {error:?}"));
                }
                self.end(id);
                false
            }
            Err(_) => {
                self.observer
                    .fail(format!("server {id} does not come to an end with starting"));
                self.end(id);
                false
            }
        }
    }

    /// When the disk ends a life, the rest of the server goes with it.
    fn watch_over(self: &Arc<Self>, id: u64, host: Arc<SimHost>) {
        let world = self.clone();
        self.schedule.spawn(async move {
            host.life.ends().await;
            let current = lock(&world.servers).get(&id).and_then(|s| s.host.clone());
            if current.is_some_and(|current| Arc::ptr_eq(&current, &host)) {
                world.end(id);
            }
        });
    }

    /// The process is gone.
    fn end(&self, id: u64) {
        self.network.unplug(id);
        let (host, store) = {
            let mut servers = lock(&self.servers);
            let Some(server) = servers.get_mut(&id) else { return };
            if let Some(host) = &server.host {
                server.ahead = skiff_store::host::Host::ahead(&**host);
            }
            (server.host.take(), server.store.take())
        };
        if let Some(host) = host {
            host.end();
        }
        drop(store);
    }

    /// `kill -9`: what was written is there.
    pub fn kill(&self, id: u64) {
        self.tell(|| format!("kill {id}"));
        self.end(id);
    }

    /// The power fails: what was not synced may be gone.
    pub fn lose_power(&self, id: u64) {
        self.tell(|| format!("power loss {id}"));
        self.end(id);
        if let Some(disk) = self.disk(id) {
            disk.lose_power();
        }
    }

    pub fn excuse(&self, id: u64) {
        if let Some(server) = lock(&self.servers).get_mut(&id) {
            server.excused = true;
        }
    }

    /// Stops a server as its operator does: it hands over, and ends.
    pub async fn stop(&self, id: u64) {
        let Some(up) = self.up(id) else { return };
        self.tell(|| format!("stop {id}"));
        up.ask(Duration::from_secs(20), up.store.shutdown()).await;
        self.end(id);
    }

    /// Takes a server away for good.
    pub fn forget(&self, id: u64) {
        self.end(id);
        if let Some(server) = lock(&self.servers).remove(&id) {
            server.disk.erase();
        }
    }

    /// Starts a new server and makes it part of the group. False if that did not come
    /// about; it may yet.
    pub async fn join(self: &Arc<Self>, id: u64) -> bool {
        if !self.start(id).await {
            return false;
        }
        let Some(asked) = self.random.pick(&self.members_up()) else {
            return false;
        };
        self.tell(|| format!("join {id}"));
        let limit = Duration::from_secs(130);
        let added = asked.ask(limit, asked.store.add_member(id, &name(id))).await;
        self.tell(|| format!("joined {id}: {added:?}"));
        matches!(added, Some(Ok(())))
    }

    /// Those of the group that run.
    pub fn members_up(&self) -> Vec<Up> {
        let members = self.members();
        let mut ups = self.all_up();
        ups.retain(|up| members.iter().any(|m| m.id == up.host.id));
        ups
    }

    /// Those who are in the group by the word of a server that knows most.
    pub fn members(&self) -> Vec<Member> {
        let ups = self.all_up();
        let best = ups
            .iter()
            .max_by_key(|up| (up.store.progress().applied_index, up.host.id));
        best.map(|up| up.store.members()).unwrap_or_default()
    }

    pub fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Acquire)
    }
}
