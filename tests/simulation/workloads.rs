//! What is asked of the cluster: some of every kind of workload, with Services, budgets and quotas.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ReplicationController, ResourceQuota, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Plan;
use crate::kubelet::api;

pub const MAIN: &str = "sim";
/// Everything of this one goes while it is busy.
pub const DOOMED: &str = "sim-doomed";

#[derive(Clone, Default)]
pub struct Asked {
    pub deployments: Vec<String>,
    /// Deployments' ReplicaSets that outlive them.
    pub orphaned: Vec<String>,
    /// Everything of these is to be gone.
    pub gone: Vec<String>,
    pub stateful_sets: Vec<String>,
    pub daemon_sets: Vec<String>,
    pub replica_sets: Vec<String>,
    pub controllers: Vec<String>,
    /// With how they end.
    pub jobs: Vec<(String, &'static str)>,
    pub nodes: usize,
}

/// A pod of this application that leaves a lost node at once; `more` goes into its metadata and spec.
pub fn template(app: &str, version: usize, restart: &str) -> Value {
    let leaves = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 1})
    };
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "restartPolicy": restart, "terminationGracePeriodSeconds": 1,
            "tolerations": [leaves("not-ready"), leaves("unreachable")],
            "containers": [{"name": "c", "image": format!("image:{version}"),
                "resources": {"requests": {"cpu": "10m"}}}],
        },
    })
}

async fn make<K>(client: &Client, namespace: &str, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).expect("an object");
    let made = api::<K>(client, namespace)
        .create(&PostParams::default(), &object)
        .await;
    made.unwrap_or_else(|error| panic!("{:?}: {error}", object.meta().name));
}

fn set(name: &str, replicas: usize, more: Value) -> Value {
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": template(name, 0, "Always")});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

pub async fn create(client: &Client, plan: &Plan) -> Asked {
    for name in [MAIN, DOOMED] {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let all: kube::Api<Namespace> = kube::Api::all(client.clone());
        all.create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
        let hard = json!({"pods": "100000", "requests.cpu": "10k", "count/jobs.batch": "1000", "services": "1000",
            "count/replicasets.apps": "1000"});
        make::<ResourceQuota>(
            client,
            name,
            json!({"metadata": {"name": "all"}, "spec": {"hard": hard}}),
        )
        .await;
    }
    let mut asked = Asked {
        nodes: plan.nodes,
        ..Asked::default()
    };
    for round in 0..plan.size {
        deployments(client, round, &mut asked).await;
        sets(client, round, &mut asked).await;
        jobs(client, round, &mut asked).await;
    }
    make::<Deployment>(client, DOOMED, set("busy", 10 * plan.size, json!({}))).await;
    make::<StatefulSet>(client, DOOMED, set("busy-set", 3, json!({"serviceName": "x"}))).await;
    let spec = json!({"parallelism": 5, "completions": 100, "template": template("busy-job", 0, "Never")});
    make::<Job>(client, DOOMED, json!({"metadata": {"name": "busy-job"}, "spec": spec})).await;
    asked
}

async fn deployments(client: &Client, round: usize, asked: &mut Asked) {
    let strategies = [
        json!({}),
        json!({"strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 0}}}),
        json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "30%"}}}),
        json!({"strategy": {"type": "Recreate"}, "revisionHistoryLimit": 1}),
        json!({"strategy": {"rollingUpdate": {"maxSurge": "100%"}}}),
        json!({}),
        json!({}),
    ];
    for (number, strategy) in strategies.into_iter().enumerate() {
        let name = format!("web-{round}-{number}");
        make::<Deployment>(client, MAIN, set(&name, 6 + 3 * number, strategy)).await;
        let ports = json!([{"port": 80, "targetPort": 8080}]);
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}});
        make::<Service>(client, MAIN, service).await;
        let budget = json!({"metadata": {"name": name},
            "spec": {"maxUnavailable": "20%", "selector": {"matchLabels": {"app": name}}}});
        make::<PodDisruptionBudget>(client, MAIN, budget).await;
        asked.deployments.push(name);
    }
}

async fn sets(client: &Client, round: usize, asked: &mut Asked) {
    let more = [
        json!({"serviceName": "db"}),
        json!({"serviceName": "db", "podManagementPolicy": "Parallel", "ordinals": {"start": 5}}),
        json!({"serviceName": "db", "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}}),
    ];
    for (number, more) in more.into_iter().enumerate() {
        let name = format!("db-{round}-{number}");
        make::<StatefulSet>(client, MAIN, set(&name, 5, more)).await;
        asked.stateful_sets.push(name);
    }
    for (number, rolling) in [
        json!({"maxUnavailable": 2}),
        json!({"maxSurge": 2, "maxUnavailable": 0}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("agent-{round}-{number}");
        let mut object = set(&name, 0, json!({"updateStrategy": {"rollingUpdate": rolling}}));
        object["spec"].as_object_mut().unwrap().remove("replicas");
        make::<DaemonSet>(client, MAIN, object).await;
        asked.daemon_sets.push(name);
    }
    let name = format!("rs-{round}");
    make::<ReplicaSet>(client, MAIN, set(&name, 10, json!({}))).await;
    asked.replica_sets.push(name);
    let name = format!("rc-{round}");
    let controller = json!({"metadata": {"name": name}, "spec": {"replicas": 8, "selector": {"app": name},
        "template": template(&name, 0, "Always")}});
    make::<ReplicationController>(client, MAIN, controller).await;
    asked.controllers.push(name);
}

async fn jobs(client: &Client, round: usize, asked: &mut Asked) {
    let jobs = [
        ("plain", 30, 6, json!({"backoffLimit": 100}), None, "Complete"),
        (
            "indexed",
            24,
            6,
            json!({"completionMode": "Indexed", "backoffLimit": 100}),
            None,
            "Complete",
        ),
        ("hopeless", 4, 2, json!({"backoffLimit": 0}), Some("100"), "Failed"),
        (
            "some-lost",
            6,
            6,
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "maxFailedIndexes": 6}),
            Some("100"),
            "Failed",
        ),
        (
            "enough",
            8,
            8,
            json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededCount": 3}]}}),
            None,
            "Complete",
        ),
        (
            "refused",
            3,
            3,
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob",
                "onExitCodes": {"operator": "In", "values": [1]}}]}}),
            Some("100"),
            "Failed",
        ),
    ];
    for (name, completions, parallelism, more, fails, end) in jobs {
        let name = format!("{name}-{round}");
        let mut template = template(&name, 0, "Never");
        template["metadata"]["labels"]["sim/parallelism"] = json!(format!("{parallelism}"));
        if let Some(fails) = fails {
            template["metadata"]["annotations"] = json!({"sim/fails": fails});
        }
        let mut spec = json!({"completions": completions, "parallelism": parallelism, "template": template});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        make::<Job>(client, MAIN, json!({"metadata": {"name": name}, "spec": spec})).await;
        asked.jobs.push((name, end));
    }
}
