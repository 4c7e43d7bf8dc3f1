//! The scheduler against the real API handler and an in-memory store: no node runs, nodes
//! are objects. What pods are told, and what becomes of them.

use http::{Method, Request};
use serde_json::{Value, json};
use skiff_access::pki::{Pki, PkiOptions};
use skiff_access::{Access, AccessConfig, UserInfo};
use skiff_apiserver::ApiServer;
use skiff_scheduler::Settings;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    admin: kube::Client,
    server: Arc<ApiServer>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    let mut groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    groups.push("system:authenticated".into());
    groups.sort();
    UserInfo {
        name: name.into(),
        groups,
        ..UserInfo::default()
    }
}

impl Cluster {
    /// One node `a` with two cores, in the zone `east`.
    async fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let dir = tempfile::tempdir().expect("a directory");
        let options = PkiOptions {
            dir: dir.path().join("pki"),
            cluster_domain: "cluster.local".into(),
            ..PkiOptions::default()
        };
        let pki = Pki::open(&options, jiff::Timestamp::now()).expect("certificates");
        let issuer = "https://kubernetes.default.svc.cluster.local".to_string();
        let access = Access::new(AccessConfig {
            service_account_keys: vec![pki.service_account_key().expect("a key")],
            issuer: issuer.clone(),
            api_audiences: vec![issuer],
            client_ca_pem: pki.ca.certificate_pem().to_string(),
            front_proxy_ca_pem: pki.front_proxy_ca.certificate_pem().to_string(),
        })
        .expect("authentication");
        let store = Arc::new(skiff_store::MemoryStore::new());
        let server = ApiServer::new(skiff_apiserver::Config::default(), store, access).await;
        let server = server.expect("a server");
        let admin = kube::Client::new(server.in_process(user("admin", &["system:masters"])), "default");
        let this = Self {
            admin,
            server,
            shutdown: CancellationToken::new(),
            _dir: dir,
        };
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        this.create("/api/v1/namespaces/default/serviceaccounts", account).await;
        for (name, value, policy) in [
            ("low", 1, "PreemptLowerPriority"),
            ("high", 1000, "PreemptLowerPriority"),
            ("polite", 1000, "Never"),
        ] {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "preemptionPolicy": policy});
            this.create("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        }
        this.node("a", "east").await;
        this.schedule();
        this
    }

    fn schedule(&self) {
        let client = kube::Client::new(self.server.in_process(user("system:kube-scheduler", &[])), "default");
        let document = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "profiles": [{}, {"schedulerName": "mine"}]});
        let config = skiff_scheduler::Config {
            settings: Settings::parse(&document).expect("settings"),
            ..skiff_scheduler::Config::default()
        };
        tokio::spawn(skiff_scheduler::run(config, client, self.shutdown.clone()));
    }

    async fn node(&self, name: &str, zone: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"zone": zone, "kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}});
        self.create("/api/v1/nodes", node).await;
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(serde_json::to_vec(body).expect("JSON"))
            .expect("a request");
        self.admin.request(request).await
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        let created = self.call(Method::POST, path, "application/json", &body).await;
        created.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn merge(&self, path: &str, body: Value) -> Value {
        let merged = self
            .call(Method::PATCH, path, "application/merge-patch+json", &body)
            .await;
        merged.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn delete(&self, name: &str) {
        let now = json!({"gracePeriodSeconds": 0});
        let deleted = self.call(Method::DELETE, &path(name), "application/json", &now).await;
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// A pod that tolerates whatever a node without an agent is tainted with.
    async fn pod(&self, name: &str, cpu: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}],
        }});
        change(&mut pod);
        self.create("/api/v1/namespaces/default/pods", pod).await;
    }

    async fn get(&self, name: &str) -> Option<Value> {
        let found = self
            .call(Method::GET, &path(name), "application/json", &Value::Null)
            .await;
        found.ok()
    }

    /// Waits until the pod is as wanted.
    async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let pod = self.get(name).await.unwrap_or(Value::Null);
            if wanted(&pod) {
                return pod;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is not {what}: {pod:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn bound(&self, name: &str) -> Value {
        let pod = self
            .until(name, "bound", |pod| pod["spec"]["nodeName"].is_string())
            .await;
        let condition = scheduled(&pod);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &Value::Null)
        );
        assert_eq!(pod["status"]["nominatedNodeName"], Value::Null);
        pod
    }

    async fn refused(&self, name: &str, message: &str) -> Value {
        let says = |pod: &Value| scheduled(pod)["message"] == message;
        let pod = self.until(name, &format!("refused with {message:?}"), says).await;
        let condition = scheduled(&pod);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("Unschedulable"))
        );
        assert_eq!(condition["observedGeneration"], pod["metadata"]["generation"]);
        pod
    }

    /// Waits for an event about the pod.
    async fn event(&self, name: &str, reason: &str) -> Value {
        let begun = Instant::now();
        loop {
            let path = "/apis/events.k8s.io/v1/namespaces/default/events";
            let list = self.call(Method::GET, path, "application/json", &Value::Null).await;
            let list = list.expect("events");
            let found = list["items"].as_array().and_then(|items| {
                items
                    .iter()
                    .find(|event| event["regarding"]["name"] == name && event["reason"] == reason)
            });
            if let Some(event) = found {
                return event.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "no {reason} of {name}: {list:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

fn scheduled(pod: &Value) -> &Value {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice);
    let found = conditions
        .unwrap_or_default()
        .iter()
        .find(|c| c["type"] == "PodScheduled");
    found.unwrap_or(&Value::Null)
}

const FULL: &str = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_nodes_or_are_told_why_not() {
    let cluster = Cluster::start().await;
    cluster.pod("fits", "1", |_| {}).await;
    assert_eq!(cluster.bound("fits").await["spec"]["nodeName"], "a");
    let event = cluster.event("fits", "Scheduled").await;
    assert_eq!(event["note"], "Successfully assigned default/fits to a");
    assert_eq!(
        (&event["type"], &event["action"]),
        (&json!("Normal"), &json!("Binding"))
    );

    cluster.pod("large", "1500m", |_| {}).await;
    cluster.refused("large", FULL).await;
    let event = cluster.event("large", "FailedScheduling").await;
    assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!(FULL)));
    // What it lacked comes.
    cluster.node("b", "west").await;
    assert_eq!(cluster.bound("large").await["spec"]["nodeName"], "b");

    // A pod that goes makes room.
    cluster.pod("waits", "1500m", |_| {}).await;
    cluster
        .until("waits", "refused", |pod| scheduled(pod)["status"] == "False")
        .await;
    cluster.delete("large").await;
    assert_eq!(cluster.bound("waits").await["spec"]["nodeName"], "b");

    // Not ours; a profile of ours; and one that is held back.
    cluster
        .pod("others", "100m", |pod| pod["spec"]["schedulerName"] = json!("other"))
        .await;
    cluster
        .pod("mine", "100m", |pod| pod["spec"]["schedulerName"] = json!("mine"))
        .await;
    cluster
        .pod("gated", "100m", |pod| {
            pod["spec"]["schedulingGates"] = json!([{"name": "example.com/a"}])
        })
        .await;
    cluster.bound("mine").await;
    assert_eq!(cluster.event("mine", "Scheduled").await["reportingController"], "mine");
    for (name, condition) in [("others", Value::Null), ("gated", json!("SchedulingGated"))] {
        let pod = cluster.get(name).await.expect("the pod");
        assert_eq!(
            (&pod["spec"]["nodeName"], &scheduled(&pod)["reason"]),
            (&Value::Null, &condition)
        );
    }
    cluster
        .merge(&path("gated"), json!({"spec": {"schedulingGates": []}}))
        .await;
    cluster.bound("gated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_cluster_wakes_whom_it_may_help() {
    let cluster = Cluster::start().await;
    let selecting = |change: &'static str, value: &'static str| {
        move |pod: &mut Value| pod["spec"]["nodeSelector"] = json!({change: value})
    };
    let near = |selector: Value| {
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}, "namespaceSelector": selector}]}})
    };
    cluster.pod("labelled", "100m", selecting("disk", "ssd")).await;
    cluster
        .pod("near", "100m", |pod| pod["spec"]["affinity"] = near(Value::Null))
        .await;
    let everywhere = json!({"matchLabels": {"team": "data"}});
    cluster
        .pod("near-others", "100m", |pod| pod["spec"]["affinity"] = near(everywhere))
        .await;
    for name in ["labelled", "near", "near-others"] {
        cluster
            .until(name, "refused", |pod| scheduled(pod)["status"] == "False")
            .await;
    }
    cluster
        .merge("/api/v1/nodes/a", json!({"metadata": {"labels": {"disk": "ssd"}}}))
        .await;
    cluster.bound("labelled").await;
    cluster
        .pod("db", "100m", |pod| pod["metadata"]["labels"] = json!({"app": "db"}))
        .await;
    cluster.bound("near").await;
    cluster
        .merge(
            "/api/v1/namespaces/default",
            json!({"metadata": {"labels": {"team": "data"}}}),
        )
        .await;
    cluster.bound("near-others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_lower_priority_make_room() {
    let cluster = Cluster::start().await;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guard"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}});
    cluster
        .create("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget)
        .await;
    let class = |class: &'static str, app: &'static str| {
        move |pod: &mut Value| {
            pod["spec"]["priorityClassName"] = json!(class);
            pod["metadata"]["labels"] = json!({"app": app});
        }
    };
    cluster.pod("guarded", "900m", class("low", "guarded")).await;
    cluster
        .pod("plain", "900m", |pod| {
            class("low", "plain")(pod);
            // Its end takes time, which here nobody shortens.
            pod["spec"]["terminationGracePeriodSeconds"] = json!(3600);
        })
        .await;
    cluster.bound("guarded").await;
    cluster.bound("plain").await;

    cluster.pod("polite", "1", class("polite", "x")).await;
    let never = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.";
    cluster.refused("polite", never).await;
    cluster.delete("polite").await;

    cluster.pod("high", "1", class("high", "x")).await;
    let nominated = |pod: &Value| pod["status"]["nominatedNodeName"] == "a";
    cluster.until("high", "nominated", nominated).await;
    let ends = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    let victim = cluster.until("plain", "being deleted", ends).await;
    let conditions = victim["status"]["conditions"].as_array().expect("conditions");
    let target = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .expect("why it goes");
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("PreemptionByScheduler"))
    );
    assert_eq!(
        target["message"],
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
    let high = cluster.get("high").await.expect("the pod");
    let uid = high["metadata"]["uid"].as_str().expect("a uid");
    let event = cluster.event("plain", "Preempted").await;
    assert_eq!(event["note"], format!("Preempted by pod {uid} on node a"));
    assert_eq!(event["related"]["name"], "high");
    // The room is kept: an equal that fits where the victim was does not get it.
    cluster.delete("plain").await;
    cluster.bound("high").await;
    let guarded = cluster.get("guarded").await.expect("it is spared");
    assert_eq!(guarded["metadata"]["deletionTimestamp"], Value::Null);
}
