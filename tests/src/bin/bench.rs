//! `bench [--only start,pods,api,idle] [--network N]`, or
//! `bench api [--only lists,writes,watchers,definitions] [--network N]`, or
//! `bench node [--only idle,life,wire] [--network N]`, or
//! `bench scheduler [--only WORKLOAD,...] [--nodes N,...] [--network N]`: prints the project's figures.

use anyhow::{Context, Result, bail};
use skiff_tests::bench::{Part, node, run, scale, scheduler};
use skiff_tests::{Network, Programs};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str =
    "usage: bench [api | node | scheduler] [--only PART,...] [--network N]; of the scheduler also [--nodes N,...]";

/// The segment of test hosts that nothing else uses.
const NETWORK: u8 = 199;
/// Twice what a slow machine needs.
const TIME_MAX: Duration = Duration::from_secs(480);
/// Of the scheduler's, which start a server for each workload.
const SCHEDULER_TIME_MAX: Duration = Duration::from_secs(1_800);

#[tokio::main]
async fn main() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut only = None;
    let mut network = NETWORK;
    let mut arguments = std::env::args().skip(1).peekable();
    let what = arguments.next_if(|first| first == "api" || first == "node");
    let of_scheduler = arguments.next_if(|first| first == "scheduler").is_some();
    let mut nodes = None;
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            println!("{USAGE}");
            return Ok(());
        }
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--only" => only = Some(value),
            "--nodes" if of_scheduler => nodes = Some(value),
            "--network" => network = value.parse().context("--network is a number up to 255")?,
            _ => bail!("{USAGE}"),
        }
    }
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let network = Network { id: network };
    let mut terminated = signal(SignalKind::terminate())?;
    let time_max = if of_scheduler { SCHEDULER_TIME_MAX } else { TIME_MAX };
    let measured = async {
        if of_scheduler {
            let selection = scheduler::Selection::parse(only.as_deref(), nodes.as_deref())?;
            return scheduler::run(&selection, programs, network).await;
        }
        if what.as_deref() == Some("node") {
            let all = || node::Part::ALL.into_iter().collect();
            let parts: BTreeSet<node::Part> = only.as_deref().map_or_else(|| Ok(all()), node::Part::parse_list)?;
            return node::run(&parts, programs, network).await;
        }
        if what.is_some() {
            let all = || scale::Part::ALL.into_iter().collect();
            let parts: BTreeSet<scale::Part> = only.as_deref().map_or_else(|| Ok(all()), scale::Part::parse_list)?;
            return scale::run(&parts, programs, network).await;
        }
        let all = || Part::ALL.into_iter().collect();
        let parts: BTreeSet<Part> = only.as_deref().map_or_else(|| Ok(all()), Part::parse_list)?;
        run(&parts, programs, network).await
    };
    // Whatever ends it, the cluster is dropped, which removes it.
    tokio::select! {
        outcome = measured => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
        () = tokio::time::sleep(time_max) => bail!("not done after {time_max:?}"),
    }
}
