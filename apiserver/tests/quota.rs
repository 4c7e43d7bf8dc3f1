//! Resource quotas: usage is booked in the transaction that uses it.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Caller, config_map, fixture};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn used(admin: &Caller, name: &str) -> Value {
    admin.get(&format!("{QUOTAS}/{name}")).await.1["status"]["used"].clone()
}

fn quota(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}]}})
}

async fn default_account(admin: &Caller) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", account).await;
}

#[tokio::test]
async fn usage_follows_the_life_of_objects() {
    let f = fixture().await;
    let admin = f.admin();
    default_account(&admin).await;
    admin
        .post("/api/v1/namespaces/default/configmaps", config_map("before", json!({})))
        .await;
    let spec = json!({"hard": {"pods": "2", "requests.cpu": "1", "memory": "1Gi", "configmaps": "5",
        "services": "2", "services.nodeports": "1", "count/replicasets.apps": "1"}});
    let (code, made) = admin.post(QUOTAS, quota("q", spec)).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"]["hard"]["memory"], "1Gi");
    assert_eq!(
        used(&admin, "q").await,
        json!({"pods": "0", "requests.cpu": "0", "memory": "0", "configmaps": "1",
            "services": "1", "services.nodeports": "0", "count/replicasets.apps": "0"})
    );

    assert_eq!(admin.post(PODS, pod("a", "600m")).await.0, 201);
    let (code, refused) = admin.post(PODS, pod("b", "500m")).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, refused) = admin.post(PODS, bare).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "pods \"bare\" is forbidden: failed quota: q: must specify memory for: c; requests.cpu for: c"
    );
    assert_eq!(
        admin.post(&format!("{PODS}?dryRun=All"), pod("dry", "100m")).await.0,
        201
    );
    let now = used(&admin, "q").await;
    assert_eq!(
        (&now["pods"], &now["requests.cpu"], &now["memory"]),
        (&json!("1"), &json!("600m"), &json!("64Mi"))
    );

    // A finished pod uses nothing more, a deleted one neither.
    let done = json!({"status": {"phase": "Succeeded"}});
    admin.patch("merge-patch+json", &format!("{PODS}/a/status"), done).await;
    assert_eq!(used(&admin, "q").await["pods"], "0");
    assert_eq!(admin.post(PODS, pod("b", "1")).await.0, 201);
    assert_eq!(
        admin
            .delete(&format!("{PODS}/b?gracePeriodSeconds=0"), json!({}))
            .await
            .0,
        200
    );
    assert_eq!(used(&admin, "q").await["requests.cpu"], "0");

    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, kind: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    // The second: the cluster's own Service lives here too.
    assert_eq!(admin.post(services, service("s", "NodePort")).await.0, 201);
    assert_eq!(admin.post(services, service("t", "ClusterIP")).await.0, 403);
    assert_eq!(used(&admin, "q").await["services.nodeports"], "1");
    admin.delete(&format!("{services}/s"), json!({})).await;
    assert_eq!(used(&admin, "q").await["services.nodeports"], "0");
}

#[tokio::test]
async fn scopes_and_changed_limits() {
    let f = fixture().await;
    let admin = f.admin();
    default_account(&admin).await;
    admin
        .post(
            QUOTAS,
            quota("best", json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]})),
        )
        .await;
    admin
        .post(
            QUOTAS,
            quota("burst", json!({"hard": {"pods": "1"}, "scopes": ["NotBestEffort"]})),
        )
        .await;
    assert_eq!(admin.post(PODS, pod("a", "1")).await.0, 201);
    assert_eq!(used(&admin, "best").await["pods"], "0");
    assert_eq!(used(&admin, "burst").await["pods"], "1");
    assert_eq!(admin.post(PODS, pod("b", "1")).await.0, 403);
    let more = json!({"spec": {"hard": {"pods": "2", "requests.cpu": "3"}}});
    let (code, changed) = admin.patch("merge-patch+json", &format!("{QUOTAS}/burst"), more).await;
    assert_eq!(code, 200, "{changed}");
    assert_eq!(changed["status"]["used"], json!({"pods": "1", "requests.cpu": "1"}));
    assert_eq!(admin.post(PODS, pod("b", "1")).await.0, 201);
}

#[tokio::test]
async fn two_writers_cannot_both_take_the_last() {
    let f = fixture().await;
    let admin = f.admin();
    admin
        .post(QUOTAS, quota("q", json!({"hard": {"count/secrets": "10"}})))
        .await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let admin = admin.clone();
        tasks.spawn(async move {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{i}")}});
            admin.post("/api/v1/namespaces/default/secrets", secret).await.0
        });
    }
    let codes = tasks.join_all().await;
    assert_eq!(codes.iter().filter(|c| **c == 201).count(), 10, "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == 403).count(), 10, "{codes:?}");
    assert_eq!(used(&admin, "q").await["count/secrets"], "10");
}

#[tokio::test]
async fn a_status_written_over_is_made_true_again() {
    let f = fixture().await;
    let admin = f.admin();
    admin.post(QUOTAS, quota("q", json!({"hard": {"pods": "3"}}))).await;
    let wrong = json!({"status": {"hard": {"pods": "7"}}});
    let (code, patched) = admin
        .patch("merge-patch+json", &format!("{QUOTAS}/q/status"), wrong)
        .await;
    assert_eq!((code, &patched["status"]["hard"]["pods"]), (200, &json!("7")));
    let mut watch = admin
        .watch(
            &format!("{QUOTAS}?watch=true&fieldSelector=metadata.name%3Dq"),
            "application/json",
        )
        .await;
    loop {
        let event = watch.next().await.expect("the watch goes on");
        if event["object"]["status"]["hard"]["pods"] == "3" {
            break;
        }
    }
}

/// A quota on quotas counts itself from the start, and others as they come and go.
#[tokio::test]
async fn a_quota_counts_itself() {
    let f = fixture().await;
    let admin = f.admin();
    let spec = json!({"hard": {"resourcequotas": "2", "count/resourcequotas": "2"}});
    assert_eq!(admin.post(QUOTAS, quota("own", spec)).await.0, 201);
    let both = |count: &str| json!({"resourcequotas": count, "count/resourcequotas": count});
    assert_eq!(used(&admin, "own").await, both("1"));
    let other = |name: &str| quota(name, json!({"hard": {"pods": "1"}}));
    assert_eq!(admin.post(QUOTAS, other("second")).await.0, 201);
    assert_eq!(used(&admin, "own").await, both("2"));
    let (code, refused) = admin.post(QUOTAS, other("third")).await;
    assert_eq!(code, 403, "{refused}");
    assert_eq!(admin.delete(&format!("{QUOTAS}/second"), json!({})).await.0, 200);
    assert_eq!(used(&admin, "own").await, both("1"));
}
