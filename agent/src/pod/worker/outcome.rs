//! What came of a worker's operations.

use super::{Outcome, Signal, VOLUMES_RETRY, Worker};
use crate::error::Error;
use crate::pod::backoff::Backoff;
use crate::pod::observed::{Container, Sandbox, State};
use crate::pod::plan::{Op, Waiting};
use crate::pod::{anew, api, backoff, last_words, spec, start, status};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::sync::Arc;
use std::time::Duration;

impl Worker {
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        let now = Timestamp::now();
        match outcome {
            Outcome::Sandbox(result) => self.sandbox_made(result, now),
            Outcome::Volumes(result) => self.volumes_made(result, now),
            Outcome::Started(name, Ok(container)) => self.started(&name, *container),
            Outcome::Started(name, Err(failure)) => self.not_started(name, failure, now),
            Outcome::Stopped(id) => {
                self.stops.remove(&id);
                // Until its end is known it is not to be stopped once more.
                self.look_as(Some(Op::Stop(id.clone())), vec![id], true);
            }
            Outcome::SandboxStopped(id, Ok(())) => {
                for sandbox in self.seen.sandboxes.iter_mut().filter(|s| s.id == id) {
                    sandbox.ready = false;
                    sandbox.stopped = true;
                }
            }
            Outcome::SandboxStopped(id, Err(error)) => {
                let text = format!("error killing pod: {}", error.rpc());
                self.shared.recorder.pod(&self.pod, None, true, "FailedKillPod", text);
                self.retry(Op::StopSandbox(id), now, 1);
            }
            Outcome::TornDown(Ok(())) => self.memory.torn_down = true,
            Outcome::TornDown(Err(error)) => {
                tracing::warn!(
                    error = error.chain(),
                    pod = spec::full_name(&self.pod),
                    "cannot clean up; trying again"
                );
                self.retry(Op::Teardown, now, 1);
            }
            Outcome::GivenBack(Ok(())) => drop(self.memory.retry.remove(&Op::Devices)),
            Outcome::GivenBack(Err(error)) => {
                tracing::warn!(
                    error = error.chain(),
                    pod = spec::full_name(&self.pod),
                    "devices cannot be given back; trying again"
                );
                self.retry(Op::Devices, now, 1);
            }
            Outcome::Looked(containers, sandboxes, lost) => self.looked(containers, sandboxes, &lost, now),
            Outcome::Status(status, result) => self.status_sent(*status, result),
            Outcome::Resized(order, in_force, outcome) => self.resized(*order, in_force, outcome, now),
            Outcome::Deleted(result) => {
                self.deleting = false;
                match result {
                    Ok(()) | Err(api::Refused::Gone) => self.deleted = true,
                    Err(api::Refused::Later(_)) => self.api_later(),
                }
            }
        }
    }

    fn sandbox_made(&mut self, result: Result<Sandbox, Error>, now: Timestamp) {
        match result {
            Ok(sandbox) => {
                self.memory.retry.remove(&Op::Sandbox);
                // What failed in the one before may succeed in this one.
                self.memory.retry.retain(|op, _| !matches!(op, Op::Container(_)));
                self.seen.put_sandbox(sandbox);
                self.sandbox_made = Some(now);
                // What a killed shim had under way may have appeared after its containers' ends.
                self.clear_ended();
                self.show_addresses(now);
            }
            Err(error) => {
                let (reason, what) = match error {
                    Error::Devices(_) => ("FailedPrepareDynamicResources", "prepare dynamic resources"),
                    _ => ("FailedCreatePodSandBox", "create pod sandbox"),
                };
                let text = format!("Failed to {what}: {}", error.rpc());
                self.shared.recorder.pod(&self.pod, None, true, reason, text);
                self.retry(Op::Sandbox, now, 1);
            }
        }
    }

    fn volumes_made(&mut self, result: Result<Option<Timestamp>, Error>, now: Timestamp) {
        match result {
            Ok(refresh_at) => {
                self.memory.retry.remove(&Op::Volumes);
                self.memory.volumes_ready = true;
                if std::mem::take(&mut self.volumes_stale) {
                    self.signal(Signal::Refresh);
                }
                if let Some(at) = refresh_at {
                    let pause = Duration::try_from(now.duration_until(at)).unwrap_or_default();
                    self.later(pause, Signal::Refresh);
                }
            }
            // Told already, each volume by itself.
            Err(_) => {
                self.retry(Op::Volumes, now, 1);
                if self.memory.volumes_ready {
                    self.later(VOLUMES_RETRY, Signal::Refresh);
                }
            }
        }
    }

    /// Every start that follows an end sets how long the one after the next end waits.
    fn count_restart(&mut self, name: &str) {
        let exited = self.seen.last(name).filter(|c| c.state == State::Exited);
        // Who had to end for another one did not crash.
        let Some(exit) = exited.filter(|c| !c.past || anew::is_trigger(&self.pod, c)) else {
            return;
        };
        let finished = Timestamp::from_nanosecond(i128::from(exit.finished_at_ns));
        let finished = finished.unwrap_or_else(|_| Timestamp::now());
        let entry = backoff::after_restart(self.memory.crash.get(name).copied(), exit.ran_s(), finished);
        // In force from the next exit on.
        let since = Timestamp::UNIX_EPOCH;
        self.memory.crash.insert(name.to_owned(), Backoff { since, ..entry });
    }

    fn started(&mut self, name: &str, container: Container) {
        self.count_restart(name);
        self.memory.waiting.remove(name);
        self.memory.retry.remove(&Op::Container(name.to_owned()));
        self.begin_probes(&container);
        self.memory.resize.began(&container);
        if container.state == State::Exited {
            self.ended(last_words::read(container));
        } else {
            let id = container.id.clone();
            self.seen.put_container(container);
            if self.early_exits.remove(&id) {
                self.look(vec![id], true);
            }
        }
        if !self.memory.in_flight.iter().any(|op| matches!(op, Op::Container(_))) {
            self.early_exits.clear();
        }
        self.drop_old(name);
    }

    fn not_started(&mut self, name: String, failure: start::Failure, now: Timestamp) {
        let start::Failure { waiting, container } = failure;
        let unit_s = if waiting.reason.contains("Image") {
            backoff::FIRST_S
        } else {
            5
        };
        self.memory.waiting.insert(name.clone(), waiting);
        if container.is_some() {
            self.count_restart(&name);
        }
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

    fn looked(&mut self, containers: Vec<Container>, sandboxes: Vec<Sandbox>, lost: &[String], now: Timestamp) {
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
            self.lost(id, now);
        }
    }

    fn status_sent(&mut self, status: PodStatus, result: Result<Box<Pod>, api::Refused>) {
        self.sending = false;
        match result {
            Ok(pod) => {
                let made = status::owned(pod.status.as_ref());
                self.settled = (made != status).then_some((status, made));
                // What the watch has shown already is shared with the node's copy.
                let known = self.asked_for.metadata.resource_version.is_some()
                    && self.asked_for.metadata.resource_version == pod.metadata.resource_version;
                if !known {
                    self.show(Arc::from(pod));
                }
            }
            Err(api::Refused::Gone) => self.vanished(),
            Err(api::Refused::Later(error)) => {
                tracing::debug!(error, "a pod's status was not taken; trying again");
                self.api_later();
            }
        }
    }

    /// All containers have ended that are to begin anew: from now on they count as history alone.
    pub(super) fn begin_anew(&mut self) {
        let pod = self.pod.clone();
        let Some(pod_spec) = pod.spec.as_ref() else { return };
        tracing::info!(pod = spec::full_name(&pod), "all containers begin anew");
        for (name, list) in &mut self.seen.containers {
            // Ephemeral ones stay as they are.
            if spec::find(pod_spec, name).is_none() {
                continue;
            }
            // Who was ended for another has not crashed; who ended for itself waits the longer.
            if list.first().is_some_and(|c| !c.past && !anew::is_trigger(&pod, c)) {
                self.memory.crash.remove(name);
            }
            list.iter_mut().for_each(|container| container.past = true);
        }
        self.memory.waiting.clear();
        self.memory.retry.retain(|op, _| !matches!(op, Op::Container(_)));
        // The plan is another one now.
        let _ = self.inbox.try_send(Signal::ApiRetry);
    }

    /// ErrImagePull becomes ImagePullBackOff while the next try is awaited.
    pub(super) fn back_off_pulls(&mut self, now: Timestamp) -> Option<Timestamp> {
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
}
