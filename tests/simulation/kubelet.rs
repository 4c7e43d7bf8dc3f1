//! Nodes that only pretend: bound pods become ready after a while, Jobs' pods end, deleted ones go; unless the
//! node is down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Plan;

/// A node that is silent for so long counts as lost.
pub const GRACE: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_millis(700);
/// Every so many heartbeats a node says again how it is, whoever thought otherwise.
const REPORT_EVERY: u32 = 3;
/// A pod is something else after at most this time.
const STEP_MS_MAX: u64 = 60;
/// How long a node waits after the server has refused it something.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Nodes {
    pub names: Arc<Vec<String>>,
    down: Arc<Mutex<BTreeSet<String>>>,
}

pub fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

fn node(name: &str, zone: usize) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{zone}"),
        }},
        "status": {
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "500"},
            "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"},
            "conditions": ready(),
        },
    }))
    .expect("a node")
}

fn ready() -> Value {
    let now = Timestamp::now();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Kubelet",
        "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!([
        condition("Ready", "True"),
        condition("MemoryPressure", "False"),
        condition("DiskPressure", "False"),
        condition("PIDPressure", "False"),
    ])
}

impl Nodes {
    pub async fn start(client: &Client, plan: &Plan, shutdown: &CancellationToken) -> Self {
        let names: Vec<String> = (0..plan.nodes).map(|number| format!("node-{number:04}")).collect();
        let nodes = Self {
            names: Arc::new(names),
            down: Arc::default(),
        };
        let all: Api<Node> = Api::all(client.clone());
        for (number, name) in nodes.names.iter().enumerate() {
            let made = node(name, number % 3);
            all.create(&PostParams::default(), &made).await.expect("a node is made");
            let patch = Patch::Strategic(json!({"status": made.status}));
            let written = all.patch_status(name, &PatchParams::default(), &patch).await;
            written.expect("a node reports");
        }
        tokio::spawn(nodes.clone().beat(client.clone(), shutdown.clone()));
        tokio::spawn(nodes.clone().run(client.clone(), plan.seed, shutdown.clone()));
        nodes
    }

    pub fn is_down(&self, name: &str) -> bool {
        self.down.lock().unwrap().contains(name)
    }

    pub fn set_down(&self, name: &str, down: bool) {
        let mut all = self.down.lock().unwrap();
        if down {
            all.insert(name.to_string());
        } else {
            all.remove(name);
        }
    }

    /// Every node comes back, and looks after what it finds.
    pub async fn heal(&self, client: &Client) {
        self.down.lock().unwrap().clear();
        // What they missed: any change of a pod makes them look at it.
        let pods: Api<Pod> = Api::all(client.clone());
        for pod in pods.list(&Default::default()).await.expect("pods").items {
            let (name, namespace) = (pod.metadata.name.unwrap(), pod.metadata.namespace.unwrap());
            let patch = json!({"metadata": {"annotations": {"sim/healed": "yes"}}});
            let api: Api<Pod> = api(client, &namespace);
            let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        }
    }

    async fn beat(self, client: Client, shutdown: CancellationToken) {
        let mut turn = 0;
        while !shutdown.is_cancelled() {
            let live: Vec<&String> = self.names.iter().filter(|name| !self.is_down(name)).collect();
            let reports = turn % REPORT_EVERY == 0;
            futures::future::join_all(live.into_iter().map(|name| heartbeat(&client, name, reports))).await;
            turn += 1;
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    async fn run(self, client: Client, seed: u64, shutdown: CancellationToken) {
        let mut random = StdRng::seed_from_u64(seed);
        let pods: Api<Pod> = Api::all(client.clone());
        let stream = watcher(pods, watcher::Config::default());
        let mut stream = std::pin::pin!(stream);
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.try_next() => event,
            };
            let Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) = event else {
                continue;
            };
            let node = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default();
            if node.is_empty() || self.is_down(&node) {
                continue;
            }
            let Some(step) = step(&pod, &mut random) else { continue };
            let wait = Duration::from_millis(random.random_range(0..STEP_MS_MAX));
            let (nodes, client) = (self.clone(), client.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                while !nodes.is_down(&node) {
                    match act(&client, &pod, &step).await {
                        Ok(()) => return,
                        // As a kubelet would: nobody else will do it.
                        Err(error) => {
                            eprintln!("{}: {error}; trying again", pod.metadata.name.as_deref().unwrap_or(""))
                        }
                    }
                    tokio::time::sleep(RETRY).await;
                }
            });
        }
    }
}

async fn heartbeat(client: &Client, name: &str, reports: bool) {
    let renewed = format!("{:.6}", Timestamp::now());
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed}});
    let leases: Api<Lease> = api(client, "kube-node-lease");
    let parameters = PatchParams::apply("kubelet").force();
    let written = leases.patch(name, &parameters, &Patch::Apply(lease)).await;
    written.expect("a heartbeat");
    if reports {
        let nodes: Api<Node> = Api::all(client.clone());
        let patch = Patch::Strategic(json!({"status": {"conditions": ready()}}));
        let written = nodes.patch_status(name, &PatchParams::default(), &patch).await;
        written.expect("a report");
    }
}

enum Step {
    Run,
    /// Ready again.
    Recover,
    End(&'static str),
    Remove,
}

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("")
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|known| known.type_ == "Ready" && known.status == "True")
}

fn step(pod: &Pod, random: &mut StdRng) -> Option<Step> {
    let finished = matches!(phase(pod), "Succeeded" | "Failed");
    let ends = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never");
    if pod.metadata.deletion_timestamp.is_some() {
        // A container that is told to stop ends with an error.
        return Some(if finished { Step::Remove } else { Step::End("Failed") });
    }
    match phase(pod) {
        "Pending" => Some(Step::Run),
        "Running" if ends => {
            let annotations = pod.metadata.annotations.clone().unwrap_or_default();
            let unlucky = annotations
                .get("sim/fails")
                .is_some_and(|part| random.random_range(0..100) < part.parse::<u32>().expect("a percentage"));
            Some(Step::End(if unlucky { "Failed" } else { "Succeeded" }))
        }
        "Running" if !is_ready(pod) => Some(Step::Recover),
        _ => None,
    }
}

/// An address that no other pod has.
fn address(pod: &Pod) -> String {
    static KNOWN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let next = u32::try_from(known.len()).expect("few pods") + 1;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let [_, b, c, d] = known.entry(uid).or_insert(next).to_be_bytes();
    format!("10.{b}.{c}.{d}")
}

/// What somebody else changed meanwhile is no error: that change brings the next step.
async fn act(client: &Client, pod: &Pod, step: &Step) -> Result<(), kube::Error> {
    let (name, namespace) = (
        pod.metadata.name.clone().unwrap(),
        pod.metadata.namespace.clone().unwrap(),
    );
    let pods: Api<Pod> = api(client, &namespace);
    // What has ended stays so, whatever was planned before.
    let Some(live) = pods.get_opt(&name).await? else {
        return Ok(());
    };
    let ended = matches!(phase(&live), "Succeeded" | "Failed");
    if live.metadata.uid != pod.metadata.uid || (ended && !matches!(step, Step::Remove)) {
        return Ok(());
    }
    let now = Timestamp::now();
    let ready = |status: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": now}]);
    let state = match step {
        Step::Remove => {
            let parameters = DeleteParams::default().grace_period(0).preconditions(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            });
            return match pods.delete(&name, &parameters).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            };
        }
        Step::Run => json!({"phase": "Running", "conditions": ready("True"), "startTime": now,
            "podIP": address(pod), "podIPs": [{"ip": address(pod)}]}),
        Step::Recover => json!({"conditions": ready("True")}),
        Step::End(phase) => {
            let code = i32::from(*phase == "Failed");
            let containers: Vec<Value> = pod
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .map(|container| {
                    json!({
                        "name": container.name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now}},
                    })
                })
                .collect();
            json!({"phase": phase, "conditions": ready("False"), "containerStatuses": containers})
        }
    };
    // Where it changed meanwhile, that change brings the next step.
    let patch = json!({"metadata": {"resourceVersion": live.metadata.resource_version}, "status": state});
    let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
    match pods.patch_status(&name, &parameters, &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Pods by namespace and labels, for checks.
pub fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}
