//! Server-side apply and managedFields through the real handler.

mod support;

use serde_json::{Value, json};
use support::fixture;

/// Creates and status patches a second, printed for comparison over time.
#[tokio::test]
async fn write_rates() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let pod = |n: usize| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{n}"), "labels": {"app": "web"}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "i:1", "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "1m"}}}]}})
    };
    const ROUNDS: usize = 2000;
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        )
        .await;
    let begin = std::time::Instant::now();
    for n in 0..ROUNDS {
        let (code, body) = admin.post("/api/v1/namespaces/default/pods", pod(n)).await;
        assert_eq!(code, 201, "{body}");
    }
    let create = begin.elapsed() / ROUNDS as u32;
    let begin = std::time::Instant::now();
    for n in 0..ROUNDS {
        let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": if n % 2 == 0 { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": "a", "ready": true, "restartCount": n, "image": "i:1", "imageID": "x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
        let (code, body) = admin
            .patch(
                "strategic-merge-patch+json",
                "/api/v1/namespaces/default/pods/p0/status",
                status,
            )
            .await;
        assert_eq!(code, 200, "{body}");
    }
    let patch = begin.elapsed() / ROUNDS as u32;
    println!("create {create:?}, status patch {patch:?}");
    let _: Value = json!({});
}
