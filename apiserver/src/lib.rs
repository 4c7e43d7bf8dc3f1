//! The API server: HTTP, the generic handler over the table of kinds, watches,
//! discovery, the objects that the server itself keeps (`kubernetes` Service,
//! address allocation), and the way to the agents for logs, exec and the like.
//!
//! ```text
//! serve (TLS, hyper) ──┐
//!                      ├─> handler ─> registry ─> store
//! in_process (tower) ──┘      └─> proxy ─> agents
//! ```
//!
//! It decides nothing about identity (skiff-access), kinds (skiff-kinds), types
//! and codecs (skiff-api), or how data is kept (skiff-store).

mod admission;
mod aggregation;
mod body;
mod codec;
mod config;
mod custom;
mod documents;
mod events;
mod fast;
mod flow;
mod handler;
mod in_process;
mod keeping;
mod listing;
mod metrics;
mod proxy;
mod quota;
mod registry;
pub mod request;
mod resource_metrics;
mod respond;
mod serve;
mod server;
mod services;
mod special;
mod webhook;

pub use body::ApiBody;
pub use config::{Config, OWN_PAGES, OwnPages};
pub use in_process::InProcess;
pub use server::{ApiServer, ServerError};
