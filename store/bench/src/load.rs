//! The load generator: so many clients, each with one request under way, for so long.

use crate::link::Bare;
use crate::servers::{Cost, Server};
use anyhow::Result;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients that share a connection, at most: as etcd's own benchmark with a hundred.
const CONNECTIONS_MAX: usize = 50;

/// What came of one run.
#[derive(Debug, Default)]
pub struct Outcome {
    took: Vec<Duration>,
    spent: Duration,
    cost: Cost,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.took.len() as f64 / self.spent.as_secs_f64().max(1e-9)
    }

    pub fn percentile_ms(&mut self, percent: usize) -> f64 {
        self.took.sort_unstable();
        let at = (self.took.len() * percent / 100).min(self.took.len().saturating_sub(1));
        self.took.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e3)
    }

    pub fn cpu_s_per_million(&self) -> f64 {
        self.cost.cpu_s * 1e6 / self.took.len().max(1) as f64
    }

    pub fn syncs_per_operation(&self) -> f64 {
        self.cost.syncs / self.took.len().max(1) as f64
    }

    /// Adds what another run came to.
    pub fn and(mut self, other: Outcome) -> Outcome {
        self.took.extend(other.took);
        self.spent += other.spent;
        self.cost.cpu_s += other.cost.cpu_s;
        self.cost.syncs += other.cost.syncs;
        self
    }
}

/// A small generator of numbers, for keys: speed and repetition matter, secrecy does not.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Runs `clients`, each repeating `operation(link, client's number, turn)`.
pub async fn run<F, Fut>(server: &Server, clients: usize, time: Duration, operation: F) -> Result<Outcome>
where
    F: Fn(Bare, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), tonic::Status>> + Send,
{
    let links = server.bare_links(clients.min(CONNECTIONS_MAX)).await?;
    let operation = Arc::new(operation);
    // Connections and code paths are warm before anything counts.
    let warm = time / 5;
    let begun = Instant::now() + warm;
    let end = begun + time;
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (link, operation) = (links[client % links.len()].clone(), operation.clone());
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(4096);
                for turn in 0.. {
                    let at = Instant::now();
                    if at >= end {
                        break;
                    }
                    operation(link.clone(), client, turn).await?;
                    if at >= begun {
                        took.push(at.elapsed());
                    }
                }
                Ok::<_, tonic::Status>(took)
            })
        })
        .collect();
    tokio::time::sleep(warm).await;
    let before = server.cost().await?;
    let mut outcome = Outcome::default();
    for task in tasks {
        outcome.took.extend(task.await??);
    }
    outcome.spent = begun.elapsed();
    let after = server.cost().await?;
    outcome.cost.cpu_s = after.cpu_s - before.cpu_s;
    outcome.cost.syncs = after.syncs - before.syncs;
    Ok(outcome)
}
