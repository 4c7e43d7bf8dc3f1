//! `make bench-scheduler`: how fast pods get their nodes, through the real API server and
//! the durable store, on simulated nodes. Workloads are those that upstream measures its
//! scheduler with; each has a server of its own, so that none inherits another's objects.
//!
//! ```text
//! per size and workload: server --> nodes --> pods that are there before --> pods that are measured
//! ```

mod cluster;
mod pods;
mod seen;
mod workload;

use super::machine;
use super::sample::{Sample, count, duration};
use super::table::{Row, Table};
use crate::{Network, Programs};
use anyhow::{Context, Result, bail, ensure};
use cluster::Simulated;
use std::collections::BTreeSet;
use std::time::Duration;
use workload::{Plan, Workload};

/// As upstream's figures: a small cluster, and the largest that is supported.
const SIZES: [usize; 2] = [500, 5_000];

/// Which workloads on how many nodes.
#[derive(Debug, Clone)]
pub struct Selection {
    pub workloads: BTreeSet<Workload>,
    pub sizes: Vec<usize>,
}

impl Selection {
    /// From names such as `basic,daemon-set`, and sizes such as `500,5000`; all where nothing is said.
    pub fn parse(workloads: Option<&str>, sizes: Option<&str>) -> Result<Self> {
        let named = |text: &str| text.split(',').map(|word| Workload::parse(word.trim())).collect();
        let numbers = |text: &str| -> Result<Vec<usize>> {
            text.split(',')
                .map(|word| match word.trim().parse() {
                    Ok(size) if size >= 4 => Ok(size),
                    _ => bail!("--nodes: {word:?} is no number of nodes (at least 4)"),
                })
                .collect()
        };
        Ok(Self {
            workloads: workloads.map_or_else(|| Ok(Workload::ALL.into_iter().collect()), named)?,
            sizes: sizes.map_or_else(|| Ok(SIZES.to_vec()), numbers)?,
        })
    }
}

/// Prints the table even when a workload fails, and then fails.
pub async fn run(selection: &Selection, programs: Programs, network: Network) -> Result<()> {
    let note = "; server and clients share the cores";
    let measured = async |table: &mut Table| measure(selection, &programs, network, table).await;
    machine::table(&std::env::temp_dir(), note, Vec::new(), measured).await
}

async fn measure(selection: &Selection, programs: &Programs, network: Network, table: &mut Table) -> Result<()> {
    for nodes in &selection.sizes {
        for workload in &selection.workloads {
            one(*workload, *nodes, programs, network, table)
                .await
                .with_context(|| format!("{} on {nodes} nodes", workload.name()))?;
        }
    }
    Ok(())
}

async fn one(workload: Workload, nodes: usize, programs: &Programs, network: Network, table: &mut Table) -> Result<()> {
    let plan = workload.plan(nodes);
    let simulated = Simulated::start(programs, network, nodes, plan.zones).await?;
    let outcome = on(&simulated, workload, nodes, &plan, table).await;
    outcome.map_err(|error| error.context(simulated.cluster.logs()))
}

async fn on(simulated: &Simulated, workload: Workload, nodes: usize, plan: &Plan, table: &mut Table) -> Result<()> {
    let told = |what: &str| format!("{nodes} nodes, {}: {what}", workload.name());
    pods::prepare(simulated).await?;
    for batch in &plan.before {
        pods::create_before(simulated, batch).await?;
    }
    let before = simulated.process.usage()?;
    let churn = plan.churn.then(|| pods::churn(simulated));
    let measured = match &plan.deployment {
        Some(replicas) => pods::deployment(simulated, *replicas).await,
        None => pods::measure(simulated, &plan.measured).await,
    };
    if let Some(churn) = churn {
        churn.abort();
    }
    let measured = measured?;
    let after = simulated.process.usage()?;
    ensure!(measured.bound > 0, "nothing was measured");
    let per_s = measured.bound as f64 / measured.took.as_secs_f64();
    let cpu = Duration::from_millis(after.cpu_ms - before.cpu_ms) / u32::try_from(measured.bound)?;
    let waits = Sample::new(measured.waits);
    let mut row = Row::new(
        told(&format!(
            "{} pods, create to bound p50 / p99, server CPU a pod",
            measured.bound
        )),
        format!("{}/s, {}, {}", count(per_s), waits.told(), duration(cpu)),
    );
    if let Some(aim) = workload.aim(nodes) {
        row = row.aim(format!("> {}/s", count(aim)), per_s > aim);
    }
    if let Some(upstream) = workload.upstream(nodes) {
        row = row.upstream(upstream);
    }
    // Told at once too: the whole takes minutes.
    eprintln!("{}: {}/s, {}, {}", told(""), count(per_s), waits.told(), duration(cpu));
    table.push(row);
    if workload == Workload::Basic {
        table.push(Row::new(
            format!("{nodes} nodes: server RSS per node; then more per bound pod"),
            format!(
                "{:.1} KiB; {:.1} KiB",
                simulated.rss_of_nodes as f64 / nodes as f64 / 1024.0,
                after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / measured.bound as f64 / 1024.0
            ),
        ));
    }
    if let Some((decision, attempts)) = simulated.decision_time().await? {
        table.push(Row::new(
            told(&format!("pure decision time, mean of {attempts}")),
            duration(decision),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_and_sizes_are_chosen() {
        let two = Selection::parse(Some("churn, basic"), Some("500")).expect("a selection");
        assert_eq!(
            two.workloads.into_iter().collect::<Vec<_>>(),
            [Workload::Basic, Workload::Churn]
        );
        assert_eq!(two.sizes, [500]);
        assert_eq!(
            Selection::parse(None, None).expect("all").workloads.len(),
            Workload::ALL.len()
        );
        assert!(Selection::parse(Some("fast"), None).is_err());
        assert!(Selection::parse(None, Some("0")).is_err());
    }
}
