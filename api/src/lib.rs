//! Shared API machinery: the value tree, type descriptors, codecs, patches,
//! selectors, quantities and the `Status` error. No I/O, no clock, no tokio.

pub mod apply;
pub mod codec;
pub mod duration;
pub mod intstr;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;

/// The value tree: what every object is inside the server.
pub use serde_json::Value;
pub use status::{ApiError, FieldError, FieldErrorKind};
