//! Pods: pure parts (`plan`, `status`, `environment`, `resources`, `sandbox`, `backoff`,
//! `spec`, `observed`) and the shell that runs them (`worker`, `start`, `image`, `api`).

pub mod admission;
pub mod anew;
pub mod api;
pub mod backoff;
pub mod cgroup;
pub mod environment;
pub mod image;
pub mod last_words;
pub mod links;
pub mod node;
pub mod observed;
pub mod plan;
pub mod preemption;
pub mod resources;
pub mod sandbox;
pub mod spec;
pub mod start;
pub mod status;
pub mod supervisor;
pub mod worker;
