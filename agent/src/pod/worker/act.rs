//! What a worker does: each of the plan's actions as an operation.

use super::{API_RETRY, Outcome, Signal, Worker};
use crate::error::Error;
use crate::leftovers;
use crate::pod::backoff::Backoff;
use crate::pod::node::Shared;
use crate::pod::observed::{Container, Sandbox};
use crate::pod::plan::{Action, Op, Verdict};
use crate::pod::spec::{self, Role};
use crate::pod::{api, cgroup, links, resources, sandbox, start};
use crate::probe::{self, Kind};
use crate::runtime::config::Layout;
use crate::runtime::{self, signal};
use crate::users;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

impl Worker {
    pub(super) fn act(&mut self, action: Action) {
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
                after,
            } => self.kill(id, name, (grace_s, after), message),
            Action::StopSandbox { id } => {
                self.spawn(Some(Op::StopSandbox(id.clone())), async move {
                    let outcome = shared.runtime.stop_sandbox(&id).await;
                    Outcome::SandboxStopped(id, outcome)
                });
            }
            Action::BeginAnew => self.begin_anew(),
            Action::PastDeadline => {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                shared
                    .recorder
                    .pod(&pod, None, false, "DeadlineExceeded", message.clone());
                self.end(Verdict {
                    reason: "DeadlineExceeded".into(),
                    message,
                    ..Verdict::default()
                });
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

    pub(super) fn start(&mut self, name: String, attempt: u32) {
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

    /// `after`: containers that are to end before this one's process is signalled.
    pub(super) fn kill(&mut self, id: String, name: String, (grace_s, after): (i64, Vec<String>), message: String) {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let found = pod.spec.as_ref().and_then(|s| spec::any(s, &name));
        let field = found.as_ref().map(|(c, role)| spec::field_path(*role, &c.name));
        let hurried = self.stops.remove(&id).inspect(AbortHandle::abort).is_some();
        let until = Timestamp::now().checked_add(SignedDuration::from_secs(grace_s));
        self.memory.stop_by.insert(id.clone(), until.unwrap_or(Timestamp::MAX));
        if !hurried {
            shared.recorder.pod(&pod, field.clone(), false, "Killing", message);
        }
        // Readiness is asked for until the end.
        for (kind, probe) in self.probes.get(&id).into_iter().flatten() {
            if *kind != Kind::Readiness {
                probe.abort();
            }
        }
        let mut over = self.over.subscribe();
        let ips = self.addresses();
        let stopped = id.clone();
        let stop = self.spawn(Some(Op::Stop(id.clone())), async move {
            let begun = std::time::Instant::now();
            let hook = found.as_ref().and_then(|(c, _)| c.lifecycle.as_ref()?.pre_stop.clone());
            if let (Some(hook), Some((container, _)), true) = (hook, &found, grace_s > 0 && !hurried) {
                let limit = Duration::from_secs(grace_s.unsigned_abs());
                let place = probe::Place {
                    container_id: &id,
                    ips: &ips,
                };
                let name = spec::full_name(&pod);
                let work = probe::hook::run(&shared, &hook, container, &name, &place);
                let outcome = tokio::time::timeout(limit, work).await;
                if !matches!(outcome, Ok(Ok(()))) {
                    shared
                        .recorder
                        .pod(&pod, field, true, "FailedPreStopHook", "PreStopHook failed".into());
                }
            }
            let spent_s = || i64::try_from(begun.elapsed().as_secs()).unwrap_or(grace_s);
            let turn = Duration::from_secs((grace_s - spent_s()).max(0).unsigned_abs());
            let ended = over.wait_for(|over| after.iter().all(|id| over.contains(id)));
            // Whose turn does not come is told to end nevertheless.
            let _ = tokio::time::timeout(turn, ended).await;
            // However long all that took, the process gets two seconds for its signal.
            let mut left_s = (grace_s - spent_s()).max(2);
            let signal = found.as_ref().and_then(|(c, _)| signal::of(c));
            if let Some(signal) = signal
                && signalled(&shared, &id, signal).await
            {
                let ended = over.wait_for(|over| over.contains(&id));
                let _ = tokio::time::timeout(Duration::from_secs(left_s.unsigned_abs()), ended).await;
                // It was told what it listens to; what follows is KILL.
                left_s = 0;
            }
            if let Err(error) = shared.runtime.stop_container(&id, left_s).await {
                tracing::warn!(error = error.chain(), id, "a container did not stop; trying again");
                tokio::time::sleep(API_RETRY).await;
            }
            Outcome::Stopped(id)
        });
        self.stops.insert(stopped, stop);
    }

    pub(super) fn retry(&mut self, op: Op, now: Timestamp, first_s: i64) {
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

    /// Keeps the newest two of each container: the one that runs, and `logs --previous`.
    pub(super) fn drop_old(&mut self, name: &str) {
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
            links::remove(&self.shared.config, &spec::key(&self.pod), name, &container.id);
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let outcome = shared.runtime.remove_container(&container.id).await;
                let _ = tokio::fs::remove_file(&container.log_path).await;
                let _ = tokio::fs::remove_file(&container.message_file).await;
                outcome
            });
        }
    }
}

async fn create_sandbox(shared: &Arc<Shared>, pod: &Pod, attempt: u32) -> Result<Sandbox, Error> {
    if let Some(pod_spec) = &pod.spec {
        let path = resources::cgroup_path(&shared.config.cgroup_root, resources::qos(pod_spec), spec::uid(pod));
        let limits = resources::pod_limits(pod_spec, &shared.host, shared.config.pod_pids_max);
        shared.share_by_class();
        cgroup::create(&path, &limits);
    }
    shared.devices.prepare(pod).await?;
    let logs = sandbox::log_directory(&shared.config, pod);
    std::fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let mut imported = shared.images_ready.clone();
    let _ = imported.wait_for(|ready| *ready).await;
    let handler = api::runtime_handler(shared, pod).await?;
    let users = own_users(shared, pod, &handler).await?;
    let config =
        sandbox::sandbox_config(&shared.config, pod, attempt, &shared.resolv_conf, users).map_err(Error::Pod)?;
    for problem in sandbox::dns(&shared.config, pod, &shared.resolv_conf).1 {
        shared.recorder.pod(pod, None, true, "DNSConfigForming", problem);
    }
    let runtime::Made { id, former } = shared.runtime.run_sandbox(config, handler).await?;
    leftovers::clear(&shared.config, pod, former.as_deref().into_iter());
    let status = shared.runtime.sandbox_status(&id).await?;
    status
        .map(Sandbox::from)
        .ok_or_else(|| Error::Copy("the sandbox vanished".into()))
}

/// The users of a pod that is to have its own: better none at all than the node's.
async fn own_users(shared: &Arc<Shared>, pod: &Pod, handler: &str) -> Result<Option<users::Mapping>, Error> {
    if !users::wanted(pod) {
        return Ok(None);
    }
    users::able(&shared.runtime.abilities().await?.0, handler)?;
    let (shared, uid) = (shared.clone(), spec::uid(pod).to_owned());
    let given = tokio::task::spawn_blocking(move || {
        let layout = Layout::new(&shared.config.data_dir);
        shared.users.admit(&uid, &layout)
    })
    .await;
    given.map_err(|e| Error::Pod(e.to_string()))?.map(Some)
}

/// Whether the container was told to end by a signal of its own.
async fn signalled(shared: &Shared, id: &str, signal: u32) -> bool {
    let told = shared.runtime.signal(id, signal).await;
    if let Err(error) = &told {
        tracing::warn!(error = error.chain(), id, "a container was not told to stop");
    }
    told.is_ok()
}
