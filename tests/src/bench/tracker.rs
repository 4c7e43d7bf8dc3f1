//! When pods reach what, as a client that watches learns it.

use anyhow::{Context, Result};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than any step takes; then the reader of the figures wants to know why.
pub const STEP_MAX: Duration = Duration::from_secs(60);
/// More than the pods of one step have events.
const EVENTS_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has a node.
    Scheduled,
    /// Phase Running, and Ready.
    Running,
    Gone,
}

/// When a pod was first seen at each stage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    pub scheduled: Option<Instant>,
    pub running: Option<Instant>,
    pub gone: Option<Instant>,
}

/// Watches one namespace's pods; ends with its watch when dropped.
pub struct Tracker {
    events: mpsc::Receiver<Result<(String, Stage, Instant)>>,
    seen: BTreeMap<String, Moments>,
    task: JoinHandle<()>,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tracker {
    /// Sees all that happens after this call.
    pub async fn start(client: Client, namespace: &str) -> Result<Self> {
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let from = api.list_metadata(&ListParams::default()).await?;
        let version = from.metadata.resource_version.context("a list has a version")?;
        let stream = api.watch(&WatchParams::default(), &version).await?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(async move {
            pin_mut!(stream);
            while let Some(event) = stream.next().await {
                let at = Instant::now();
                let found = match event {
                    Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                        stage(&pod).map(|stage| Ok((name(&pod), stage, at)))
                    }
                    Ok(WatchEvent::Deleted(pod)) => Some(Ok((name(&pod), Stage::Gone, at))),
                    Ok(WatchEvent::Bookmark(_)) => None,
                    Ok(WatchEvent::Error(status)) => Some(Err(anyhow::anyhow!("the watch failed: {status:?}"))),
                    Err(error) => Some(Err(error.into())),
                };
                if let Some(found) = found
                    && sender.send(found).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            events,
            seen: BTreeMap::new(),
            task,
        })
    }

    pub fn moments(&self, pod: &str) -> Moments {
        self.seen.get(pod).copied().unwrap_or_default()
    }

    /// Until all of them run.
    pub async fn running(&mut self, pods: &[String]) -> Result<()> {
        self.until(pods, |moments| moments.running.is_some(), "running").await
    }

    /// Until all of them are deleted.
    pub async fn gone(&mut self, pods: &[String]) -> Result<()> {
        self.until(pods, |moments| moments.gone.is_some(), "gone").await
    }

    async fn until(&mut self, pods: &[String], reached: fn(&Moments) -> bool, what: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + STEP_MAX;
        let mut missing: BTreeSet<&String> = pods.iter().collect();
        loop {
            missing.retain(|pod| !self.seen.get(*pod).is_some_and(reached));
            if missing.is_empty() {
                return Ok(());
            }
            let event = tokio::time::timeout_at(deadline, self.events.recv())
                .await
                .with_context(|| format!("not {what} within {STEP_MAX:?}: {missing:?}"))?;
            let (pod, stage, at) = event.context("the watch ended")??;
            let moments = self.seen.entry(pod).or_default();
            let moment = match stage {
                Stage::Scheduled => &mut moments.scheduled,
                Stage::Running => &mut moments.running,
                Stage::Gone => &mut moments.gone,
            };
            // Later events only repeat it.
            moment.get_or_insert(at);
        }
    }
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn stage(pod: &Pod) -> Option<Stage> {
    let status = pod.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    if ready && status.and_then(|status| status.phase.as_deref()) == Some("Running") {
        return Some(Stage::Running);
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.filter(|node| !node.is_empty()).map(|_| Stage::Scheduled)
}
