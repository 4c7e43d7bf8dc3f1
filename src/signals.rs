//! Orderly ends: SIGTERM and SIGINT ask for one; a second one does not wait. SIGPWR, and a
//! SIGTERM while the machine goes down, mean the machine: its pods end too.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// systemd answers at once, also while it stops everything.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Cancels one of the tokens at the first signal, exits at the second.
pub fn watch(shutdown: CancellationToken, leaving: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR)).context("cannot listen for SIGPWR")?;
    tokio::spawn(async move {
        let goes_down = tokio::select! {
            _ = terminate.recv() => machine_goes_down().await,
            _ = interrupt.recv() => false,
            _ = power.recv() => true,
        };
        if goes_down {
            tracing::info!("the machine goes down");
            leaving.cancel();
        } else {
            tracing::info!("stopping; containers go on running");
            shutdown.cancel();
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("stopping at once");
        std::process::exit(1);
    });
    Ok(())
}

/// Whether systemd stops the machine, and not only this program.
async fn machine_goes_down() -> bool {
    let mut command = tokio::process::Command::new("systemctl");
    command.arg("is-system-running").kill_on_drop(true);
    let answer = tokio::time::timeout(ANSWER_MAX, command.output()).await;
    matches!(answer, Ok(Ok(output)) if output.stdout.trim_ascii() == b"stopping")
}
