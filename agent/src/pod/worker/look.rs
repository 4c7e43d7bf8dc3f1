//! What a worker learns of the runtime: the states of its containers, and their ends.

use super::{Outcome, Worker};
use crate::leftovers;
use crate::pod::observed::{self, Container, Sandbox, State};
use crate::pod::plan::Op;
use crate::pod::{last_words, spec};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

impl Worker {
    /// Reads the status of these from the runtime. `ended`: they are known to have
    /// ended, which the runtime's CRI side learns a moment later than its event side.
    pub(super) fn look(&mut self, ids: Vec<String>, ended: bool) {
        self.look_as(None, ids, ended);
    }

    /// The same as the last part of an operation, which stays under way until then.
    pub(super) fn look_as(&mut self, op: Option<Op>, ids: Vec<String>, ended: bool) {
        const TRIES: u32 = 40;
        let shared = self.shared.clone();
        let known: BTreeMap<String, String> = self.seen.all().map(|c| (c.id.clone(), c.sandbox_id.clone())).collect();
        self.spawn(op, async move {
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

    /// The runtime does not know it any more: whoever took it away has ended it.
    pub(super) fn lost(&mut self, id: &str, now: Timestamp) {
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
            message: if self.memory.terminating {
                "The container could not be located when the pod was terminated"
            } else {
                "The container could not be located when the pod was deleted.  The container used to be Running"
            }
            .into(),
            finished_at_ns: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..container
        });
    }

    pub(super) fn ended(&mut self, mut container: Container) {
        if self.memory.resize.restarts(&container.id) {
            // No crash: it begins anew at once, with other resources.
            container.again = true;
            self.memory.crash.remove(&container.name);
        }
        leftovers::clear(&self.shared.config, &self.pod, [container.id.as_str()].into_iter());
        let known = self.seen.find(&container.id).is_some_and(|c| c.state == State::Exited);
        // Nobody may be listening.
        let _ = self.shared.ends.send(container.id.as_str().into());
        for (_, probe) in self.probes.remove(&container.id).into_iter().flatten() {
            probe.abort();
        }
        self.over.send_modify(|over| {
            over.insert(container.id.clone());
        });
        self.memory.probed.remove(&container.id);
        self.memory.stop_by.remove(&container.id);
        let name = container.name.clone();
        let finished =
            Timestamp::from_nanosecond(i128::from(container.finished_at_ns)).unwrap_or_else(|_| Timestamp::now());
        let (ran_s, exit_code) = (container.ran_s(), container.exit_code);
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
            let spec = self.pod.spec.as_ref();
            let found = spec.and_then(|s| spec::find(s, &name));
            let again = spec
                .zip(found.as_ref())
                .is_some_and(|(s, (c, role))| spec::restarts(s, c, *role, exit_code));
            if !over && again {
                let (namespace, pod_name) = spec::key(&self.pod);
                let field = found.map(|(c, role)| spec::field_path(role, &c.name));
                let uid = spec::uid(&self.pod);
                let text = format!("Back-off restarting failed container {name} in pod {pod_name}_{namespace}({uid})");
                self.shared.recorder.pod(&self.pod, field, true, "BackOff", text);
            }
        }
    }
}
