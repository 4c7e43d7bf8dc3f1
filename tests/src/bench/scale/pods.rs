//! Pods of a usual size that no scheduler touches.

use super::super::connection::{Call, Endpoint};
use super::super::table::Row;
use anyhow::{Context, Result};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const NAMESPACE: &str = "bench-pods";
/// One pod in so many carries a given `shard` label.
pub const SHARDS: usize = 100;
const CLIENTS: usize = 32;
const SERVICE_ACCOUNT_MAX: Duration = Duration::from_secs(20);

pub fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// The namespace takes pods once it has its service account.
pub async fn namespace(endpoint: &Endpoint) -> Result<()> {
    let mut connection = endpoint.connect().await?;
    super::super::api::namespace_ready(&mut connection, NAMESPACE).await?;
    let account = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default");
    let begun = Instant::now();
    while let Err(error) = connection.send(Call::get(account.clone())).await {
        if begun.elapsed() > SERVICE_ACCOUNT_MAX {
            return Err(error).context("the namespace gets no service account");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Creates the pods `from..to`.
pub async fn create(endpoint: &Endpoint, from: usize, to: usize) -> Result<()> {
    let tasks = (0..CLIENTS).map(|client| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            for at in (from..to).skip(client).step_by(CLIENTS) {
                connection
                    .send(Call::with_body(Method::POST, path(), pod(at).to_string()))
                    .await?;
            }
            anyhow::Ok(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(())
}

/// Like what a Deployment with two containers makes: 2 to 4 KB as it is stored.
fn pod(at: usize) -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/web:1.27.3", "imagePullPolicy": "IfNotPresent",
            "args": ["--config=/etc/web/config.yaml", "--log-level=info"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "MODE", "value": "production"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{at:06}"),
            "labels": {"app": "web", "shard": (at % SHARDS).to_string(), "pod-template-hash": "5d4f8c7b9"},
            "annotations": {"example.com/checksum": format!("{at:064}")},
        },
        "spec": {
            "schedulerName": "none",
            "containers": [container("web"), json!({"name": "sidecar", "image": "registry.example.com/team/proxy:2.1"})],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}],
        },
    })
}

/// What `what` was after this many pods.
pub fn row(pods: usize, what: &str, value: impl Into<String>) -> Row {
    Row::new(format!("{}k pods: {what}", pods / 1000), value)
}
