//! `bench [--only start,pods,api,idle] [--network N]`: prints the project's figures.

use anyhow::{Context, Result, bail};
use skiff_tests::bench::{Part, run};
use skiff_tests::{Network, Programs};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The segment of test hosts that nothing else uses.
const NETWORK: u8 = 199;
/// Twice what a slow machine needs.
const TIME_MAX: Duration = Duration::from_secs(480);

#[tokio::main]
async fn main() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut parts: BTreeSet<Part> = Part::ALL.into_iter().collect();
    let mut network = NETWORK;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--only" => parts = Part::parse_list(&value)?,
            "--network" => network = value.parse().context("--network is a number up to 255")?,
            _ => bail!("usage: bench [--only start,pods,api,idle] [--network N]"),
        }
    }
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut terminated = signal(SignalKind::terminate())?;
    // Whatever ends it, the cluster is dropped, which removes it.
    tokio::select! {
        outcome = run(&parts, programs, Network { id: network }) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
        () = tokio::time::sleep(TIME_MAX) => bail!("not done after {TIME_MAX:?}"),
    }
}
