//! Nodes: their pod CIDRs, their health with its conditions and taints, and the eviction of pods that do
//! not tolerate those taints.
//!
//! Health needs no polling: every heartbeat (lease renewal or status) is noted with the local time, and one
//! timer per node looks when the grace period after the last heartbeat has passed.

mod evict;
mod health;
mod ipam;
mod zones;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::slim::Pod;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::Config;
use crate::cache::Change;
use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace};
use crate::pods::{is_finished, is_ready};
use crate::queue::Queue;
use crate::shared::on_node;
use crate::worker::work;

pub use health::{ready as node_is_ready, tolerates};
pub use ipam::Range;

use ipam::Leases;
use zones::{Census, Pace, Permit};

const WORKERS: usize = 8;
/// A node that never reported has this long; upstream's node-startup-grace-period.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// The cluster's ranges, checked.
pub fn ranges(config: &Config) -> Result<Vec<Range>, Error> {
    config
        .cluster_cidrs
        .iter()
        .map(|text| {
            let mask = if text.contains(':') {
                config.node_cidr_mask_ipv6
            } else {
                config.node_cidr_mask
            };
            Range::new(text, mask).map_err(|message| Error::Config(format!("cluster_cidrs: {message}")))
        })
        .collect()
}

pub fn start(context: Context, config: &Config, ranges: Vec<Range>, tasks: &mut JoinSet<()>) {
    start_ipam(context.clone(), ranges, tasks);
    start_health(context.clone(), config.node_monitor_grace, tasks);
    evict::start(context, tasks);
}

fn cidrs_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten();
    let mut cidrs: Vec<IpNet> = listed.filter_map(|cidr| cidr.parse().ok()).collect();
    if cidrs.is_empty() {
        cidrs.extend(spec.pod_cidr.as_deref().and_then(|cidr| cidr.parse::<IpNet>().ok()));
    }
    cidrs
}

fn start_ipam(context: Context, ranges: Vec<Range>, tasks: &mut JoinSet<()>) {
    if ranges.is_empty() {
        return;
    }
    let queue = Arc::new(Queue::new("node_ipam"));
    let leases = Arc::new(Mutex::new(Leases::default()));
    context.shared.nodes.on_change({
        let (queue, leases) = (queue.clone(), leases.clone());
        move |change| {
            let mut leases = leases.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match (change.old, change.new) {
                (_, Some(node)) => {
                    let cidrs = cidrs_of(node);
                    if cidrs.is_empty() {
                        queue.add(Key::of(&node.metadata));
                    } else {
                        leases.occupy(name(&node.metadata), &cidrs);
                    }
                }
                (Some(node), None) => leases.release(name(&node.metadata)),
                (None, None) => {}
            }
        }
    });
    let ranges = Arc::new(ranges);
    tasks.spawn(async move {
        // All nodes' ranges are known before the first is given out.
        context.shared.nodes.synced().await;
        let reconcile = |key| {
            let (context, leases, ranges) = (context.clone(), leases.clone(), ranges.clone());
            async move { assign_cidr(&context, &leases, &ranges, key).await }
        };
        work(
            "node-ipam-controller",
            queue,
            WORKERS,
            context.shutdown.clone(),
            reconcile,
        )
        .await;
    });
}

async fn assign_cidr(context: &Context, leases: &Mutex<Leases>, ranges: &[Range], key: Key) -> Result<(), Error> {
    let Some(node) = context.shared.nodes.get(&key) else {
        return Ok(());
    };
    if !cidrs_of(&node).is_empty() {
        return Ok(());
    }
    let cidrs = {
        let mut leases = leases.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match leases.of(&key.name).map(<[IpNet]>::to_vec) {
            Some(known) => Some(known),
            None => leases.allocate(&key.name, ranges),
        }
    };
    let Some(cidrs) = cidrs else {
        let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
        context.normal(node.as_ref(), "CIDRNotAvailable", message);
        return Err(Error::Again(format!(
            "no pod CIDR is left for node {}: enlarge the cluster CIDR",
            key.name
        )));
    };
    let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": texts[0], "podCIDRs": texts}});
    let api: Api<Node> = Api::all(context.client.clone());
    let written = api
        .patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    gone_is_fine(written.doing(|| format!("give node {key} its pod CIDR")))
}

#[derive(Clone, Debug, PartialEq)]
struct Heartbeat {
    lease: Option<Timestamp>,
    status: Option<(Option<Timestamp>, String)>,
}

struct Seen {
    heartbeat: Heartbeat,
    at: Instant,
    /// What `Ready` was when this controller last acted on it.
    ready: Option<String>,
}

struct Health {
    context: Context,
    queue: Arc<Queue<Key>>,
    grace: Duration,
    seen: Mutex<HashMap<Key, Seen>>,
    pace: Mutex<Pace>,
    census: Mutex<Census>,
}

fn start_health(context: Context, grace: Duration, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new("node_lifecycle_controller"));
    let shared = context.shared.clone();
    let health = Arc::new(Health {
        context,
        queue: queue.clone(),
        grace,
        seen: Mutex::default(),
        pace: Mutex::default(),
        census: Mutex::default(),
    });
    shared.nodes.on_change({
        let health = health.clone();
        move |change| {
            let node = change.new.or(change.old);
            let known = node.map_or("", |node| name(&node.metadata));
            if health.census().change(known, change.new.map(Arc::as_ref)) {
                health.judge_lost();
            }
            health.changed(change);
        }
    });
    shared.node_leases.on_change({
        let health = health.clone();
        move |change| {
            if let Some(lease) = change.new {
                health.heard(&Key::new("", name(&lease.metadata)));
            }
        }
    });
    tasks.spawn(async move {
        shared.nodes.synced().await;
        shared.node_leases.synced().await;
        shared.pods.synced().await;
        let shutdown = health.context.shutdown.clone();
        let reconcile = |key| {
            let health = health.clone();
            async move { health.reconcile(key).await }
        };
        work("node-lifecycle-controller", queue, WORKERS, shutdown, reconcile).await;
    });
}

fn needs_judgement(old: &Node, new: &Node) -> bool {
    let of = |node: &Node| {
        let conditions: Vec<(String, String)> = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect();
        let spec = node.spec.as_ref();
        (
            conditions,
            spec.and_then(|spec| spec.taints.clone()),
            spec.and_then(|spec| spec.unschedulable),
        )
    };
    of(old) != of(new)
}

impl Health {
    fn census(&self) -> std::sync::MutexGuard<'_, Census> {
        self.census.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Seen>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes the time if the node has said anything new.
    fn heard(&self, key: &Key) {
        let shared = &self.context.shared;
        let Some(node) = shared.nodes.get(key) else { return };
        let lease = shared
            .node_leases
            .get(&Key::new(crate::shared::NODE_LEASE_NAMESPACE, &key.name));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let status = health::condition(&node, "Ready").map(|ready| {
            (
                ready.last_heartbeat_time.as_ref().map(|time| time.0),
                ready.status.clone(),
            )
        });
        let heartbeat = Heartbeat { lease: renewed, status };
        let mut seen = self.seen();
        match seen.get_mut(key) {
            Some(known) if known.heartbeat == heartbeat => {}
            Some(known) => {
                // Our own "Unknown" is no sign of life.
                let ours = heartbeat.status.as_ref().is_some_and(|(_, status)| status == "Unknown")
                    && heartbeat.lease == known.heartbeat.lease;
                known.heartbeat = heartbeat;
                if !ours {
                    known.at = Instant::now();
                }
            }
            None => {
                seen.insert(
                    key.clone(),
                    Seen {
                        heartbeat,
                        at: Instant::now(),
                        ready: None,
                    },
                );
            }
        }
    }

    fn changed(&self, change: &Change<'_, Node>) {
        match (change.old, change.new) {
            (None, Some(node)) => {
                let message = format!(
                    "Node {0} event: Registered Node {0} in Controller",
                    name(&node.metadata)
                );
                self.context.normal(node.as_ref(), "RegisteredNode", message);
                self.heard(&Key::of(&node.metadata));
                self.queue.add(Key::of(&node.metadata));
            }
            (Some(old), Some(node)) => {
                self.heard(&Key::of(&node.metadata));
                if needs_judgement(old, node) {
                    self.queue.add(Key::of(&node.metadata));
                }
            }
            (Some(node), None) => {
                let message = format!(
                    "Node {0} event: Removing Node {0} from Controller",
                    name(&node.metadata)
                );
                self.context.normal(node.as_ref(), "RemovingNode", message);
                self.seen().remove(&Key::of(&node.metadata));
            }
            (None, None) => {}
        }
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(node) = self.context.shared.nodes.get(&key) else {
            return Ok(());
        };
        let (silent, never) = {
            let seen = self.seen();
            let Some(known) = seen.get(&key) else { return Ok(()) };
            let never = known.heartbeat.lease.is_none() && known.heartbeat.status.is_none();
            (known.at.elapsed(), never)
        };
        let grace = if never {
            self.grace.max(STARTUP_GRACE)
        } else {
            self.grace
        };
        let now = Timestamp::now();
        let mut node = Node::clone(&node);
        if silent >= grace {
            let lost = health::lost_conditions(&node, now);
            if !lost.is_empty() {
                let api: Api<Node> = Api::all(self.context.client.clone());
                let patch = Patch::Strategic(json!({"status": {"conditions": lost}}));
                let written = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
                node = match written.doing(|| format!("mark node {key} as lost")) {
                    Err(error) if error.is_not_found() => return Ok(()),
                    other => other?,
                };
            }
        } else {
            // Looks again when the grace period after the last heartbeat seen so far is over.
            self.queue
                .add_after(key.clone(), grace - silent + Duration::from_millis(10));
        }
        self.act_on_readiness(&key, &node).await?;
        let evict = self.may_evict(&key, &node, now);
        if let Some(taints) = health::taints(&node, evict, now) {
            let api: Api<Node> = Api::all(self.context.client.clone());
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            });
            let written = api
                .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            gone_is_fine(written.doing(|| format!("set the taints of node {key}")))?;
        }
        Ok(())
    }

    /// From the nodes as the watch shows them, with this one as it is now.
    fn may_evict(&self, key: &Key, node: &Node, now: Timestamp) -> bool {
        if health::ready(node) == "True" {
            return false;
        }
        let counts = self.census().with(&key.name, node);
        let given_up = health::is_given_up(node);
        let mut pace = self.pace.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match pace.ask(node, given_up, &counts, now) {
            Permit::Now => true,
            Permit::In(wait) => {
                self.queue.add_after(key.clone(), wait + Duration::from_millis(10));
                false
            }
            Permit::Never => false,
        }
    }

    /// What becomes of a lost node depends on how many others are lost.
    fn judge_lost(&self) {
        for node in self.context.shared.nodes.list() {
            if health::ready(&node) != "True" {
                self.queue.add(Key::of(&node.metadata));
            }
        }
    }

    /// Tells about a node that stopped being ready, and marks its pods so that Services stop using them.
    async fn act_on_readiness(&self, key: &Key, node: &Node) -> Result<(), Error> {
        let ready = health::ready(node).to_string();
        let before = self.seen().get(key).and_then(|seen| seen.ready.clone());
        if before.as_deref() == Some(ready.as_str()) {
            return Ok(());
        }
        if ready != "True" {
            if before.as_deref() == Some("True") {
                let message = format!("Node {key} status is now: NodeNotReady");
                self.context.normal(node, "NodeNotReady", message);
            }
            for pod in self.context.shared.pods.indexed(&on_node(&key.name)) {
                self.mark_not_ready(&pod).await?;
            }
        }
        if let Some(seen) = self.seen().get_mut(key) {
            seen.ready = Some(ready);
        }
        Ok(())
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        if !is_ready(pod) || is_finished(pod) {
            return Ok(());
        }
        let now = crate::key::time(Timestamp::now());
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": now},
        ]}});
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace(&pod.metadata));
        let pod_name = name(&pod.metadata);
        let written = api
            .patch_status(pod_name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        gone_is_fine(written.doing(|| format!("mark pod {pod_name} as not ready")))?;
        self.context
            .warning(pod, "NodeNotReady", "Node is not ready".to_string());
        Ok(())
    }
}
