//! The one handler of all requests.
//!
//! ```text
//! parts, body -> path -> who (authenticate, impersonate) -> may they (authorise)
//!             -> documents | generic verbs | special subresources | proxy -> response
//! ```
//!
//! Every failure leaves as a `Status`; a panic in a request is caught here and
//! ends that request only.

mod apply;
mod create;
mod deadline;
mod delete;
mod deletion;
mod identity;
mod list;
mod patch;
mod read;
mod route;
mod served;
mod tracking;
mod update;
mod watch;
pub(crate) mod websocket;
mod write;

pub(crate) use apply::applier;
pub(crate) use create::CreateArgs;
pub(crate) use deletion::DeleteOptions;
pub(crate) use identity::{Peer, ServerCall};
pub(crate) use route::Target;
pub(crate) use tracking::{FieldWriter, manager_of};
pub(crate) use update::UpdateArgs;
pub(crate) use write::Change;
