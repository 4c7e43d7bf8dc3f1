//! One task per pod: gathers events, asks `plan`, executes, publishes status.
//!
//! ```text
//! cache, exits, probes --Signal--> worker --plan--> operations (JoinSet) --Outcome--> worker
//!                                     \--status--> API (one patch under way, the latest wins)
//! ```

use super::backoff::{self, Backoff};
use super::node::Shared;
use super::observed::{self, Container, Observed, Sandbox, State};
use super::plan::{self, Action, Failed, Memory, Op, Probed, Waiting};
use super::spec::Role;
use super::{api, cgroup, last_words, resources, sandbox, spec, start, status};
use crate::error::Error;
use crate::probe::{self, Kind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
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
    /// The API may be asked again.
    ApiRetry,
    Probe {
        id: String,
        kind: Kind,
        verdict: Option<bool>,
        problem: Option<String>,
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
    Looked(Vec<Container>, Vec<Sandbox>, Vec<String>),
    Status(Box<PodStatus>, Result<Box<Pod>, api::Refused>),
    Deleted(Result<(), api::Refused>),
}

struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    seen: Observed,
    memory: Memory,
    gone: bool,
    deleting: bool,
    deleted: bool,
    /// The status last sent, and what the API made of it.
    settled: Option<(PodStatus, PodStatus)>,
    sending: bool,
    wake_at: Option<Timestamp>,
    operations: JoinSet<(Option<Op>, Outcome)>,
    probes: BTreeMap<String, Vec<AbortHandle>>,
    inbox: mpsc::Sender<Signal>,
    api_wait: bool,
    /// Exits seen while something of this pod was starting.
    early_exits: BTreeSet<String>,
    /// Something changed while the volumes were being made from it.
    volumes_stale: bool,
    stops: BTreeMap<String, AbortHandle>,
    /// Ends what a pod that is to go need not wait for.
    cancel: CancellationToken,
}

/// Runs until the pod is gone from node and API.
pub async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    seen: Observed,
    inbox: mpsc::Sender<Signal>,
    mut signals: mpsc::Receiver<Signal>,
) {
    let mut worker = Worker {
        memory: Memory::default(),
        shared,
        pod,
        seen,
        gone: false,
        deleting: false,
        deleted: false,
        settled: None,
        sending: false,
        wake_at: None,
        operations: JoinSet::new(),
        probes: BTreeMap::new(),
        inbox,
        api_wait: false,
        early_exits: BTreeSet::new(),
        volumes_stale: false,
        stops: BTreeMap::new(),
        cancel: CancellationToken::new(),
    };
    worker.show(worker.pod.clone());
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
        for container in running {
            self.begin_probes(&container);
        }
        // They were made before any container was; bringing them up to date may wait for the API.
        if self.seen.sandbox().is_some() && !self.seen.containers.is_empty() && !self.memory.terminating {
            self.memory.volumes_ready = true;
            self.act(Action::MountVolumes);
        }
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
        self.pod = pod;
    }

    fn terminate(&mut self) {
        self.memory.terminating = true;
        self.memory.terminating_since.get_or_insert_with(Timestamp::now);
        self.cancel.cancel();
    }

    fn vanished(&mut self) {
        self.gone = true;
        self.memory.forced = true;
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
        let decision = plan::plan(&self.pod, &self.seen, &self.memory, now);
        self.wake_at = decision.wake_at.into_iter().chain(pull_shown).min();
        for action in decision.actions {
            self.act(action);
        }
        self.publish(now);
    }

    /// ErrImagePull becomes ImagePullBackOff while the next try is awaited.
    fn back_off_pulls(&mut self, now: Timestamp) -> Option<Timestamp> {
        let shown_for = SignedDuration::from_secs(1);
        let mut wake = None;
        for (name, waiting) in &mut self.memory.waiting {
            let Some(retry) = self.memory.retry.get(&Op::Container(name.clone())) else {
                continue;
            };
            if waiting.reason != "ErrImagePull" {
                continue;
            }
            if now.duration_since(retry.since) >= shown_for {
                let found = self.pod.spec.as_ref().and_then(|s| spec::find(s, name));
                let image = found.and_then(|f| f.0.image.clone()).unwrap_or_default();
                let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", waiting.message);
                *waiting = Waiting {
                    reason: "ImagePullBackOff".into(),
                    message,
                };
                let field = found.map(|(c, role)| spec::field_path(role, &c.name));
                let text = format!("Back-off pulling image \"{image}\"");
                self.shared
                    .recorder
                    .pod(&self.pod, field.clone(), false, "BackOff", text);
                self.shared
                    .recorder
                    .pod(&self.pod, field, true, "Failed", "Error: ImagePullBackOff".into());
            } else {
                wake = retry.since.checked_add(shown_for).ok();
            }
        }
        wake
    }

    fn act(&mut self, action: Action) {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        match action {
            Action::MountVolumes => {
                self.spawn(Some(Op::Volumes), async move {
                    Outcome::Volumes(api::mount_volumes(&shared, &pod, Vec::new()).await)
                });
            }
            Action::CreateSandbox { attempt } => {
                if attempt > 0 {
                    let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                    shared.recorder.pod(&pod, None, false, "SandboxChanged", text);
                }
                self.spawn(Some(Op::Sandbox), async move {
                    Outcome::Sandbox(create_sandbox(&shared, &pod, attempt).await)
                });
            }
            Action::Start { name, attempt } => self.start(name, attempt),
            Action::Kill {
                id,
                name,
                grace_s,
                message,
            } => self.kill(id, name, grace_s, message),
            Action::StopSandbox { id } => {
                self.spawn(Some(Op::StopSandbox(id.clone())), async move {
                    let outcome = shared.runtime.stop_sandbox(&id).await;
                    Outcome::SandboxStopped(id, outcome)
                });
            }
            Action::PastDeadline => {
                let text = "Pod was active on the node longer than the specified deadline";
                self.memory.failed = Some(("DeadlineExceeded", text));
                self.memory.terminating_since = Some(Timestamp::now());
                self.cancel.cancel();
                shared
                    .recorder
                    .pod(&pod, None, false, "DeadlineExceeded", text.to_owned());
                // The plan is another one now.
                let _ = self.inbox.try_send(Signal::ApiRetry);
            }
            Action::Teardown => {
                let seen = self.seen.clone();
                self.spawn(Some(Op::Teardown), async move {
                    Outcome::TornDown(api::tear_down(&shared, &pod, &seen).await)
                });
            }
        }
    }

    fn start(&mut self, name: String, attempt: u32) {
        let Some(sandbox) = self.seen.sandbox().cloned() else {
            return;
        };
        let Some((container, role)) = self.pod.spec.as_ref().and_then(|s| spec::any(s, &name)) else {
            return;
        };
        let target = self.pod.spec.as_ref().and_then(|s| {
            let mut all = spec::ephemeral(s).into_iter();
            all.find(|(c, _)| role == Role::Ephemeral && c.name == name)?.1
        });
        if let Some(exit) = self.seen.newest(&name).filter(|c| c.state == State::Exited) {
            let finished =
                Timestamp::from_nanosecond(i128::from(exit.finished_at_ns)).unwrap_or_else(|_| Timestamp::now());
            let entry = backoff::after_restart(self.memory.crash.get(&name).copied(), exit.ran_s(), finished);
            // In force from the next exit on; until then it must not hold up this start.
            let entry = Backoff {
                since: Timestamp::UNIX_EPOCH,
                ..entry
            };
            self.memory.crash.insert(name.clone(), entry);
        }
        let wanted = start::Wanted {
            container,
            role,
            attempt,
            sandbox,
            target_id: target.and_then(|name| self.seen.newest(&name)).map(|c| c.id.clone()),
            cancel: self.cancel.clone(),
        };
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.spawn(Some(Op::Container(name.clone())), async move {
            let outcome = Box::pin(start::container(&shared, &pod, &wanted)).await;
            Outcome::Started(name, outcome.map(Box::new))
        });
    }

    fn kill(&mut self, id: String, name: String, grace_s: i64, message: String) {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let found = pod.spec.as_ref().and_then(|s| spec::any(s, &name));
        let field = found.as_ref().map(|(c, role)| spec::field_path(*role, &c.name));
        let hurried = self.stops.remove(&id).inspect(AbortHandle::abort).is_some();
        let until = Timestamp::now().checked_add(SignedDuration::from_secs(grace_s));
        self.memory.stop_by.insert(id.clone(), until.unwrap_or(Timestamp::MAX));
        if !hurried {
            shared.recorder.pod(&pod, field.clone(), false, "Killing", message);
        }
        for probe in self.probes.remove(&id).into_iter().flatten() {
            probe.abort();
        }
        let ips = self.seen.sandbox().map(|s| s.ips.clone()).unwrap_or_default();
        let stopped = id.clone();
        let stop = self.spawn(Some(Op::Stop(id.clone())), async move {
            let mut left_s = grace_s;
            let hook = found.as_ref().and_then(|(c, _)| c.lifecycle.as_ref()?.pre_stop.clone());
            if let (Some(hook), Some((container, _)), true) = (hook, &found, grace_s > 0 && !hurried) {
                let begun = std::time::Instant::now();
                let limit = Duration::from_secs(grace_s.unsigned_abs());
                let outcome = tokio::time::timeout(limit, probe::hook(&shared, &hook, container, &id, &ips)).await;
                if !matches!(outcome, Ok(Ok(()))) {
                    shared
                        .recorder
                        .pod(&pod, field, true, "FailedPreStopHook", "PreStopHook failed".into());
                }
                // However long the hook took, the process gets two seconds for TERM.
                left_s = (grace_s - i64::try_from(begun.elapsed().as_secs()).unwrap_or(grace_s)).max(2);
            }
            if let Err(error) = shared.runtime.stop_container(&id, left_s).await {
                tracing::warn!(error = error.chain(), id, "a container did not stop; trying again");
                tokio::time::sleep(API_RETRY).await;
            }
            Outcome::Stopped(id)
        });
        self.stops.insert(stopped, stop);
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Spec(pod) => self.show(pod),
            Signal::Gone => self.vanished(),
            Signal::ApiRetry => self.api_wait = false,
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
                problem,
            } => self.probed(&id, kind, verdict, problem),
        }
    }

    /// Reads the status of these from the runtime. `ended`: they are known to have
    /// ended, which the runtime's CRI side learns a moment later than its event side.
    fn look(&mut self, ids: Vec<String>, ended: bool) {
        const TRIES: u32 = 40;
        let shared = self.shared.clone();
        let known: BTreeMap<String, String> = self.seen.all().map(|c| (c.id.clone(), c.sandbox_id.clone())).collect();
        self.spawn(None, async move {
            let (mut containers, mut sandboxes, mut lost) = (Vec::new(), Vec::new(), Vec::new());
            for id in ids {
                for attempt in 0..TRIES {
                    let done = if let Some(sandbox_id) = known.get(&id) {
                        match shared.runtime.container_status(&id).await {
                            Ok(Some(status)) => {
                                let found = observed::container(status, sandbox_id);
                                let done = !ended || found.state == State::Exited;
                                if done {
                                    containers.push(last_words::read(found));
                                }
                                done
                            }
                            Ok(None) => {
                                lost.push(id.clone());
                                true
                            }
                            Err(_) => true,
                        }
                    } else {
                        match shared.runtime.sandbox_status(&id).await {
                            Ok(Some(status)) => {
                                let found = Sandbox::from(status);
                                let done = !ended || !found.ready;
                                if done {
                                    sandboxes.push(found);
                                }
                                done
                            }
                            Ok(None) => {
                                lost.push(id.clone());
                                true
                            }
                            Err(_) => true,
                        }
                    };
                    if done {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(2 + u64::from(attempt) * 2)).await;
                }
            }
            Outcome::Looked(containers, sandboxes, lost)
        });
    }

    fn outcome(&mut self, outcome: Outcome) {
        let now = Timestamp::now();
        match outcome {
            Outcome::Sandbox(Ok(sandbox)) => {
                self.memory.retry.remove(&Op::Sandbox);
                // What failed in the one before may succeed in this one.
                self.memory.retry.retain(|op, _| !matches!(op, Op::Container(_)));
                self.seen.put_sandbox(sandbox);
                self.show_addresses(now);
            }
            Outcome::Sandbox(Err(error)) => {
                let text = format!("Failed to create pod sandbox: {}", error.rpc());
                self.shared
                    .recorder
                    .pod(&self.pod, None, true, "FailedCreatePodSandBox", text);
                self.retry(Op::Sandbox, now, 1);
            }
            Outcome::Volumes(Ok(refresh_at)) => {
                self.memory.retry.remove(&Op::Volumes);
                self.memory.volumes_ready = true;
                if std::mem::take(&mut self.volumes_stale) {
                    self.signal(Signal::Refresh);
                }
                if let Some(at) = refresh_at {
                    let inbox = self.inbox.clone();
                    let pause = Duration::try_from(now.duration_until(at)).unwrap_or_default();
                    tokio::spawn(async move {
                        tokio::time::sleep(pause).await;
                        let _ = inbox.send(Signal::Refresh).await;
                    });
                }
            }
            Outcome::Volumes(Err(error)) => {
                self.shared
                    .recorder
                    .pod(&self.pod, None, true, "FailedMount", error.chain());
                self.retry(Op::Volumes, now, 1);
                if self.memory.volumes_ready {
                    self.later(VOLUMES_RETRY, Signal::Refresh);
                }
            }
            Outcome::Started(name, Ok(container)) => {
                self.memory.waiting.remove(&name);
                self.memory.retry.remove(&Op::Container(name.clone()));
                let ended = container.state == State::Exited;
                self.begin_probes(&container);
                if ended {
                    self.ended(last_words::read(*container));
                } else {
                    let id = container.id.clone();
                    self.seen.put_container(*container);
                    if self.early_exits.remove(&id) {
                        self.look(vec![id], true);
                    }
                }
                if !self.memory.in_flight.iter().any(|op| matches!(op, Op::Container(_))) {
                    self.early_exits.clear();
                }
                self.drop_old(&name);
            }
            Outcome::Started(name, Err(failure)) => {
                let start::Failure { waiting, container } = failure;
                let unit_s = if waiting.reason.contains("Image") {
                    backoff::FIRST_S
                } else {
                    5
                };
                self.memory.waiting.insert(name.clone(), waiting);
                match container {
                    // Its end is one like any other's, with the same back-off.
                    Some(container) if container.state == State::Exited => {
                        self.ended(last_words::read(*container));
                        self.drop_old(&name);
                    }
                    Some(container) => {
                        self.seen.put_container(*container);
                        self.retry(Op::Container(name), now, unit_s);
                    }
                    None => self.retry(Op::Container(name), now, unit_s),
                }
            }
            Outcome::Stopped(id) => {
                self.stops.remove(&id);
                self.look(vec![id], true);
            }
            Outcome::SandboxStopped(id, result) => match result {
                Ok(()) => {
                    for sandbox in self.seen.sandboxes.iter_mut().filter(|s| s.id == id) {
                        sandbox.ready = false;
                        sandbox.stopped = true;
                    }
                }
                Err(error) => {
                    let text = format!("error killing pod: {}", error.rpc());
                    self.shared.recorder.pod(&self.pod, None, true, "FailedKillPod", text);
                    self.later(API_RETRY, Signal::Resync);
                }
            },
            Outcome::TornDown(Ok(())) => self.memory.torn_down = true,
            Outcome::TornDown(Err(error)) => {
                tracing::warn!(
                    error = error.chain(),
                    pod = spec::full_name(&self.pod),
                    "cannot clean up; trying again"
                );
                self.later(API_RETRY, Signal::Resync);
            }
            Outcome::Looked(containers, sandboxes, lost) => {
                for container in containers {
                    if container.state == State::Exited {
                        self.ended(container);
                    } else {
                        self.seen.put_container(container);
                    }
                }
                for sandbox in sandboxes {
                    self.seen.put_sandbox(sandbox);
                }
                for id in lost {
                    self.lost(&id, now);
                }
            }
            Outcome::Status(status, result) => {
                self.sending = false;
                match result {
                    Ok(pod) => {
                        let made = status::owned(pod.status.as_ref());
                        self.settled = Some((*status, made));
                        self.show(Arc::from(pod));
                    }
                    Err(api::Refused::Gone) => self.vanished(),
                    Err(api::Refused::Later(error)) => {
                        tracing::debug!(error, "a pod's status was not taken; trying again");
                        self.api_later();
                    }
                }
            }
            Outcome::Deleted(result) => {
                self.deleting = false;
                match result {
                    Ok(()) | Err(api::Refused::Gone) => self.deleted = true,
                    Err(api::Refused::Later(_)) => self.api_later(),
                }
            }
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

    /// The runtime does not know it any more: whoever took it away has ended it.
    fn lost(&mut self, id: &str, now: Timestamp) {
        for sandbox in self.seen.sandboxes.iter_mut().filter(|s| s.id == id) {
            sandbox.ready = false;
        }
        let Some(container) = self.seen.find(id).filter(|c| c.state != State::Exited).cloned() else {
            return;
        };
        self.ended(Container {
            state: State::Exited,
            exit_code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: "The container could not be located when the pod was terminated".into(),
            finished_at_ns: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..container
        });
    }

    fn retry(&mut self, op: Op, now: Timestamp, first_s: i64) {
        let previous = self.memory.retry.get(&op).copied();
        let entry = match previous {
            Some(previous) => Backoff::next(Some(previous), now),
            None => Backoff {
                delay_s: first_s,
                since: now,
            },
        };
        self.memory.retry.insert(op, entry);
    }

    fn ended(&mut self, container: Container) {
        let known = self.seen.find(&container.id).is_some_and(|c| c.state == State::Exited);
        for probe in self.probes.remove(&container.id).into_iter().flatten() {
            probe.abort();
        }
        self.memory.probed.remove(&container.id);
        self.memory.stop_by.remove(&container.id);
        let name = container.name.clone();
        let finished =
            Timestamp::from_nanosecond(i128::from(container.finished_at_ns)).unwrap_or_else(|_| Timestamp::now());
        let ran_s = container.ran_s();
        self.seen.put_container(container);
        if known {
            return;
        }
        // Ten minutes without a crash clear the account.
        if ran_s >= 600 {
            self.memory.crash.remove(&name);
        }
        if let Some(entry) = self.memory.crash.get_mut(&name) {
            entry.since = finished;
            // A start that failed is told as the crash that it is from now on.
            self.memory.waiting.remove(&name);
            let over = self.memory.terminating || self.memory.failed.is_some();
            if !over {
                let (namespace, pod_name) = spec::key(&self.pod);
                let found = self.pod.spec.as_ref().and_then(|s| spec::find(s, &name));
                let field = found.map(|(c, role)| spec::field_path(role, &c.name));
                let uid = spec::uid(&self.pod);
                let text = format!("Back-off restarting failed container {name} in pod {pod_name}_{namespace}({uid})");
                self.shared.recorder.pod(&self.pod, field, true, "BackOff", text);
            }
        }
    }

    /// Keeps the newest two of each container: the one that runs, and `logs --previous`.
    fn drop_old(&mut self, name: &str) {
        let old: Vec<Container> = self
            .seen
            .containers
            .get(name)
            .into_iter()
            .flatten()
            .skip(2)
            .cloned()
            .collect();
        for container in old {
            self.seen.forget_container(&container.id);
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let outcome = shared.runtime.remove_container(&container.id).await;
                let _ = tokio::fs::remove_file(&container.log_path).await;
                let _ = tokio::fs::remove_file(&container.message_file).await;
                outcome
            });
        }
    }

    fn begin_probes(&mut self, container: &Container) {
        if container.state != State::Running {
            return;
        }
        let Some((of, _)) = self.pod.spec.as_ref().and_then(|s| spec::find(s, &container.name)) else {
            return;
        };
        let of = of.clone();
        let probed = self.memory.probed.entry(container.id.clone()).or_default();
        if of.startup_probe.is_none() {
            probed.started = true;
            probed.ready |= of.readiness_probe.is_none();
        }
        if of.startup_probe.is_some() && !probed.started {
            self.begin_probe(container, &of, Kind::Startup);
        } else {
            self.begin_probe(container, &of, Kind::Liveness);
            self.begin_probe(container, &of, Kind::Readiness);
        }
    }

    fn begin_probe(&mut self, container: &Container, of: &k8s_openapi::api::core::v1::Container, kind: Kind) {
        let probe = match kind {
            Kind::Startup => &of.startup_probe,
            Kind::Liveness => &of.liveness_probe,
            Kind::Readiness => &of.readiness_probe,
        };
        let Some(probe) = probe.clone() else { return };
        let host = self.pod.spec.as_ref().is_some_and(spec::host_network);
        let ips = match self.seen.sandbox() {
            Some(sandbox) if !host => sandbox.ips.clone(),
            _ => self.shared.host_ips.clone(),
        };
        let target = probe::Target {
            shared: self.shared.clone(),
            container: of.clone(),
            container_id: container.id.clone(),
            ips,
            age: Timestamp::from_nanosecond(i128::from(container.started_at_ns))
                .ok()
                .and_then(|at| Duration::try_from(at.duration_until(Timestamp::now())).ok())
                .unwrap_or_default(),
        };
        let (inbox, id) = (self.inbox.clone(), container.id.clone());
        let told = move |(verdict, problem): probe::Told| {
            let (inbox, id) = (inbox.clone(), id.clone());
            async move {
                let signal = Signal::Probe {
                    id,
                    kind,
                    verdict,
                    problem,
                };
                let _ = inbox.send(signal).await;
            }
        };
        let task = tokio::spawn(probe::run(target, kind, probe, told)).abort_handle();
        self.probes.entry(container.id.clone()).or_default().push(task);
    }

    fn probed(&mut self, id: &str, kind: Kind, verdict: Option<bool>, problem: Option<String>) {
        let Some(container) = self.seen.find(id).filter(|c| c.state == State::Running).cloned() else {
            return;
        };
        let Some((of, role)) = self.pod.spec.as_ref().and_then(|s| spec::find(s, &container.name)) else {
            return;
        };
        let of = of.clone();
        if let Some(problem) = problem {
            let text = format!("{} probe failed: {problem}", kind.name());
            let field = Some(spec::field_path(role, &container.name));
            self.shared.recorder.pod(&self.pod, field, true, "Unhealthy", text);
        }
        let entry = self.memory.probed.entry(id.to_owned()).or_default();
        match (kind, verdict) {
            (_, None) | (Kind::Liveness, Some(true)) => {}
            (Kind::Startup, Some(true)) => {
                entry.started = true;
                entry.ready = of.readiness_probe.is_none();
                self.begin_probe(&container, &of, Kind::Liveness);
                self.begin_probe(&container, &of, Kind::Readiness);
            }
            (Kind::Startup, Some(false)) => entry.failed = Some(Failed::Startup),
            (Kind::Liveness, Some(false)) => entry.failed = Some(Failed::Liveness),
            (Kind::Readiness, Some(ready)) => entry.ready = ready,
        }
    }

    fn end_probes(&mut self) {
        for probe in std::mem::take(&mut self.probes).into_values().flatten() {
            probe.abort();
        }
    }

    fn wanted(&self, now: Timestamp) -> PodStatus {
        status::status(&self.pod, &self.seen, &self.memory, &self.shared.host_ips, now)
    }

    fn show_addresses(&self, now: Timestamp) {
        let mut pod = (*self.pod).clone();
        pod.status = Some(self.wanted(now));
        self.shared.cache.publish_pod(pod);
    }

    /// Makes the API hold what is so; what others change of it is set right again.
    fn publish(&mut self, now: Timestamp) {
        if self.gone || self.sending || self.api_wait || self.deleted {
            return;
        }
        let wanted = self.wanted(now);
        let held = status::owned(self.pod.status.as_ref());
        let settled = self
            .settled
            .as_ref()
            .is_some_and(|(sent, made)| *sent == wanted && *made == held);
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        if held != wanted && !settled {
            self.sending = true;
            self.spawn(None, async move {
                let outcome = api::patch_status(&shared, &pod, &wanted).await;
                Outcome::Status(Box::new(wanted), outcome.map(Box::new))
            });
        } else if self.memory.torn_down && !self.deleting && self.pod.metadata.deletion_timestamp.is_some() {
            self.deleting = true;
            self.spawn(None, async move { Outcome::Deleted(api::delete(&shared, &pod).await) });
        }
    }
}

async fn create_sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Result<Sandbox, Error> {
    if let Some(pod_spec) = &pod.spec {
        let path = resources::cgroup_path(&shared.config.cgroup_root, resources::qos(pod_spec), spec::uid(pod));
        cgroup::create(&path, &resources::pod_limits(pod_spec));
    }
    let logs = sandbox::log_directory(&shared.config, pod);
    std::fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let mut imported = shared.images_ready.clone();
    let _ = imported.wait_for(|ready| *ready).await;
    let config = sandbox::sandbox_config(&shared.config, pod, attempt, &shared.resolv_conf);
    let id = shared.runtime.run_sandbox(config).await?;
    let status = shared.runtime.sandbox_status(&id).await?;
    status
        .map(Sandbox::from)
        .ok_or_else(|| Error::Copy("the sandbox vanished".into()))
}
