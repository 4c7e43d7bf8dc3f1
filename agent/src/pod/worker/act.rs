//! What a worker does: each of the plan's actions as an operation.

use super::{API_RETRY, Outcome, Signal, Worker};
use crate::error::Error;
use crate::pod::backoff::{self, Backoff};
use crate::pod::node::Shared;
use crate::pod::observed::{Container, Sandbox, State};
use crate::pod::plan::{Action, Op};
use crate::pod::spec::{self, Role};
use crate::pod::{api, cgroup, resources, sandbox, start};
use crate::probe;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
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

    pub(super) fn kill(&mut self, id: String, name: String, grace_s: i64, message: String) {
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

async fn create_sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Result<Sandbox, Error> {
    if let Some(pod_spec) = &pod.spec {
        let path = resources::cgroup_path(&shared.config.cgroup_root, resources::qos(pod_spec), spec::uid(pod));
        let limits = resources::pod_limits(pod_spec, &shared.host, shared.config.pod_pids_max);
        shared.share_by_class();
        cgroup::create(&path, &limits);
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
