//! The probes of a worker's containers: when they begin, what they say.

use super::{Signal, Worker};
use crate::pod::observed::{Container, State};
use crate::pod::plan::Failed;
use crate::pod::spec;
use crate::probe::{self, Kind};
use jiff::Timestamp;
use std::time::Duration;

impl Worker {
    pub(super) fn begin_probes(&mut self, container: &Container) {
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

    /// Where the pod is reached.
    pub(super) fn addresses(&self) -> Vec<String> {
        let host = self.pod.spec.as_ref().is_some_and(spec::host_network);
        match self.seen.sandbox() {
            Some(sandbox) if !host => sandbox.ips.clone(),
            _ => self.shared.host_ips.clone(),
        }
    }

    pub(super) fn begin_probe(
        &mut self,
        container: &Container,
        of: &k8s_openapi::api::core::v1::Container,
        kind: Kind,
    ) {
        let probe = match kind {
            Kind::Startup => &of.startup_probe,
            Kind::Liveness => &of.liveness_probe,
            Kind::Readiness => &of.readiness_probe,
        };
        let Some(probe) = probe.clone() else { return };
        let ips = self.addresses();
        let target = probe::Target {
            shared: self.shared.clone(),
            container: of.clone(),
            counted: crate::stats::own::Probe::of(&self.pod, &of.name, kind.name()),
            container_id: container.id.clone(),
            spread: self.spread,
            ips,
            age: Timestamp::from_nanosecond(i128::from(container.started_at_ns))
                .ok()
                .and_then(|at| Duration::try_from(at.duration_until(Timestamp::now())).ok())
                .unwrap_or_default(),
        };
        let (inbox, id) = (self.inbox.clone(), container.id.clone());
        let told = move |(verdict, note): probe::Told| {
            let (inbox, id) = (inbox.clone(), id.clone());
            async move {
                let signal = Signal::Probe {
                    id,
                    kind,
                    verdict,
                    note,
                };
                let _ = inbox.send(signal).await;
            }
        };
        let task = tokio::spawn(probe::run(target, kind, probe, told)).abort_handle();
        self.probes.entry(container.id.clone()).or_default().push((kind, task));
    }

    pub(super) fn probed(&mut self, id: &str, kind: Kind, verdict: Option<bool>, note: Option<probe::Note>) {
        let Some(container) = self.seen.find(id).filter(|c| c.state == State::Running).cloned() else {
            return;
        };
        let Some((of, role)) = self.pod.spec.as_ref().and_then(|s| spec::find(s, &container.name)) else {
            return;
        };
        let of = of.clone();
        if let Some((reason, text)) = note {
            let field = Some(spec::field_path(role, &container.name));
            self.shared.recorder.pod(&self.pod, field, true, reason, text);
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

    pub(super) fn end_probes(&mut self) {
        for (_, probe) in std::mem::take(&mut self.probes).into_values().flatten() {
            probe.abort();
        }
    }
}
