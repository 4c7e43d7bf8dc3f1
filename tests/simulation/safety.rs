//! What must hold at every moment, seen through a watch of all pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::kubelet::labels;

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const JOB: &str = "batch.kubernetes.io/controller-uid";

#[derive(Default)]
struct State {
    broken: BTreeSet<String>,
    seen: BTreeSet<String>,
    /// Names of live pods by Job and index.
    indexes: BTreeMap<(String, String), BTreeSet<String>>,
    /// Live pods by Job.
    jobs: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Default)]
pub struct Watcher(Arc<Mutex<State>>);

impl Watcher {
    pub fn start(client: &Client, shutdown: &CancellationToken) -> Self {
        let watcher = Self::default();
        tokio::spawn(watcher.clone().run(client.clone(), shutdown.clone()));
        watcher
    }

    pub fn broken(&self) -> Vec<String> {
        self.0.lock().unwrap().broken.iter().cloned().collect()
    }

    pub fn pods_seen(&self) -> usize {
        self.0.lock().unwrap().seen.len()
    }

    async fn run(self, client: Client, shutdown: CancellationToken) {
        let pods: Api<Pod> = Api::all(client);
        let stream = watcher(pods, watcher::Config::default());
        let mut stream = std::pin::pin!(stream);
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.try_next() => event,
            };
            match event {
                Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => self.look(&pod, false),
                Ok(Some(watcher::Event::Delete(pod))) => self.look(&pod, true),
                _ => {}
            }
        }
    }

    fn look(&self, pod: &Pod, gone: bool) {
        let mut state = self.0.lock().unwrap();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        state.seen.insert(uid.clone());
        let labels = labels(pod);
        let Some(job) = labels.get(JOB).cloned() else { return };
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        let live = !gone && pod.metadata.deletion_timestamp.is_none() && phase != "Succeeded" && phase != "Failed";
        let limit = labels
            .get("sim/parallelism")
            .map_or(usize::MAX, |text| text.parse().expect("a number"));
        let all = state.jobs.entry(job.clone()).or_default();
        if live {
            all.insert(uid.clone());
        } else {
            all.remove(&uid);
        }
        let count = all.len();
        if count > limit {
            state
                .broken
                .insert(format!("job {job} has {count} live pods of at most {limit}"));
        }
        if let Some(index) = labels.get(INDEX) {
            let of = state.indexes.entry((job.clone(), index.clone())).or_default();
            if live {
                of.insert(uid);
            } else {
                of.remove(&uid);
            }
            if of.len() > 1 {
                let message = format!("index {index} of job {job} has pods {of:?} at once");
                state.broken.insert(message);
            }
        }
    }
}
