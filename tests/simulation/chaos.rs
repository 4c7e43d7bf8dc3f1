//! Disturbs what runs: new templates and sizes, deletions of every sort, failing and unready pods, evictions, lost
//! nodes, and a namespace that goes.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::Plan;
use crate::kubelet::{Nodes, api};
use crate::workloads::{Asked, DOOMED, MAIN};

struct Chaos<'a> {
    client: &'a Client,
    nodes: &'a Nodes,
    random: StdRng,
    asked: Asked,
}

pub async fn disturb(client: &Client, plan: &Plan, nodes: &Nodes, asked: Asked) -> Asked {
    let mut chaos = Chaos {
        client,
        nodes,
        random: StdRng::seed_from_u64(plan.seed.wrapping_add(1)),
        asked,
    };
    let (begun, mut doomed, mut step) = (Instant::now(), false, 0);
    while begun.elapsed() < plan.disturbed {
        chaos.step().await;
        step += 1;
        if !doomed && begun.elapsed() > plan.disturbed / 3 {
            let all: Api<Namespace> = Api::all(client.clone());
            all.delete(DOOMED, &DeleteParams::default())
                .await
                .expect("the namespace goes");
            doomed = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    eprintln!("{step} disturbances");
    chaos.delete_some().await;
    chaos.asked
}

impl Chaos<'_> {
    fn one<'a>(&mut self, names: &'a [String]) -> &'a str {
        &names[self.random.random_range(0..names.len())]
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..12 => self.change_template().await,
            12..28 => self.resize().await,
            28..32 => self.lose_or_find_node(),
            32..45 => self.evict().await,
            _ => self.hurt_pod().await,
        }
    }

    async fn patch<K>(&mut self, name: &str, patch: serde_json::Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let all: Api<K> = api(self.client, MAIN);
        let written = all.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        match written {
            Ok(_) => {}
            // Controllers write the same object; this disturbance is lost then.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }

    async fn change_template(&mut self) {
        let version = self.random.random_range(0..4);
        let template = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "c", "image": format!("image:{version}")}]}}}});
        let asked = self.asked.clone();
        match self.random.random_range(0..4) {
            0 => {
                let name = self.one(&asked.stateful_sets).to_string();
                self.patch::<StatefulSet>(&name, template).await;
            }
            1 => {
                let name = self.one(&asked.daemon_sets).to_string();
                self.patch::<DaemonSet>(&name, template).await;
            }
            _ => {
                let name = self.one(&asked.deployments).to_string();
                self.patch::<Deployment>(&name, template).await;
            }
        }
    }

    async fn resize(&mut self) {
        let asked = self.asked.clone();
        if self.random.random_range(0..4) == 0 {
            let name = self.one(&asked.stateful_sets).to_string();
            let replicas = self.random.random_range(0..8);
            self.patch::<StatefulSet>(&name, json!({"spec": {"replicas": replicas}}))
                .await;
        } else {
            let name = self.one(&asked.deployments).to_string();
            let replicas = self.random.random_range(0..40);
            self.patch::<Deployment>(&name, json!({"spec": {"replicas": replicas}}))
                .await;
        }
    }

    fn lose_or_find_node(&mut self) {
        let node = self.random.random_range(0..self.nodes.names.len());
        let name = self.nodes.names[node].clone();
        self.nodes.set_down(&name, !self.nodes.is_down(&name));
    }

    /// A pod of a workload that is made anew; Jobs would have to wait for long.
    async fn some_pod(&mut self) -> Option<Pod> {
        let all: Api<Pod> = api(self.client, MAIN);
        let some = ListParams::default().labels("!sim/parallelism");
        let pods = all.list(&some).await.expect("pods").items;
        if pods.is_empty() {
            return None;
        }
        let which = self.random.random_range(0..pods.len());
        pods.into_iter().nth(which)
    }

    async fn evict(&mut self) {
        let Some(pod) = self.some_pod().await else { return };
        let all: Api<Pod> = api(self.client, MAIN);
        // A budget may refuse it.
        let _ = all.evict(&pod.metadata.name.unwrap(), &EvictParams::default()).await;
    }

    async fn hurt_pod(&mut self) {
        let Some(pod) = self.some_pod().await else { return };
        let name = pod.metadata.name.clone().unwrap();
        let all: Api<Pod> = api(self.client, MAIN);
        let status = match self.random.random_range(0..4) {
            0 => {
                let _ = all.delete(&name, &DeleteParams::default()).await;
                return;
            }
            1 => json!({"phase": "Failed", "reason": "Evicted", "conditions": [{"type": "Ready", "status": "False"}]}),
            _ => json!({"conditions": [{"type": "Ready", "status": "False"}]}),
        };
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        let _ = all
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
    }

    /// One Deployment goes with all it has, at once or after it; of another the pods stay.
    async fn delete_some(&mut self) {
        let all: Api<Deployment> = api(self.client, MAIN);
        for parameters in [
            DeleteParams::background(),
            DeleteParams::foreground(),
            DeleteParams::orphan(),
        ] {
            let Some(name) = self.asked.deployments.pop() else {
                return;
            };
            let orphans = parameters.propagation_policy == Some(kube::api::PropagationPolicy::Orphan);
            all.delete(&name, &parameters).await.expect("a deployment goes");
            if orphans {
                self.asked.orphaned.push(name);
            } else {
                self.asked.gone.push(name);
            }
        }
    }
}
