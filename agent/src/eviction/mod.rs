//! Keeps the node alive when it runs short: of memory, disk, inodes, processes. Images
//! and ended containers go first, then pods, one at a time; and pods that hold more of
//! the disk than their own limits say go whatever is free.
//!
//! ```text
//! every 10 s: look (a few small files) --plan--> short of? --> reclaim, rank --> End(Evicted)
//!                                          \---> pressures --> node's conditions, admission
//! ```
//!
//! Looking is cheap; only a node that is short is measured pod by pod.

mod measure;
mod plan;
mod rank;
pub mod threshold;

pub use rank::{admits, is_critical};
pub use threshold::{Pressure, Settings};

use crate::image::gc;
use crate::pod::node::Shared;
use crate::pod::plan::Verdict;
use crate::pod::spec;
use crate::stats::disk::Walks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rank::Candidate;
use std::sync::Arc;
use std::time::{Duration, Instant};
use threshold::{Signal, Threshold};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// kubelet's own.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a pod that was evicted may take to be gone before the next one is.
const CLEANUP_MAX: Duration = Duration::from_secs(30);
/// Walking the folders of pods with limits takes at most this part of the time.
const WALKS_SHARE: u32 = 50;
/// What a pod gets when there is no time.
const GRACE_AT_ONCE_S: i64 = 1;

/// A pod that is to end, by its UID.
pub type Ending = (String, Verdict);

struct Keeper {
    shared: Arc<Shared>,
    endings: mpsc::Sender<Ending>,
    walks: Arc<Walks>,
    state: plan::State,
    /// Until then folders are not walked again.
    walk_at: Instant,
}

pub async fn run(shared: Arc<Shared>, endings: mpsc::Sender<Ending>, shutdown: CancellationToken) {
    let mut keeper = Keeper {
        shared,
        endings,
        walks: Arc::default(),
        state: plan::State::default(),
        walk_at: Instant::now(),
    };
    loop {
        let round = keeper.round();
        let evicted = tokio::select! {
            () = shutdown.cancelled() => return,
            evicted = round => evicted,
        };
        // Who had to evict looks again at once.
        if evicted {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

impl Keeper {
    /// Whether a pod had to go.
    async fn round(&mut self) -> bool {
        let seen = measure::look(&self.shared);
        let due = plan::short(&mut self.state, &self.shared.config.eviction, &seen, Timestamp::now());
        let first: Option<Threshold> = due.first().map(|t| (*t).clone());
        let pressures = self.state.pressures();
        self.shared.pressures.send_if_modified(|known| {
            *known != pressures && {
                known.clone_from(&pressures);
                true
            }
        });
        if self.own_limits().await {
            return true;
        }
        let Some(threshold) = first else { return false };
        let resource = threshold.signal.resource();
        tracing::warn!(resource, "the node runs short");
        self.shared.recorder.node(
            &self.shared.config.node_name,
            true,
            "EvictionThresholdMet",
            format!("Attempting to reclaim {resource}"),
        );
        if self.reclaim(threshold.signal).await {
            return false;
        }
        let mut candidates = measure::all(&self.shared, &self.walks).await;
        rank::rank(&mut candidates, threshold.signal);
        let left = measure::look(&self.shared).get(&threshold.signal).copied();
        let (Some(victim), Some(left)) = (candidates.first(), left) else {
            tracing::warn!(resource, "no pod can be evicted");
            return false;
        };
        let message = rank::message(victim, &threshold, left);
        let grace_s = match threshold.grace {
            None => GRACE_AT_ONCE_S,
            Some(_) => self.shared.config.eviction.grace_s_max,
        };
        let disruption = Some(("TerminationByKubelet".to_owned(), message.clone()));
        self.evict(victim, message, grace_s, disruption).await;
        true
    }

    /// Whether ended containers and unused images were enough.
    async fn reclaim(&self, signal: Signal) -> bool {
        if signal.pressure() != Pressure::Disk {
            return false;
        }
        if let Err(error) = gc::free_containers(&self.shared).await {
            tracing::warn!(error = error.chain(), "cannot remove ended containers");
        }
        if let Err(error) = gc::free_all(&self.shared).await {
            tracing::warn!(error = error.chain(), "cannot remove unused images");
        }
        plan::relieved(&self.shared.config.eviction, &measure::look(&self.shared))
    }

    /// Pods that hold more than they may, all at once.
    async fn own_limits(&mut self) -> bool {
        if Instant::now() < self.walk_at {
            return false;
        }
        let begun = Instant::now();
        let candidates = measure::limited(&self.shared).await;
        self.walk_at = Instant::now() + begun.elapsed() * WALKS_SHARE;
        let mut evicted = false;
        for candidate in candidates {
            if let Some(message) = rank::beyond_own_limits(&candidate.pod, &candidate.used) {
                self.evict(&candidate, message, GRACE_AT_ONCE_S, None).await;
                evicted = true;
            }
        }
        evicted
    }

    async fn evict(&self, victim: &Candidate, message: String, grace_s: i64, disruption: Option<(String, String)>) {
        let (shared, pod) = (&self.shared, &victim.pod);
        tracing::warn!(pod = spec::full_name(pod), message, "evicting a pod");
        shared.recorder.pod(pod, None, true, "Evicted", message.clone());
        let verdict = Verdict {
            reason: "Evicted".to_owned(),
            message,
            disruption,
            grace_s: Some(grace_s),
            ..Verdict::default()
        };
        if self.endings.send((spec::uid(pod).to_owned(), verdict)).await.is_err() {
            return;
        }
        self.gone(pod).await;
    }

    /// Waits until the pod has ended, and gives its disk back.
    async fn gone(&self, pod: &Pod) {
        let uid = spec::uid(pod).to_owned();
        let ended = async {
            while self.shared.ledger.holds(&uid) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(CLEANUP_MAX, ended).await.is_err() {
            tracing::warn!(pod = spec::full_name(pod), "an evicted pod has not ended yet");
            return;
        }
        let dir = self.shared.config.pod_dir(&uid);
        let free = move || crate::volume::unmount_all(&dir);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(free).await {
            tracing::warn!(error = error.chain(), "an evicted pod's volumes could not be removed");
        }
    }
}
