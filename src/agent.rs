//! `skiff agent`: a node of its own. It joins with a token once, and from then
//! on uses the certificate that it was given.

use crate::cli::AgentArgs;
use crate::files::{self, PidFile};
use crate::{check, join, node, paths, signals};
use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

pub async fn run(args: AgentArgs) -> Result<()> {
    let data_dir = &args.common.data_dir;
    let obstacles = check::obstacles(&check::Plan {
        data_dir: data_dir.clone(),
        containerd: Some(args.node.containerd.clone()),
        ports: Vec::new(),
        node: true,
        thorough: false,
    });
    if !obstacles.is_empty() {
        bail!("{} (`skiff check` looks at everything)", obstacles.join("; "));
    }
    files::private_directory(data_dir)?;
    let tls_dir = data_dir.join(paths::AGENT_TLS);
    files::private_directory(&tls_dir)?;
    let config = node::config(&args.node, &args.cluster, data_dir)?;
    let shutdown = CancellationToken::new();
    let leaving = CancellationToken::new();
    signals::watch(shutdown.clone(), leaving.clone())?;
    let _pid = PidFile::write(&data_dir.join(paths::PID))?;

    let token = join::token(args.token.as_deref(), args.token_file.as_deref())?;
    let joined = join::open(
        &tls_dir,
        args.server.as_deref(),
        token.as_deref(),
        &config.node_name,
        config.node_ip,
    )
    .await?;
    tracing::info!(node = config.node_name, server = joined.server, "joined");
    let following = join::follow_servers(tls_dir, joined.servers, joined.client.clone(), shutdown.clone());
    tokio::spawn(following);
    skiff_agent::run(config, joined.client, joined.credentials, (shutdown, leaving))
        .await
        .context("the node agent failed")
}
