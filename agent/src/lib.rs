//! The node agent: runs this node's pods through its own containerd.
//!
//! ```text
//!            API (kube client, system:node:NAME)
//!      watches |            ^ status, lease, events
//!              v            |
//!   disk <-- cache --> pod::supervisor --> pod::worker (one per pod) --> runtime (CRI)
//!              |                               ^
//!              \--> ClusterView --> network    \-- runtime::events (exits), probe
//! ```
//! It reads only its own copy of the API's objects, so it works on without the API.

mod cache;
mod config;
mod devices;
mod endpoint;
mod error;
mod eviction;
mod image;
mod leaving;
mod leftovers;
mod manifest;
mod node;
mod plugins;
mod pod;
mod probe;
mod recorder;
mod reset;
mod resize;
mod rotate;
mod runtime;
mod start;
mod stats;
mod users;
mod volume;

pub use config::{Config, NodeCredentials};
pub use error::Error;
pub use eviction::Settings as EvictionSettings;
pub use eviction::threshold::HARD as EVICTION_HARD;
pub use image::{Settings as ImageSettings, collect::Thresholds as ImageThresholds};
pub use leaving::plan::Grace as ShutdownGrace;
pub use pod::admission::check_sysctl_pattern;
pub use reset::stop_everything;
pub use start::run;
