//! The shell: follows the API, asks the pure core, binds.
//!
//! ```text
//! watches --> snapshot, queue --> schedule() --> assumed in the snapshot --> binding (a task each)
//!                  ^   ^                '-- refused --> preempt() --> victims removed (a task)
//!                  |   '---------------- a change that may help wakes -------'     |
//!                  '------------------ failed: taken back, backed off -------------'
//! ```
//!
//! One task owns all state; what takes time runs in others, which report back.

mod bind;
mod devices;
mod evict;
mod observe;
mod storage;

use crate::filter::Candidate;
use crate::hints::NodeMarks;
use crate::kin::Kin;
use crate::metrics::{Metrics, Outcome};
use crate::preempt::{Budget, Preemption, preempt};
use crate::profile::Settings;
use crate::queue::{Backoff, Counts, Plugins, Popped, Queue};
use crate::report::Reporter;
use crate::schedule::{Unschedulable, schedule};
use crate::snapshot::{PodKey, Snapshot};
use crate::watches::Watches;
use crate::{Config, Error};
use bind::Bound;
use evict::{Evicted, Rooms};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Following, Prepared};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bindings under way at once: more would only queue in the API server.
const BINDINGS_MAX: usize = 64;
/// Decisions at a stretch before watches are heard again.
const SLICE: Duration = Duration::from_millis(5);
/// Observations taken in at a stretch before something is decided again.
const HEARD_MAX: usize = 512;
/// Wait before a driver that broke down is started again; doubled per time.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);

/// What other tasks did.
enum Done {
    Bound(Box<Bound>),
    Evicted(Evicted),
    Prepared(Prepared),
}

struct Driver {
    settings: Settings,
    client: kube::Client,
    metrics: Metrics,
    snapshot: Snapshot,
    queue: Queue,
    kin: Kin,
    reporter: Reporter,
    watches: Watches,
    /// Placed here, not yet seen bound by the watch; with the pod's uid.
    assumed: BTreeMap<PodKey, String>,
    nodes: BTreeMap<String, NodeMarks>,
    budgets: Budgets,
    storage: Following,
    devices: devices::Following,
    rooms: Rooms,
    bindings: Arc<Semaphore>,
    done: mpsc::UnboundedSender<Done>,
    seed: u64,
    sync: observe::Sync,
    told: Counts,
}

/// Followed from the first preemption on.
#[derive(Default)]
struct Budgets {
    started: bool,
    synced: bool,
    by_name: BTreeMap<PodKey, Budget>,
    /// Pods whose preemption waits for them.
    waiting: Vec<PodKey>,
}

/// Schedules until `shutdown`. Should the driver panic, it begins anew from fresh lists.
pub async fn run(config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<(), Error> {
    let mut pause = RESTART_MIN;
    loop {
        let round = shutdown.child_token();
        let begun = Instant::now();
        let ended = tokio::spawn(run_once(config.clone(), client.clone(), round.clone())).await;
        round.cancel();
        match ended {
            Ok(()) => return Ok(()),
            Err(error) => tracing::error!(%error, ?pause, "the scheduler broke down; it starts again"),
        }
        if begun.elapsed() > RESTART_MAX {
            pause = RESTART_MIN;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESTART_MAX),
        }
    }
}

async fn run_once(config: Config, client: kube::Client, shutdown: CancellationToken) {
    let (watches, mut heard) = Watches::start(client.clone(), shutdown.clone());
    let (sender, mut done) = mpsc::unbounded_channel();
    let metrics = Metrics::new(config.families);
    let backoff = Backoff {
        initial: config.settings.backoff_initial,
        max: config.settings.backoff_max,
    };
    let mut driver = Driver {
        reporter: Reporter::start(client.clone(), metrics.clone(), &shutdown),
        settings: config.settings,
        client,
        metrics,
        snapshot: Snapshot::default(),
        queue: Queue::new(backoff),
        kin: Kin::default(),
        watches,
        assumed: BTreeMap::new(),
        nodes: BTreeMap::new(),
        budgets: Budgets::default(),
        storage: Following::default(),
        devices: devices::Following::default(),
        rooms: Rooms::default(),
        bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
        done: sender,
        seed: 0,
        sync: observe::Sync::default(),
        told: Counts::default(),
    };
    let mut batch = Vec::new();
    loop {
        let more = driver.decide();
        driver.tell_counts();
        let due = driver.queue.next_due();
        let timer = async {
            match due {
                // A timer of no length takes up to a millisecond.
                _ if more => tokio::task::yield_now().await,
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(what) = done.recv() => {
                driver.done(what);
                while let Ok(what) = done.try_recv() {
                    driver.done(what);
                }
            }
            count = heard.recv_many(&mut batch, HEARD_MAX) => {
                if count == 0 {
                    return;
                }
                batch.drain(..).for_each(|what| driver.observe(what));
            }
            () = timer => {}
        }
    }
}

impl Driver {
    fn done(&mut self, what: Done) {
        match what {
            Done::Bound(bound) => self.bound(*bound),
            Done::Evicted(evicted) => self.evicted(&evicted),
            Done::Prepared(prepared) => self.prepared(&prepared),
        }
    }

    /// Tries what is ready, for a while; true if more is.
    fn decide(&mut self) -> bool {
        if !self.sync.complete() {
            return false;
        }
        let begun = Instant::now();
        while self.bindings.available_permits() > 0 {
            let now = Instant::now();
            if now.duration_since(begun) > SLICE {
                return self.queue.is_ready(now);
            }
            let Some(mut popped) = self.queue.pop(now) else {
                return false;
            };
            let candidate = &mut popped.candidate;
            if !candidate.claims.is_empty() && !self.knows_storage(&candidate.info.key) {
                continue;
            }
            if !candidate.devices.is_empty() && !self.has_claims(candidate, now) {
                continue;
            }
            if spreads_by_default(candidate) {
                candidate.kin = self.kin.of(&candidate.pod);
            }
            self.seed = self.seed.wrapping_add(1);
            let decision = schedule(&mut self.snapshot, candidate, self.seed);
            self.metrics.decided(now.elapsed());
            match decision {
                Ok(placement) if self.waits_for_volumes(&popped.candidate, &placement.node, now) => {}
                Ok(placement) => self.bind(popped, placement.node, now),
                Err(why) => self.refused(&popped, why, now),
            }
        }
        // A binding that ends makes room for more.
        false
    }

    fn refused(&mut self, popped: &Popped, mut why: Unschedulable, now: Instant) {
        let candidate = &popped.candidate;
        let key = &candidate.info.key;
        if !self.budgets.synced {
            if !self.budgets.started {
                self.budgets.started = true;
                self.watches.start_budgets();
            }
            self.budgets.waiting.push(key.clone());
            self.queue.making_room(key);
            return;
        }
        self.deallocate(candidate, &mut why);
        let budgets: Vec<Budget> = self.budgets.by_name.values().cloned().collect();
        let room = preempt(&mut self.snapshot, candidate, &why, &budgets);
        let refused_by: Plugins = why.plugins.iter().copied().collect();
        let name = &candidate.profile.name;
        self.metrics.attempted(name, Outcome::Unschedulable, now.elapsed());
        match room {
            Ok(room) => self.preempt(candidate, &why, room),
            Err(vain) => {
                let nominated = vain.clear_nomination.then(|| {
                    self.snapshot.denominate(key);
                    String::new()
                });
                let message = why.without_preemption(&vain).to_string();
                tracing::debug!(namespace = key.0, pod = key.1, message, "unschedulable");
                self.reporter.unschedulable(candidate, message, nominated);
                self.queue.unschedulable(key, refused_by, now);
                self.metrics.incoming("ScheduleAttemptFailure", "unschedulable", 1);
            }
        }
    }

    fn preempt(&mut self, candidate: &Candidate, why: &Unschedulable, room: Preemption) {
        let key = &candidate.info.key;
        self.metrics.preemption_tried();
        self.metrics.preempts(room.victims.len());
        tracing::info!(
            namespace = key.0,
            pod = key.1,
            node = room.node,
            victims = room.victims.len(),
            "makes room"
        );
        self.snapshot.nominate(&room.node, candidate.info.clone());
        let nominated = Some(room.node.clone());
        self.reporter.unschedulable(candidate, why.to_string(), nominated);
        for other in &room.denominated {
            self.snapshot.denominate(other);
            if let Some(other) = self.queue.candidate(other) {
                self.reporter.not_nominated(other);
            }
            self.queue.activate(other);
        }
        self.queue.making_room(key);
        self.evict(candidate, room);
    }

    fn tell_counts(&mut self) {
        let counts = self.queue.counts();
        if counts != self.told {
            self.told = counts;
            self.metrics.pending(counts);
        }
    }
}

/// Whether the profile's constraints are for this pod.
pub(crate) fn spreads_by_default(candidate: &Candidate) -> bool {
    let constraints = candidate
        .spec()
        .and_then(|spec| spec.topology_spread_constraints.as_ref());
    constraints.is_none_or(Vec::is_empty)
}
