//! What a worker tells the API of its pod.

use super::{Outcome, Worker};
use crate::pod::{api, spec, status};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

impl Worker {
    pub(super) fn wanted(&self, now: Timestamp) -> PodStatus {
        status::status(&self.pod, &self.seen, &self.memory, &self.shared.host_ips, now)
    }

    pub(super) fn show_addresses(&self, now: Timestamp) {
        let mut pod = (*self.pod).clone();
        pod.status = Some(self.wanted(now));
        self.shared.cache.publish_pod(pod);
    }

    /// Makes the API hold what is so; what others change of it is set right again.
    pub(super) fn publish(&mut self, now: Timestamp) {
        if self.gone || self.sending || self.api_wait || self.deleted {
            return;
        }
        let wanted = self.wanted(now);
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
