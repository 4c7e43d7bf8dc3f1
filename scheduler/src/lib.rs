//! Which node a pod goes to. The decision (`schedule`) is a pure function over
//! a snapshot; `driver` keeps the snapshot true and binds.
//!
//! **Invariant:** this crate knows the API server only as an HTTP API.

mod driver;
mod explain;
mod filter;
mod plugin;
mod preempt;
mod profile;
mod queue;
mod report;
mod resources;
mod schedule;
mod score;
mod selector;
mod snapshot;

pub use driver::run;
pub use explain::{Explanation, NodeVerdict, PluginScore, Verdict, explain};
pub use filter::Candidate;
pub use plugin::{Plugin, Refusal};
pub use preempt::{Budget, NoPreemption, Preemption, Victim, preempt};
pub use profile::{ConfigError, Profile, Settings};
pub use schedule::{Placement, Unschedulable, schedule};
pub use snapshot::{PodInfo, Snapshot};

#[derive(Debug, Clone)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are scheduled.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_string(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("asking the API server failed")]
    Api(#[from] kube::Error),
}
