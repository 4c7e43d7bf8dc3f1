//! Which node a pod goes to. The decision (`schedule`) is a pure function over
//! a snapshot; `driver` keeps the snapshot true and binds.
//!
//! **Invariant:** this crate knows the API server only as an HTTP API.

mod affinity;
mod call;
mod devices;
mod driver;
mod explain;
mod filter;
mod hints;
mod inspect;
mod kin;
mod memo;
mod metrics;
#[cfg(test)]
mod oracle;
mod plugin;
mod pod;
mod preempt;
mod profile;
mod queue;
mod report;
mod resources;
mod round;
mod rules;
mod schedule;
mod score;
mod selector;
mod snapshot;
mod tolerations;
mod watches;
mod wire;

pub use driver::run;
pub use explain::{Explanation, NodeVerdict, PluginScore, Verdict, explain};
pub use filter::Candidate;
pub use inspect::{InspectError, Inspection, inspect};
pub use plugin::{Plugin, Refusal};
pub use preempt::{Budget, NoPreemption, Preemption, Victim, preempt};
pub use profile::{ConfigError, Profile, Settings};
pub use schedule::{Placement, Unschedulable, schedule};
pub use snapshot::{ClaimState, ClassState, PodInfo, PodKey, Snapshot, Storage, VolumeState};

use skiff_metrics::Families;
use std::sync::Arc;

/// How the scheduler runs.
#[derive(Clone, Default)]
pub struct Config {
    pub settings: Settings,
    /// Where it counts what it does.
    pub families: Arc<Families>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("asking the API server failed")]
    Api(#[from] kube::Error),
}
