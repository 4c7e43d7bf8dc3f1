//! The node's own HTTPS endpoint (port 10250): logs, exec, attach, port-forward,
//! metrics. The API server dials it. It decides nothing about pods; what it
//! needs to know of them it asks through [`Runtime`].
//!
//! SPDY clients are passed through to the container runtime's streaming server;
//! WebSocket clients are translated, because that server cannot end stdin over
//! WebSocket.

mod access;
mod dial;
mod dialect;
mod error;
mod forward;
mod late;
mod logs;
mod remote;
mod route;
mod runtime;
mod server;
mod spdy;
mod system_logs;
mod tunnel;

pub use error::EndpointError;
pub use runtime::{Caller, Container, MetricsPage, Runtime, Streams};
pub use server::serve;
