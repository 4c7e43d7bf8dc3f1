//! What lies on the node and belongs to no pod that it has: left by an agent, a runtime or a
//! machine that was killed. Looked for when the pods are first known, when the runtime was gone, and
//! with every resync, for what a killed runtime or agent had under way appears when it likes.

use super::Supervisor;
use crate::leftovers;
use crate::pod::observed::{LABEL_POD_UID, Observed, Sandbox};
use crate::pod::{api, links, spec};
use crate::runtime::config::Layout;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Ids of sandboxes that the runtime has, by pod UID; and pods of which something else lies on the node.
pub struct Found {
    sandboxes: BTreeMap<String, Vec<String>>,
    left: BTreeSet<String>,
}

impl Supervisor {
    /// Looks beside everything else, and tells; which pods there are is asked only then, so that a
    /// pod that came meanwhile is no stray.
    pub(super) fn look_for_strays(&self, tell: &mpsc::Sender<Found>) {
        if self.listed {
            self.look_once(tell, Duration::ZERO);
        }
    }

    /// Now, and when a runtime that was killed has come to terms with what it was about.
    pub(super) fn look_twice(&self, tell: &mpsc::Sender<Found>) {
        const SETTLED: Duration = Duration::from_secs(15);
        if self.listed {
            self.look_once(tell, Duration::ZERO);
            self.look_once(tell, SETTLED);
        }
    }

    fn look_once(&self, tell: &mpsc::Sender<Found>, pause: Duration) {
        let (shared, tell) = (self.shared.clone(), tell.clone());
        tokio::spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
                let layout = Layout::new(&shared.config.data_dir);
                let _ = tokio::task::spawn_blocking(move || leftovers::end_lost_shims(&layout)).await;
            }
            // A runtime that does not tell now is asked again with the next resync.
            let listed = match shared.runtime.sandboxes().await {
                Ok(listed) => listed,
                Err(error) => return tracing::debug!(error = error.chain(), "the runtime does not tell what runs"),
            };
            let mut sandboxes: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for mut sandbox in listed {
                if let Some(uid) = sandbox.labels.remove(LABEL_POD_UID) {
                    sandboxes.entry(uid).or_default().push(sandbox.id);
                }
            }
            let look = move || leftovers::found(&shared.config);
            let left = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            // One that nobody took yet tells the same.
            let _ = tell.try_send(Found { sandboxes, left });
        });
    }

    pub(super) fn remove_strays(&mut self, mut found: Found) {
        self.workers.retain(|_, inbox| !inbox.is_closed());
        // In front of its worker a pod's logs and volumes may be kept: it has ended.
        let kept = self.shared.cache.pods();
        let kept: BTreeSet<&str> = kept.values().map(|pod| spec::uid(pod)).collect();
        let known = |uid: &String| {
            self.workers.contains_key(uid) || self.orphans.contains_key(uid) || kept.contains(uid.as_str())
        };
        found.sandboxes.retain(|uid, _| !known(uid));
        found
            .left
            .retain(|uid| !known(uid) && !found.sandboxes.contains_key(uid));
        let holding = self.shared.devices.pods().into_iter();
        let lost = holding.filter(|uid| !known(uid) && !found.sandboxes.contains_key(uid));
        lost.for_each(|uid| self.give_back_devices(uid));
        let strays = found.sandboxes.into_iter().map(|(uid, ids)| {
            let mut seen = Observed::default();
            for id in ids {
                seen.put_sandbox(Sandbox {
                    id,
                    ..Sandbox::default()
                });
            }
            (uid, seen)
        });
        self.orphans.extend(strays);
        self.remove_orphans();
        if !found.left.is_empty() {
            tracing::info!(pods = found.left.len(), "removing what earlier pods have left");
        }
        let config = self.shared.config.clone();
        tokio::task::spawn_blocking(move || {
            found.left.iter().for_each(|uid| leftovers::remove(&config, uid));
            links::sweep(&config.container_logs_dir, &config.pod_logs_dir, None);
        });
    }

    /// Of a pod that ended while nobody looked.
    fn give_back_devices(&self, uid: String) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            // With the next resync it is tried again.
            if let Err(error) = shared.devices.unprepare(&uid).await {
                tracing::warn!(
                    error = error.chain(),
                    uid,
                    "an ended pod's devices cannot be given back"
                );
            }
        });
    }

    /// What a runtime that was killed has left of sandboxes that it had not written down.
    pub(super) fn remove_namespaces(&self, shutdown: &CancellationToken) {
        let layout = Layout::new(&self.shared.config.data_dir);
        let runtime = self.shared.runtime.clone();
        tokio::spawn(leftovers::network::sweep(runtime, layout, shutdown.clone()));
    }

    pub(super) fn remove_orphans(&mut self) {
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
                let work = move || leftovers::remove(&shared.config, &uid);
                let _ = tokio::task::spawn_blocking(work).await;
            });
        }
    }
}
