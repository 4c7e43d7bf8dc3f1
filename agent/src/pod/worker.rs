//! One task per pod: gathers events, asks `plan`, executes, publishes status.
//!
//! ```text
//! cache, exits, probes --Signal--> worker --plan--> operations (JoinSet) --Outcome--> worker
//!                                     \--status--> API (one patch under way, the latest wins)
//! ```

mod act;
mod look;
mod outcome;
mod probes;
mod publish;
mod resize;

use super::node::Shared;
use super::observed::{Container, Observed, Sandbox, State};
use super::plan::{self, Action, Memory, Op, Probed, Verdict};
use super::{api, links, spec, start};
use crate::error::Error;
use crate::leftovers;
use crate::manifest;
use crate::probe::{self, Kind};
use crate::resize::act as act_resize;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub enum Signal {
    Spec(Arc<Pod>),
    /// The API has no such pod any more.
    Gone,
    /// The main process of a container or sandbox has ended.
    Exited(String),
    /// A config map or secret changed, or a token is due.
    Refresh,
    Resync,
    /// The node ends the pod: it stays as Failed.
    End(Box<Verdict>),
    /// The API may be asked again.
    ApiRetry,
    /// Another pod has given room, which a resize may have waited for.
    Room,
    Probe {
        id: String,
        kind: Kind,
        verdict: Option<bool>,
        note: Option<probe::Note>,
    },
}

/// A worker never waits long, so its inbox is short; senders wait.
pub const INBOX: usize = 64;
/// How often a failed status patch or delete is tried again.
const API_RETRY: Duration = Duration::from_secs(2);
/// How often volumes that could not be brought up to date are tried again.
const VOLUMES_RETRY: Duration = Duration::from_secs(30);

enum Outcome {
    Sandbox(Result<Sandbox, Error>),
    Volumes(Result<Option<Timestamp>, Error>),
    Started(String, Result<Box<Container>, start::Failure>),
    Stopped(String),
    SandboxStopped(String, Result<(), Error>),
    TornDown(Result<(), Error>),
    GivenBack(Result<(), Error>),
    Looked(Vec<Container>, Vec<Sandbox>, Vec<String>),
    Status(Box<PodStatus>, Result<Box<Pod>, api::Refused>),
    Deleted(Result<(), api::Refused>),
    Resized(
        Box<act_resize::Order>,
        Vec<(String, ResourceRequirements)>,
        Result<(), String>,
    ),
}

struct Worker {
    shared: Arc<Shared>,
    /// With the resources that it was granted.
    pod: Arc<Pod>,
    /// As the API has it.
    asked_for: Arc<Pod>,
    seen: Observed,
    memory: Memory,
    gone: bool,
    deleting: bool,
    deleted: bool,
    /// The status last sent, and what the API made of it, if that is another one.
    settled: Option<(PodStatus, PodStatus)>,
    sending: bool,
    wake_at: Option<Timestamp>,
    /// When this worker made the sandbox.
    sandbox_made: Option<Timestamp>,
    /// Probes that begin now may begin that much later, each by chance.
    spread: Duration,
    operations: JoinSet<(Option<Op>, Outcome)>,
    probes: BTreeMap<String, Vec<(Kind, AbortHandle)>>,
    inbox: mpsc::Sender<Signal>,
    api_wait: bool,
    /// Exits seen while something of this pod was starting.
    early_exits: BTreeSet<String>,
    /// Something changed while the volumes were being made from it.
    volumes_stale: bool,
    stops: BTreeMap<String, AbortHandle>,
    /// Containers that have ended, for those whose turn it is then.
    over: watch::Sender<BTreeSet<String>>,
    /// Ends what a pod that is to go need not wait for.
    cancel: CancellationToken,
}

/// Runs until the pod is gone from node and API.
pub async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    seen: Observed,
    memory: Memory,
    inbox: mpsc::Sender<Signal>,
    mut signals: mpsc::Receiver<Signal>,
) {
    let mut worker = Worker {
        memory,
        shared,
        asked_for: pod.clone(),
        pod,
        seen,
        gone: false,
        deleting: false,
        deleted: false,
        settled: None,
        sending: false,
        wake_at: None,
        sandbox_made: None,
        spread: Duration::ZERO,
        operations: JoinSet::new(),
        probes: BTreeMap::new(),
        inbox,
        api_wait: false,
        early_exits: BTreeSet::new(),
        volumes_stale: false,
        stops: BTreeMap::new(),
        over: watch::Sender::default(),
        cancel: CancellationToken::new(),
    };
    worker.show(worker.asked_for.clone());
    worker.resume_restarts();
    worker.adopt();
    while !worker.finished() {
        worker.step();
        if worker.finished() {
            break;
        }
        let pause = worker.wake_at.map(|at| Timestamp::now().duration_until(at));
        let pause = pause.map(|d| Duration::try_from(d).unwrap_or_default());
        tokio::select! {
            Some(done) = worker.operations.join_next() => {
                if let Ok((op, outcome)) = done {
                    if let Some(op) = op {
                        worker.memory.in_flight.remove(&op);
                    }
                    worker.outcome(outcome);
                }
            }
            signal = signals.recv() => match signal {
                Some(signal) => worker.signal(signal),
                None => return,
            },
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX / 4)), if pause.is_some() => {}
        }
    }
    worker.end_probes();
    // Of some the end was not seen: the pod was taken away with them.
    for container in worker.seen.all() {
        let _ = worker.shared.ends.send(container.id.as_str().into());
    }
    worker.shared.ledger.release(spec::uid(&worker.pod));
    worker.shared.share_by_class();
}

impl Worker {
    fn finished(&self) -> bool {
        self.memory.torn_down && (self.gone || self.deleted) && !self.sending
    }

    /// What an earlier agent left running is neither restarted nor unready.
    fn adopt(&mut self) {
        let statuses = self
            .pod
            .status
            .iter()
            .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
        for old in statuses {
            let id = old
                .container_id
                .as_deref()
                .and_then(|id| id.strip_prefix("containerd://"));
            if let Some(id) = id {
                let probed = Probed {
                    started: old.started.unwrap_or(false),
                    ready: old.ready,
                    failed: None,
                };
                self.memory.probed.insert(id.to_owned(), probed);
            }
        }
        let running: Vec<Container> = self.seen.all().filter(|c| c.state == State::Running).cloned().collect();
        self.clear_ended();
        // All pods of the node are adopted at once, and must not be probed at once for ever.
        self.spread = Duration::MAX;
        for container in running {
            self.begin_probes(&container);
            // Whoever started it may not have lived to link its log.
            let (key, log) = (spec::key(&self.pod), Path::new(&container.log_path));
            let _ = links::make(&self.shared.config, &key, &container.name, &container.id, log);
        }
        self.spread = Duration::ZERO;
        // They were made before any container was; bringing them up to date may wait for the API.
        if self.seen.sandbox().is_some() && !self.seen.containers.is_empty() && !self.memory.terminating {
            self.memory.volumes_ready = true;
            self.act(Action::MountVolumes);
        }
    }

    /// Takes away what is left of containers whose runtime or shim was killed with them.
    fn clear_ended(&self) {
        let ended = self.seen.all().filter(|c| c.state == State::Exited);
        leftovers::clear(&self.shared.config, &self.pod, ended.map(|c| c.id.as_str()));
    }

    /// Takes the API's newest version of the pod.
    fn show(&mut self, pod: Arc<Pod>) {
        let revision = |pod: &Pod| {
            pod.metadata
                .resource_version
                .as_ref()
                .and_then(|v| v.parse::<u64>().ok())
        };
        if revision(&pod) < revision(&self.pod) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.terminate();
        }
        self.take(pod);
    }

    fn terminate(&mut self) {
        self.memory.terminating = true;
        self.memory.terminating_since.get_or_insert_with(Timestamp::now);
        self.cancel.cancel();
    }

    /// The first verdict counts.
    fn end(&mut self, verdict: Verdict) {
        self.memory.failed.get_or_insert(verdict);
        self.memory.terminating_since.get_or_insert_with(Timestamp::now);
        self.cancel.cancel();
    }

    fn vanished(&mut self) {
        self.gone = true;
        // The node's own pods end in peace when their files are removed.
        self.memory.forced = !manifest::is_static(&self.pod);
        self.terminate();
    }

    fn spawn(&mut self, op: Option<Op>, work: impl Future<Output = Outcome> + Send + 'static) -> AbortHandle {
        if let Some(op) = &op {
            self.memory.in_flight.insert(op.clone());
        }
        self.operations.spawn(async move { (op, work.await) })
    }

    fn step(&mut self) {
        let now = Timestamp::now();
        let pull_shown = self.back_off_pulls(now);
        let resize_at = self.resize(now);
        let mut decision = plan::plan(&self.pod, &self.seen, &self.memory, now);
        self.hold_back(&mut decision);
        self.wake_at = decision.wake_at.into_iter().chain(pull_shown).chain(resize_at).min();
        for action in decision.actions {
            self.act(action);
        }
        self.publish(now);
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Spec(pod) => self.show(pod),
            Signal::Gone => self.vanished(),
            Signal::End(verdict) => self.end(*verdict),
            Signal::ApiRetry => self.api_wait = false,
            // Every step asks again.
            Signal::Room => {}
            Signal::Refresh => {
                self.memory.retry.remove(&Op::Volumes);
                self.memory.retry.retain(|op, _| {
                    let Op::Container(name) = op else { return true };
                    let waiting = self.memory.waiting.get(name);
                    waiting.is_none_or(|w| w.reason != "CreateContainerConfigError")
                });
                if self.memory.in_flight.contains(&Op::Volumes) {
                    self.volumes_stale = true;
                } else if self.memory.volumes_ready && !self.memory.terminating {
                    self.act(Action::MountVolumes);
                }
            }
            Signal::Exited(id) => {
                if self.seen.find(&id).is_some() || self.seen.sandboxes.iter().any(|s| s.id == id) {
                    self.look(vec![id], true);
                } else if self
                    .memory
                    .in_flight
                    .iter()
                    .any(|op| matches!(op, Op::Container(_) | Op::Sandbox))
                {
                    // It may be one that is being started and is not known by its id yet.
                    self.early_exits.insert(id);
                }
            }
            Signal::Resync => {
                // The runtime may be well again.
                self.memory
                    .retry
                    .retain(|op, _| !matches!(op, Op::Sandbox | Op::StopSandbox(_) | Op::Teardown));
                let alive = self
                    .seen
                    .all()
                    .filter(|c| c.state != State::Exited)
                    .map(|c| c.id.clone());
                let sandboxes = self.seen.sandboxes.iter().filter(|s| s.ready).map(|s| s.id.clone());
                let ids = alive.chain(sandboxes).collect();
                self.look(ids, false);
            }
            Signal::Probe {
                id,
                kind,
                verdict,
                note,
            } => self.probed(&id, kind, verdict, note),
        }
    }

    fn api_later(&mut self) {
        self.api_wait = true;
        self.later(API_RETRY, Signal::ApiRetry);
    }

    fn later(&self, pause: Duration, signal: Signal) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = inbox.send(signal).await;
        });
    }
}
