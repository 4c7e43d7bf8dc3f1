//! The node beside a server carries the label by which `kubectl get nodes` shows its role.
//! A node may not give itself a role, so the server does.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// A node registers itself within the first second.
const RETRY: Duration = Duration::from_millis(200);

/// Tries until the node is there and has its label.
pub async fn label(client: kube::Client, node: String, shutdown: CancellationToken) {
    let nodes: Api<Node> = Api::all(client);
    let patch = Patch::Merge(json!({"metadata": {"labels": {CONTROL_PLANE: "true"}}}));
    while let Err(error) = nodes.patch_metadata(&node, &PatchParams::default(), &patch).await {
        tracing::debug!(%error, node, "the node's role is not told yet; trying again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
