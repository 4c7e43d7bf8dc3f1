//! Starts a worker per pod and routes events to them; cleans up what belongs to no pod.

mod strays;

use super::node::Shared;
use super::observed::{self, LABEL_POD_UID, Observed, Sandbox};
use super::plan::{Memory, Verdict};
use super::spec;
use super::worker::{self, INBOX, Signal};
use super::{admission, api, preemption};
use crate::cache::Change;
use crate::error::Error;
use crate::eviction;
use crate::leaving;
use crate::manifest;
use crate::resize;
use crate::runtime::events::RuntimeEvent;
use crate::volume::payload;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The safety net for lost events; everything normal is driven by events.
const RESYNC: Duration = Duration::from_secs(60);

struct Supervisor {
    shared: Arc<Shared>,
    workers: BTreeMap<String, mpsc::Sender<Signal>>,
    keys: BTreeMap<spec::Key, String>,
    orphans: BTreeMap<String, Observed>,
    /// Which pods there are was told once.
    listed: bool,
    /// Critical pods that wait until others have ended for them, by UID.
    preempting: BTreeSet<String>,
    /// Labels and annotations that files of the pod's volumes show.
    metadata: BTreeMap<spec::Key, (Texts, Texts)>,
}

type Texts = Option<BTreeMap<String, String>>;

pub async fn run(
    shared: Arc<Shared>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    mut events: mpsc::Receiver<RuntimeEvent>,
    mut endings: mpsc::Receiver<eviction::Ending>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Some(orphans) = observed_at_last(&shared, &shutdown).await else {
        return Ok(());
    };
    let mut supervisor = Supervisor {
        shared,
        workers: BTreeMap::new(),
        keys: BTreeMap::new(),
        orphans,
        listed: false,
        preempting: BTreeSet::new(),
        metadata: BTreeMap::new(),
    };
    supervisor.remove_namespaces(&shutdown);
    let kept: Vec<spec::Key> = supervisor.shared.cache.pods().into_keys().collect();
    for key in kept {
        supervisor.changed(&key).await;
    }
    let (strays, mut told) = mpsc::channel(1);
    let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(change) = changes.recv() => match change {
                Change::Pod(key) => supervisor.changed(&key).await,
                Change::ConfigMap(key) => supervisor.refresh(|pod| api::references(pod).0.contains(&key)).await,
                Change::Secret(key) => supervisor.refresh(|pod| api::references(pod).1.contains(&key)).await,
                Change::Tokens(key) => supervisor.refresh(|pod| spec::key(pod) == key).await,
                Change::PodsListed => {
                    supervisor.shared.cache.release();
                    supervisor.listed = true;
                    supervisor.remove_orphans();
                    supervisor.look_twice(&strays);
                }
            },
            Some(event) = events.recv() => match event {
                RuntimeEvent::Exited { container_id } => {
                    supervisor.tell_all(|| Signal::Exited(container_id.clone())).await;
                }
                RuntimeEvent::OutOfMemory { .. } => {}
                RuntimeEvent::Resync => {
                    supervisor.tell_all(|| Signal::Resync).await;
                    supervisor.remove_namespaces(&shutdown);
                    supervisor.look_twice(&strays);
                }
            },
            Some((uid, verdict)) = endings.recv() => {
                if let Some(inbox) = supervisor.workers.get(&uid) {
                    let _ = inbox.send(Signal::End(Box::new(verdict))).await;
                }
            }
            Some(running) = told.recv() => supervisor.remove_strays(running),
            _ = resync.tick() => {
                supervisor.tell_all(|| Signal::Resync).await;
                supervisor.look_for_strays(&strays);
            }
        }
    }
}

/// A runtime that listens may still be reading what it ran before, and refuse to tell.
async fn observed_at_last(shared: &Shared, shutdown: &CancellationToken) -> Option<BTreeMap<String, Observed>> {
    const RETRY: Duration = Duration::from_millis(50);
    loop {
        match observe(shared).await {
            Ok(all) => return Some(all),
            Err(error) => tracing::debug!(error = error.chain(), "the runtime does not tell yet what runs"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Everything that runs, by pod UID.
async fn observe(shared: &Shared) -> Result<BTreeMap<String, Observed>, Error> {
    let mut all: BTreeMap<String, Observed> = BTreeMap::new();
    let (sandboxes, containers) = tokio::try_join!(shared.runtime.sandboxes(), shared.runtime.containers())?;
    for listed in sandboxes {
        let uid = listed.labels.get(LABEL_POD_UID).cloned().unwrap_or_default();
        if let Some(status) = shared.runtime.sandbox_status(&listed.id).await? {
            all.entry(uid).or_default().put_sandbox(Sandbox::from(status));
        }
    }
    for listed in containers {
        let uid = listed.labels.get(LABEL_POD_UID).cloned().unwrap_or_default();
        if let Some(status) = shared.runtime.container_status(&listed.id).await? {
            all.entry(uid)
                .or_default()
                .put_container(observed::container(status, &listed.pod_sandbox_id));
        }
    }
    Ok(all)
}

impl Supervisor {
    async fn changed(&mut self, key: &spec::Key) {
        self.workers.retain(|_, inbox| !inbox.is_closed());
        manifest::mirror::keep(&self.shared, key);
        let pod = self.shared.cache.pod(key);
        let own = pod.as_deref().is_some_and(manifest::is_static);
        let uid = pod.as_ref().map(|p| spec::uid(p).to_owned());
        if let Some(old) = self.keys.get(key).filter(|old| uid.as_ref() != Some(*old)) {
            // The cluster gives its room away already.
            self.shared.ledger.release(old);
            self.preempting.remove(old);
            if let Some(inbox) = self.workers.get(old) {
                let _ = inbox.send(Signal::Gone).await;
                // Of the node's own pods one waits until that of its name has ended.
                if own {
                    self.look_again_after(inbox, key);
                    return;
                }
            }
            self.keys.remove(key);
        }
        let (Some(pod), Some(uid)) = (pod, uid) else {
            self.metadata.remove(key);
            self.shared.cache.release();
            return;
        };
        if own && let Some(ending) = self.workers.get(&uid).filter(|_| !self.keys.contains_key(key)) {
            // Its file went and came again.
            self.look_again_after(ending, key);
            return;
        }
        let stale = self.metadata_changed(key, &pod);
        self.keys.insert(key.clone(), uid.clone());
        if let Some(inbox) = self.workers.get(&uid) {
            let _ = inbox.send(Signal::Spec(pod)).await;
            if stale {
                let _ = inbox.send(Signal::Refresh).await;
            }
            return;
        }
        let seen = self.orphans.remove(&uid).unwrap_or_default();
        if spec::phase_is_final(&pod) && seen == Observed::default() && pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let Some(memory) = self.admit(&pod, &seen).await else {
            // Looked at again as others end.
            return;
        };
        let (inbox, signals) = mpsc::channel(INBOX);
        self.workers.insert(uid, inbox.clone());
        tokio::spawn(worker::run(self.shared.clone(), pod, seen, memory, inbox, signals));
    }

    fn look_again_after(&self, worker: &mpsc::Sender<Signal>, key: &spec::Key) {
        let (worker, shared, key) = (worker.clone(), self.shared.clone(), key.clone());
        tokio::spawn(async move {
            worker.closed().await;
            shared.cache.touch(key);
        });
    }

    /// Enters the pod in the node's book. One that is new here may be refused, and none
    /// begins that waits for others to end.
    async fn admit(&mut self, pod: &Arc<Pod>, seen: &Observed) -> Option<Memory> {
        let shared = self.shared.clone();
        let fresh = *seen == Observed::default();
        let kept = (!fresh).then(|| resize::file::read(&shared.config.pod_dir(spec::uid(pod))));
        let mut memory = Memory {
            resize: resize::State::new(pod, kept.flatten(), seen),
            ..Memory::default()
        };
        let granted = memory.resize.allocation.applied(pod);
        if spec::phase_is_final(pod) {
            return Some(memory);
        }
        if !fresh || pod.metadata.deletion_timestamp.is_some() {
            shared.ledger.enter(&granted);
            self.waits_no_more(pod);
            return Some(memory);
        }
        memory.blocked = admission::blocked(pod, shared.app_armor);
        match self.lets_in(pod, &granted).await {
            Ok(true) => self.waits_no_more(pod),
            Ok(false) => return None,
            Err((reason, message)) => {
                self.waits_no_more(pod);
                shared.ledger.release(spec::uid(pod));
                shared.recorder.pod(pod, None, true, &reason, message.clone());
                memory.failed = Some(Verdict {
                    reason,
                    message,
                    rejected: true,
                    ..Verdict::default()
                });
            }
        }
        Some(memory)
    }

    fn waits_no_more(&mut self, pod: &Pod) {
        if self.preempting.remove(spec::uid(pod)) {
            self.shared.ledger.stop_waiting(spec::uid(pod));
        }
    }

    /// Asks what upstream asks, in its order. Who is let in is in the node's book; `false`:
    /// so is who waits until others have ended.
    async fn lets_in(&mut self, pod: &Arc<Pod>, granted: &Pod) -> Result<bool, admission::Refusal> {
        /// The node is asked for anew when what is known of it speaks against a pod.
        const ANSWER_MAX: Duration = Duration::from_secs(2);
        let shared = self.shared.clone();
        if shared.leaving.is_cancelled() {
            return Err(leaving::refusal());
        }
        let name = &shared.config.node_name;
        let node = shared.cache.view().borrow().nodes.get(name).cloned();
        admission::of_itself(pod, node.as_deref(), &shared.config.allowed_unsafe_sysctls)?;
        eviction::admits(granted, &shared.pressures.borrow()).map_err(|message| ("Evicted".to_owned(), message))?;
        let room = shared.ledger.admit(granted);
        if !preemption::may(pod) {
            room.clone()?;
        }
        // A pod that was let in before the node started anew stays.
        if room.is_ok() && pod.status.as_ref().is_some_and(|s| s.start_time.is_some()) {
            return Ok(true);
        }
        let others: Vec<Arc<Pod>> = self.keys.keys().filter_map(|key| shared.cache.pod(key)).collect();
        let runs = |other: &Arc<Pod>| spec::uid(other) != spec::uid(pod) && !spec::phase_is_final(other);
        let others: Vec<Arc<Pod>> = others.into_iter().filter(runs).collect();
        let verdict = admission::beside_others(pod, node.as_deref(), &others, manifest::is_static(pod));
        match verdict {
            Err(refusal) if admission::may_be_stale(&refusal) => {
                let api: kube::Api<Node> = kube::Api::all(shared.client.clone());
                match tokio::time::timeout(ANSWER_MAX, api.get(name)).await {
                    Ok(Ok(newer)) => admission::beside_others(pod, Some(&newer), &others, manifest::is_static(pod)),
                    _ => Err(refusal),
                }
            }
            other => other,
        }?;
        if room.is_err() {
            self.make_room(pod, granted, others).await?;
        }
        Ok(room.is_ok())
    }

    /// Ends others for a pod that the node needs. It is in the book from then on, so that
    /// nobody else takes their room.
    async fn make_room(
        &mut self,
        pod: &Arc<Pod>,
        granted: &Pod,
        others: Vec<Arc<Pod>>,
    ) -> Result<(), admission::Refusal> {
        let ledger = &self.shared.ledger;
        if !self.preempting.contains(spec::uid(pod)) {
            let runs = |pod: Arc<Pod>| {
                let granted = ledger.granted(spec::uid(&pod))?;
                Some(preemption::Runner { pod, granted })
            };
            let runners = others.into_iter().filter_map(runs).collect();
            let victims = preemption::victims(pod, runners, &ledger.missing(granted)).map_err(|why| {
                let message = format!(
                    "Unexpected error while attempting to recover from admission failure: preemption: error finding \
                     a set of pods to preempt: {why}"
                );
                ("UnexpectedAdmissionError".to_owned(), message)
            })?;
            for victim in victims {
                self.preempt(&victim).await;
            }
            self.preempting.insert(spec::uid(pod).to_owned());
        }
        self.shared.ledger.enter(granted);
        let (cache, key) = (self.shared.cache.clone(), spec::key(pod));
        let wake = move || cache.touch(key.clone());
        self.shared.ledger.wait(pod, Box::new(wake.clone()));
        // They may have ended in between.
        if self.shared.ledger.missing(granted).is_empty() {
            wake();
        }
        Ok(())
    }

    async fn preempt(&self, pod: &Pod) {
        let message = preemption::MESSAGE.to_owned();
        tracing::warn!(pod = spec::full_name(pod), "ending a pod for a critical one");
        let reason = preemption::REASON;
        self.shared.recorder.pod(pod, None, true, reason, message.clone());
        let verdict = Verdict {
            reason: reason.to_owned(),
            message,
            disruption: Some(("TerminationByKubelet".to_owned(), preemption::CONDITION.to_owned())),
            ..Verdict::default()
        };
        if let Some(inbox) = self.workers.get(spec::uid(pod)) {
            let _ = inbox.send(Signal::End(Box::new(verdict))).await;
        }
    }

    /// Whether files of the pod's volumes show labels or annotations that have changed.
    fn metadata_changed(&mut self, key: &spec::Key, pod: &Pod) -> bool {
        if !payload::follows_metadata(pod) {
            return false;
        }
        let now = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        match self.metadata.insert(key.clone(), now.clone()) {
            Some(old) => old != now,
            None => false,
        }
    }

    /// Pods that use what has changed look at it again.
    async fn refresh(&mut self, uses: impl Fn(&Pod) -> bool) {
        for (key, uid) in &self.keys {
            let concerned = self.shared.cache.pod(key).is_some_and(|pod| uses(&pod));
            if let Some(inbox) = self.workers.get(uid).filter(|_| concerned) {
                let _ = inbox.send(Signal::Refresh).await;
            }
        }
    }

    /// A worker ignores what is not its own.
    async fn tell_all(&mut self, signal: impl Fn() -> Signal) {
        for inbox in self.workers.values() {
            let _ = inbox.send(signal()).await;
        }
    }
}
