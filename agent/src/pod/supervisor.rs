//! Starts a worker per pod and routes events to them; cleans up what belongs to no pod.

use super::node::Shared;
use super::observed::{self, LABEL_POD_UID, Observed, Sandbox};
use super::plan::{Memory, Verdict};
use super::spec;
use super::worker::{self, INBOX, Signal};
use super::{admission, api};
use crate::cache::Change;
use crate::error::Error;
use crate::eviction;
use crate::manifest;
use crate::resize;
use crate::runtime::events::RuntimeEvent;
use crate::volume::payload;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The safety net for lost events; everything normal is driven by events.
const RESYNC: Duration = Duration::from_secs(60);
/// Kubernetes' defaults for a container's log.
const LOG_BYTES_MAX: u64 = 10 << 20;
const LOG_FILES_MAX: u32 = 5;

struct Supervisor {
    shared: Arc<Shared>,
    workers: BTreeMap<String, mpsc::Sender<Signal>>,
    keys: BTreeMap<spec::Key, String>,
    orphans: BTreeMap<String, Observed>,
    /// What earlier pods have left was looked for.
    swept: bool,
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
        swept: false,
        metadata: BTreeMap::new(),
    };
    let kept: Vec<spec::Key> = supervisor.shared.cache.pods().into_keys().collect();
    for key in kept {
        supervisor.changed(&key).await;
    }
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
                    supervisor.remove_leftovers();
                    supervisor.remove_orphans();
                }
            },
            Some(event) = events.recv() => match event {
                RuntimeEvent::Exited { container_id } => {
                    supervisor.tell_all(|| Signal::Exited(container_id.clone())).await;
                }
                RuntimeEvent::OutOfMemory { .. } => {}
                RuntimeEvent::Resync => supervisor.tell_all(|| Signal::Resync).await,
            },
            Some((uid, verdict)) = endings.recv() => {
                if let Some(inbox) = supervisor.workers.get(&uid) {
                    let _ = inbox.send(Signal::End(verdict)).await;
                }
            }
            _ = resync.tick() => {
                supervisor.tell_all(|| Signal::Resync).await;
                rotate_logs(supervisor.shared.clone()).await;
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
        let (inbox, signals) = mpsc::channel(INBOX);
        let memory = self.admit(&pod, &seen).await;
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

    /// Enters the pod in the node's book. One that is new here may be refused.
    async fn admit(&self, pod: &Arc<Pod>, seen: &Observed) -> Memory {
        let shared = &self.shared;
        let fresh = *seen == Observed::default();
        let kept = (!fresh).then(|| resize::file::read(&shared.config.pod_dir(spec::uid(pod))));
        let mut memory = Memory {
            resize: resize::State::new(pod, kept.flatten(), seen),
            ..Memory::default()
        };
        let granted = memory.resize.allocation.applied(pod);
        if spec::phase_is_final(pod) {
            return memory;
        }
        if !fresh || pod.metadata.deletion_timestamp.is_some() {
            shared.ledger.enter(&granted);
            return memory;
        }
        memory.blocked = admission::blocked(pod, shared.app_armor);
        if let Err((reason, message)) = self.lets_in(pod, &granted).await {
            shared.ledger.release(spec::uid(pod));
            shared.recorder.pod(pod, None, true, &reason, message.clone());
            memory.failed = Some(Verdict {
                reason,
                message,
                rejected: true,
                ..Verdict::default()
            });
        }
        memory
    }

    /// Asks what upstream asks, in its order. Who is let in is in the node's book.
    async fn lets_in(&self, pod: &Arc<Pod>, granted: &Pod) -> Result<(), admission::Refusal> {
        /// The node is asked for anew when what is known of it speaks against a pod.
        const ANSWER_MAX: Duration = Duration::from_secs(2);
        let shared = &self.shared;
        let name = &shared.config.node_name;
        let node = shared.cache.view().borrow().nodes.get(name).cloned();
        admission::of_itself(pod, node.as_deref(), &shared.config.allowed_unsafe_sysctls)?;
        eviction::admits(granted, &shared.pressures.borrow()).map_err(|message| ("Evicted".to_owned(), message))?;
        shared.ledger.admit(granted)?;
        // A pod that was let in before the node started anew stays.
        if pod.status.as_ref().is_some_and(|s| s.start_time.is_some()) {
            return Ok(());
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

    /// Once: which pods there are is known now.
    fn remove_leftovers(&mut self) {
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let config = self.shared.config.clone();
        let mut left = crate::leftovers::found(&config);
        left.retain(|uid| !self.workers.contains_key(uid) && !self.orphans.contains_key(uid));
        // In front of its worker a pod's logs and volumes may be kept: it has ended.
        let kept = self.shared.cache.pods();
        for pod in kept.values() {
            left.remove(spec::uid(pod));
        }
        if !left.is_empty() {
            tracing::info!(pods = left.len(), "removing what earlier pods have left");
            tokio::task::spawn_blocking(move || left.iter().for_each(|uid| crate::leftovers::remove(&config, uid)));
        }
    }

    fn remove_orphans(&mut self) {
        for (uid, seen) in std::mem::take(&mut self.orphans) {
            let shared = self.shared.clone();
            tracing::info!(uid, "removing a pod that the cluster no longer has");
            tokio::spawn(async move {
                for sandbox in &seen.sandboxes {
                    if let Err(error) = shared.runtime.stop_sandbox(&sandbox.id).await {
                        tracing::warn!(error = error.chain(), "cannot stop an orphan");
                    }
                }
                let mut pod = Pod::default();
                pod.metadata.uid = Some(uid.clone());
                if let Err(error) = api::tear_down(&shared, &Arc::new(pod), &seen).await {
                    tracing::warn!(error = error.chain(), "cannot remove an orphan");
                }
                let work = move || crate::leftovers::remove(&shared.config, &uid);
                let _ = tokio::task::spawn_blocking(work).await;
            });
        }
    }
}

async fn rotate_logs(shared: Arc<Shared>) {
    let Ok(containers) = shared.runtime.containers().await else {
        return;
    };
    for container in containers.into_iter().filter(|c| c.state == 1) {
        let Ok(Some(status)) = shared.runtime.container_status(&container.id).await else {
            continue;
        };
        if !std::fs::metadata(&status.log_path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
            continue;
        }
        let name = |number: u32| format!("{}.{number}", status.log_path);
        for number in (1..LOG_FILES_MAX - 1).rev() {
            let _ = std::fs::rename(name(number), name(number + 1));
        }
        if std::fs::rename(&status.log_path, name(1)).is_ok()
            && let Err(error) = shared.runtime.reopen_log(&container.id).await
        {
            tracing::warn!(error = error.chain(), "cannot rotate a log");
        }
    }
}
