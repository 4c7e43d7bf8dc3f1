//! The shell: follows nodes and pods, asks the pure core, binds.
//!
//! ```text
//! watches --> snapshot, queue --> schedule() --> assumed in the snapshot --> bind (a task each)
//!                  ^------------------- failed: taken back, backed off -----------'
//! ```

use crate::filter::Candidate;
use crate::queue::{Plugins, Queue};
use crate::report::Reporter;
use crate::schedule::schedule;
use crate::snapshot::{PodInfo, PodKey, Snapshot, key_of};
use crate::{Config, Error};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bindings under way at once: more would only queue in the API server.
const BINDINGS_MAX: usize = 64;

struct Bound {
    key: PodKey,
    uid: String,
    result: Result<(), kube::Error>,
}

struct Driver {
    config: Config,
    client: kube::Client,
    snapshot: Snapshot,
    queue: Queue,
    reporter: Reporter,
    /// Placed here, not yet seen bound by the watch.
    assumed: BTreeSet<PodKey>,
    bindings: Arc<Semaphore>,
    bound: mpsc::UnboundedSender<Bound>,
    seed: u64,
    /// Objects seen during the initial list, to notice what vanished meanwhile.
    nodes_synced: bool,
    pods_synced: bool,
}

pub async fn run(config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<(), Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let nodes: Api<Node> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let living = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let mut pods = watcher::watcher(pods, living).boxed();
    let mut nodes = watcher::watcher(nodes, watcher::Config::default()).boxed();
    let mut namespaces = watcher::watcher(namespaces, watcher::Config::default()).boxed();
    let (sender, mut bound) = mpsc::unbounded_channel();
    let mut driver = Driver {
        reporter: Reporter::new(client.clone(), config.scheduler_name.clone()),
        config,
        client,
        snapshot: Snapshot::default(),
        queue: Queue::default(),
        assumed: BTreeSet::new(),
        bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
        bound: sender,
        seed: 0,
        nodes_synced: false,
        pods_synced: false,
    };
    let mut failures = 0u32;
    loop {
        driver.decide();
        let due = driver.queue.next_due();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = timer => Ok(()),
            Some(done) = bound.recv() => { driver.finished(done); Ok(()) }
            event = nodes.try_next() => event.map(|event| driver.node_event(event)),
            event = pods.try_next() => event.map(|event| driver.pod_event(event)),
            event = namespaces.try_next() => event.map(|event| driver.namespace_event(event)),
        };
        failures = match outcome {
            Ok(()) => 0,
            Err(error) => {
                tracing::warn!(%error, "a watch was interrupted; it resumes");
                let pause = std::time::Duration::from_millis(100 << failures.min(6));
                tokio::time::sleep(pause).await;
                failures + 1
            }
        };
    }
}

impl Driver {
    fn node_event(&mut self, event: Option<Event<Node>>) {
        match event {
            Some(Event::Apply(node) | Event::InitApply(node)) => {
                let matters = self.snapshot.set_node(&node);
                if matters {
                    self.queue.wake(Plugins::ANY, Instant::now(), |_, _| true);
                }
            }
            Some(Event::Delete(node)) => self
                .snapshot
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Some(Event::Init) => {
                self.nodes_synced = false;
                let names = self.snapshot.node_names();
                names.iter().for_each(|name| self.snapshot.remove_node(name));
            }
            Some(Event::InitDone) => self.nodes_synced = true,
            None => {}
        }
    }

    fn namespace_event(&mut self, event: Option<Event<Namespace>>) {
        match event {
            Some(Event::Apply(namespace) | Event::InitApply(namespace)) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.snapshot
                    .set_namespace(&name, namespace.metadata.labels.unwrap_or_default());
            }
            Some(Event::Delete(namespace)) => {
                self.snapshot
                    .remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            _ => {}
        }
    }

    fn pod_event(&mut self, event: Option<Event<Pod>>) {
        match event {
            Some(Event::Apply(pod) | Event::InitApply(pod)) => self.pod_changed(pod),
            Some(Event::Delete(pod)) => self.pod_gone(&key_of(&pod)),
            Some(Event::Init) => {
                self.pods_synced = false;
                self.queue = Queue::default();
                let placed = self.snapshot.pod_keys();
                for key in placed.iter().filter(|key| !self.assumed.contains(*key)) {
                    self.snapshot.remove_pod(key);
                }
            }
            Some(Event::InitDone) => {
                self.pods_synced = true;
                self.queue.wake(Plugins::ANY, Instant::now(), |_, _| true);
            }
            None => {}
        }
    }

    fn pod_changed(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let key = key_of(&pod);
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty());
        if let Some(node) = node {
            self.assumed.remove(&key);
            self.queue.remove(&key);
            let info = PodInfo::new(&pod);
            let before = self.snapshot.pod(&key).map(|(_, pod)| pod);
            // A pod resized in place or labelled anew may make room for others.
            let changed = before.is_some_and(|before| before.requests != info.requests || before.labels != info.labels);
            self.snapshot.set_pod(&node, Arc::new(info));
            if changed {
                self.queue.wake(Plugins::ANY, Instant::now(), |_, _| true);
            }
            return;
        }
        let spec = pod.spec.as_ref();
        let ours = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .unwrap_or("default-scheduler")
            == self.config.scheduler_name;
        let gated = spec.is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
        if pod.metadata.deletion_timestamp.is_some() || gated || !ours {
            self.queue.remove(&key);
            return;
        }
        // A pod that is being bound is not tried again, whatever changes of it.
        if !self.assumed.contains(&key) {
            self.queue.add(Candidate::new(Arc::new(pod)), Instant::now());
        }
    }

    fn pod_gone(&mut self, key: &PodKey) {
        self.queue.remove(key);
        self.assumed.remove(key);
        self.reporter.forget(key);
        if self.snapshot.remove_pod(key).is_some() {
            // What it occupied is free.
            self.queue.wake(Plugins::ANY, Instant::now(), |_, _| true);
        }
    }

    /// Tries all that is ready.
    fn decide(&mut self) {
        if !(self.nodes_synced && self.pods_synced) {
            return;
        }
        while self.bindings.available_permits() > 0 {
            let now = Instant::now();
            let Some(popped) = self.queue.pop(now) else { return };
            let candidate = popped.candidate;
            self.seed = self.seed.wrapping_add(1);
            let key = candidate.info.key.clone();
            match schedule(&mut self.snapshot, &candidate, self.seed) {
                Ok(placement) => self.bind(candidate, placement.node),
                Err(why) => {
                    tracing::debug!(namespace = key.0, pod = key.1, %why, "unschedulable");
                    self.reporter.unschedulable(&candidate.pod, why.to_string());
                    self.queue
                        .unschedulable(&key, why.plugins.iter().copied().collect(), now);
                }
            }
        }
    }

    fn bind(&mut self, candidate: Candidate, node: String) {
        let Ok(permit) = self.bindings.clone().try_acquire_owned() else {
            return;
        };
        let key = candidate.info.key.clone();
        self.snapshot.set_pod(&node, candidate.info.clone());
        self.assumed.insert(key.clone());
        let (client, bound, reporter) = (self.client.clone(), self.bound.clone(), self.reporter.clone());
        tokio::spawn(async move {
            let result = post_binding(client, &candidate.pod, &node).await;
            drop(permit);
            let done = result.is_ok();
            // The receiver lives as long as the process schedules.
            let _ = bound.send(Bound {
                key,
                uid: candidate.info.uid.clone(),
                result,
            });
            if done {
                reporter.scheduled(&candidate.pod, &node).await;
            }
        });
    }

    fn finished(&mut self, done: Bound) {
        match done.result {
            Ok(()) => self.queue.remove(&done.key),
            Err(error) => {
                tracing::warn!(namespace = done.key.0, pod = done.key.1, uid = done.uid, %error, "binding failed");
                if self.assumed.remove(&done.key) {
                    self.snapshot.remove_pod(&done.key);
                    if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                        self.queue.remove(&done.key);
                    } else {
                        self.queue.failed(&done.key, Instant::now());
                    }
                }
            }
        }
    }
}

async fn post_binding(client: kube::Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let (namespace, name) = key_of(pod);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    pods.create_subresource::<_, serde_json::Value>("binding", &name, &PostParams::default(), &binding)
        .await
        .map(|_| ())
}
