//! `skiff status`: how the cluster is; with `--wait`, waits for ready nodes.

use crate::cli::StatusArgs;
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use std::time::{Duration, Instant};

/// Between two looks while waiting; short, since starting takes under a second.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A server that starts writes the kubeconfig and then listens: until then
/// failing to reach it is no news.
const REQUEST_MAX: Duration = Duration::from_secs(3);

pub async fn run(args: StatusArgs) -> Result<()> {
    let wait = args.wait.as_deref().map(crate::duration::parse).transpose()?;
    let deadline = Instant::now() + wait.unwrap_or_default();
    loop {
        let seen = look(&args).await;
        match &seen {
            Ok(nodes) if nodes.iter().filter(|node| node.ready).count() >= args.nodes => {
                print(nodes);
                return Ok(());
            }
            Ok(nodes) if wait.is_none() => {
                print(nodes);
                bail!(
                    "not ready: {} of {} nodes",
                    nodes.iter().filter(|node| node.ready).count(),
                    args.nodes
                );
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            let nodes = seen?;
            print(&nodes);
            bail!(
                "not ready in time: {} of {} nodes",
                nodes.iter().filter(|node| node.ready).count(),
                args.nodes
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct Seen {
    name: String,
    ready: bool,
    why: String,
    version: String,
}

async fn look(args: &StatusArgs) -> Result<Vec<Seen>> {
    let (client, _) = crate::client::from_kubeconfig(&args.access.kubeconfig()).await?;
    let nodes: Api<Node> = Api::all(client);
    let list = tokio::time::timeout(REQUEST_MAX, nodes.list(&ListParams::default())).await??;
    Ok(list.items.iter().map(seen).collect())
}

fn seen(node: &Node) -> Seen {
    let status = node.status.as_ref();
    let condition = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    Seen {
        name: node.metadata.name.clone().unwrap_or_default(),
        ready: condition.is_some_and(|condition| condition.status == "True"),
        why: condition
            .and_then(|condition| condition.message.clone())
            .unwrap_or_default(),
        version: status
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default(),
    }
}

fn print(nodes: &[Seen]) {
    for node in nodes {
        let state = if node.ready { "Ready" } else { "NotReady" };
        let why = if node.ready { "" } else { node.why.as_str() };
        println!("node {} is {state} ({}) {why}", node.name, node.version);
    }
}
