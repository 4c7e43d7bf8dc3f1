//! What a worker tells the API of its pod.

use super::{Outcome, Worker};
use crate::pod::observed::State;
use crate::pod::plan::Op;
use crate::pod::{api, spec, status};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodStatus;

/// How long a sandbox may be there before the API hears of it alone.
const ALONE: SignedDuration = SignedDuration::from_secs(1);

/// What the status says besides the sandbox.
fn without_sandbox(status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    (status.pod_ip, status.pod_ips) = (None, None);
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != "PodReadyToStartContainers");
    }
    status
}

impl Worker {
    pub(super) fn wanted(&self, now: Timestamp) -> PodStatus {
        status::status(&self.pod, &self.seen, &self.memory, &self.shared.host_ips, now)
    }

    pub(super) fn show_addresses(&self, now: Timestamp) {
        let mut pod = (*self.pod).clone();
        pod.status = Some(self.wanted(now));
        self.shared.cache.publish_pod(pod);
    }

    /// Until when a sandbox that has just been made is not worth a word of its own: what
    /// runs in it will follow at once. Upstream looks at sandboxes once a second, too.
    fn untold(&self, held: &PodStatus, wanted: &PodStatus, now: Timestamp) -> Option<Timestamp> {
        let until = self.sandbox_made.and_then(|at| at.checked_add(ALONE).ok())?;
        (now < until && without_sandbox(held) == without_sandbox(wanted)).then_some(until)
    }

    /// True while the pod, which has ended, has devices: others may get them as soon as the API says that it has.
    fn gives_back(&mut self, now: Timestamp) -> bool {
        let claims = self.pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
        if claims.is_none_or(Vec::is_empty) || !self.shared.devices.holds(spec::uid(&self.pod)) {
            return false;
        }
        let busy = |op: &Op| matches!(op, Op::Container(_) | Op::Sandbox | Op::Devices | Op::Teardown);
        let runs = self.seen.all().any(|container| container.state == State::Running);
        if runs || self.memory.in_flight.iter().any(busy) {
            return true;
        }
        if let Some(retry) = self.memory.retry.get(&Op::Devices).filter(|retry| retry.until() > now) {
            self.wake_at = self.wake_at.into_iter().chain([retry.until()]).min();
            return true;
        }
        let (shared, uid) = (self.shared.clone(), spec::uid(&self.pod).to_owned());
        self.spawn(Some(Op::Devices), async move {
            Outcome::GivenBack(shared.devices.unprepare(&uid).await)
        });
        true
    }

    /// Makes the API hold what is so; what others change of it is set right again.
    pub(super) fn publish(&mut self, now: Timestamp) {
        if self.gone || self.sending || self.api_wait || self.deleted {
            return;
        }
        let wanted = self.wanted(now);
        if matches!(wanted.phase.as_deref(), Some("Succeeded" | "Failed")) && self.gives_back(now) {
            return;
        }
        if self.memory.torn_down || matches!(wanted.phase.as_deref(), Some("Succeeded" | "Failed")) {
            // Before the API says so: the scheduler gives the room away at once.
            self.shared.ledger.release(spec::uid(&self.pod));
        }
        let held = status::owned(self.pod.status.as_ref());
        let settled = self
            .settled
            .as_ref()
            .is_some_and(|(sent, made)| *sent == wanted && *made == held);
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        if held != wanted && !settled {
            if let Some(until) = self.untold(&held, &wanted, now) {
                self.wake_at = self.wake_at.into_iter().chain([until]).min();
                return;
            }
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
