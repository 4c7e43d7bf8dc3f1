//! `skiff reset`: stops this machine's pods and takes away all that Skiff put
//! here. It carries on over failures and tells them all.

use crate::cli::ResetArgs;
use crate::paths;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

/// A running server or agent is given this long to stop.
const STOP_MAX: Duration = Duration::from_secs(15);

pub async fn run(args: ResetArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not running as root: run it with sudo");
    }
    if !args.yes && !confirmed(&args.data_dir)? {
        bail!("nothing was changed");
    }
    let mut failures = Vec::new();
    if let Err(error) = stop_process(&args.data_dir.join(paths::PID)).await {
        failures.push(format!("{error:#}"));
    }
    let agent_dir = args.data_dir.join(paths::AGENT);
    if agent_dir.exists()
        && let Err(errors) = skiff_agent::stop_everything(&agent_dir).await
    {
        failures.extend(errors.iter().map(|error| chain(error)));
    }
    if !args.keep_data
        && args.data_dir.exists()
        && let Err(error) = std::fs::remove_dir_all(&args.data_dir)
    {
        failures.push(format!("cannot remove {}: {error}", args.data_dir.display()));
    }
    if failures.is_empty() {
        println!("Skiff is gone from this machine.");
        return Ok(());
    }
    bail!("not everything could be removed: {}", failures.join("; "))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

fn confirmed(data_dir: &Path) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "this stops all pods and removes {}; give --yes to do it",
            data_dir.display()
        );
    }
    eprint!("Stop all pods and remove {}? [y/N] ", data_dir.display());
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn stop_process(pid_file: &Path) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(pid_file) else {
        return Ok(());
    };
    let Ok(number) = text.trim().parse::<i32>() else {
        return Ok(());
    };
    if !is_skiff(number) {
        return Ok(());
    }
    let pid = Pid::from_raw(number);
    kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop process {number}"))?;
    let deadline = Instant::now() + STOP_MAX;
    while is_skiff(number) {
        if Instant::now() >= deadline {
            kill(pid, Signal::SIGKILL).with_context(|| format!("cannot kill process {number}"))?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The number may have been given to another program since.
fn is_skiff(pid: i32) -> bool {
    let ended = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    !ended && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "skiff")
}
