//! In-place resize: a running pod is given other CPU and memory (KEP-1287).
//!
//! ```text
//! spec (wanted) --ledger: is there room?--> allocation --plan--> pod cgroup, containers
//!                      \--no--> PodResizePending           (PodResizeInProgress meanwhile)
//! ```
//!
//! Everything but `act` and `file` is pure. What a pod was granted outlives the agent:
//! each container carries the resources that it was started with as an annotation, and
//! what was changed since is in a file beside the pod's volumes.

pub mod act;
pub mod allocation;
pub mod file;
pub mod ledger;
pub mod message;
pub mod plan;
pub mod state;

pub use allocation::Allocation;
pub use ledger::{Ledger, Verdict};
pub use state::State;
