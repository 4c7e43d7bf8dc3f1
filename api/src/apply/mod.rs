//! Server-side apply and `metadata.managedFields`: who owns which field of an
//! object, what an applied configuration makes of it, and where two owners clash.
//!
//! Pure: objects as trees in, objects as trees out; the time is an argument.
//! Deciding who a manager is, defaulting and storing are the API server's.
//! Source: <https://kubernetes.io/docs/reference/using-api/server-side-apply/> and
//! the behaviour of structured-merge-diff.

mod compare;
mod config;
mod conflict;
mod entries;
mod extract;
mod merge;
mod overlay;
mod prune;
mod server_side;
mod set;
mod shape;
mod update;

pub use compare::{Comparison, compare};
pub use entries::{APPLY, UPDATE, Writer, keep_times};
pub use extract::field_set;
pub use overlay::overlay;
pub use server_side::apply;
pub use set::FieldSet;
pub use update::track_update;

use crate::Value;
use crate::schema::Type;

/// What is to be known of the kind whose object is written.
pub struct Tracking<'a> {
    /// The type in the writer's version.
    pub ty: &'a Type,
    /// Paths of names that this writer cannot set (`status` through the object itself):
    /// such changes are nobody's.
    pub ignored: &'a [&'a [&'a str]],
    /// The kind's other versions; without it, entries of other versions are dropped.
    pub versions: Option<&'a dyn Versions>,
}

/// Conversion between the versions of a kind.
pub trait Versions {
    /// The object in another version and its type there; `None` if that is not served.
    fn in_version(&self, object: &Value, api_version: &str) -> Option<(Value, &Type)>;
}

#[cfg(test)]
mod tests;
