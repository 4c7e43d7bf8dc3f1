//! What a worker does when its pod is to have other resources.

use super::{Outcome, Signal, Worker};
use crate::pod::observed::State;
use crate::pod::plan::{Action, Decision, Op};
use crate::pod::resources::cgroup_path;
use crate::pod::{resources, spec};
use crate::resize::{Verdict, act, file, state::Told};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use std::sync::Arc;

/// How often what the kernel or the runtime refused is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

impl Worker {
    /// Takes what the API wants: the pod runs with what was granted of it.
    pub(super) fn take(&mut self, pod: Arc<Pod>) {
        self.pod = self.memory.resize.allocation.applied(&pod);
        self.asked_for = pod;
    }

    fn tell(&self, told: Option<Told>) {
        if let Some((warning, reason, message)) = told {
            self.shared.recorder.pod(&self.pod, None, warning, reason, message);
        }
    }

    fn keep(&self) -> bool {
        let dir = self.shared.config.pod_dir(spec::uid(&self.pod));
        let kept = file::write(&dir, &self.memory.resize.kept());
        if let Err(error) = &kept {
            tracing::warn!(%error, pod = spec::full_name(&self.pod), "cannot keep a pod's resources");
        }
        kept.is_ok()
    }

    /// Asks for what is wanted and does what was granted. Says when to look again.
    pub(super) fn resize(&mut self, now: Timestamp) -> Option<Timestamp> {
        let over = self.memory.terminating || self.memory.failed.is_some() || spec::phase_is_final(&self.pod);
        if over {
            return None;
        }
        self.ask();
        self.actuate(now)
    }

    fn ask(&mut self) {
        let uid = spec::uid(&self.pod).to_owned();
        let verdict = match self.memory.resize.asks(&self.asked_for) {
            Err(known) => {
                if self.memory.resize.pending.is_some() {
                    self.shared.ledger.stop_waiting(&uid);
                }
                known
            }
            Ok(()) => {
                let inbox = self.inbox.clone();
                let wake = move || drop(inbox.try_send(Signal::Room));
                // Before the question, or room that is given after it would go unnoticed.
                self.shared.ledger.wait(&self.asked_for, Box::new(wake));
                let verdict = self.shared.ledger.resize(&self.asked_for);
                if !matches!(verdict, Verdict::Deferred(_)) {
                    self.shared.ledger.stop_waiting(&uid);
                }
                Some(verdict)
            }
        };
        let granted = verdict == Some(Verdict::Granted);
        let told = self.memory.resize.decided(&self.asked_for.clone(), verdict);
        if granted {
            self.keep();
            self.memory.retry.remove(&Op::Resize);
            self.take(self.asked_for.clone());
            self.shared.share_by_class();
        }
        self.tell(told);
    }

    fn actuate(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.memory.in_flight.contains(&Op::Resize) {
            return None;
        }
        let pids_max = self.shared.config.pod_pids_max;
        let due = self
            .memory
            .resize
            .due(&self.pod, &self.seen, &self.shared.host, pids_max);
        let Some((change, limits)) = due else {
            if let Some(told) = self.memory.resize.completed(&self.pod) {
                self.memory.resize.forget(&self.seen);
                self.keep();
                self.tell(Some(told));
            }
            return None;
        };
        if !change.restart.is_empty() {
            for (id, name) in change.restart {
                if !self.memory.in_flight.contains(&Op::Stop(id.clone())) {
                    self.memory.resize.restart(&id);
                    let text = format!("Container {name} resize requires restart");
                    self.kill(id, name, (spec::grace_s(&self.pod), Vec::new()), text);
                }
            }
            return None;
        }
        if let Some(tried) = self.memory.retry.get(&Op::Resize) {
            let again = tried.since.checked_add(RETRY).unwrap_or(now);
            if again > now {
                return Some(again);
            }
        }
        let (shared, granted) = (self.shared.clone(), self.pod.clone());
        let qos = granted.spec.as_ref().map_or(resources::Qos::BestEffort, resources::qos);
        let order = act::Order {
            path: cgroup_path(&shared.config.cgroup_root, qos, spec::uid(&granted)),
            granted,
            change,
            limits,
        };
        self.spawn(Some(Op::Resize), async move {
            let (in_force, outcome) = act::run(&shared, &order).await;
            Outcome::Resized(Box::new(order), in_force, outcome)
        });
        None
    }

    pub(super) fn resized(
        &mut self,
        order: act::Order,
        in_force: Vec<(String, ResourceRequirements)>,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        match &outcome {
            Ok(()) => drop(self.memory.retry.remove(&Op::Resize)),
            Err(_) => self.retry(Op::Resize, now, 1),
        }
        let told = self.memory.resize.done(&order.granted, order.limits, in_force, outcome);
        self.keep();
        self.tell(told);
    }

    /// Containers that an agent before this one ended for a resize begin anew.
    pub(super) fn resume_restarts(&mut self) {
        if self.memory.resize.progress.is_none() {
            return;
        }
        for newest in self.seen.containers.values_mut().filter_map(|list| list.first_mut()) {
            let differs = self.memory.resize.differs(&newest.name, &newest.id);
            newest.again = differs && newest.state == State::Exited;
        }
    }

    /// Nothing starts while the pod's cgroup is not as large as it is to be.
    pub(super) fn hold_back(&self, decision: &mut Decision) {
        if self.memory.in_flight.contains(&Op::Resize) {
            decision
                .actions
                .retain(|action| !matches!(action, Action::Start { .. }));
        }
    }
}
