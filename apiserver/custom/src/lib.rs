//! What a CustomResourceDefinition means: its schemas, and what they do to objects.
//! Pure: no I/O, no clock, no randomness.
//!
//! ```text
//! openAPIV3Schema ── check (structural? rules?) ──> accepted or refused
//!        └─ Schema ──> prune → coerce metadata → default → validate → rules
//!                 └──> Type descriptor (apply), columns, selectable fields
//! ```
//!
//! Messages are upstream's, because clients show and match them.

pub mod cel;
pub mod check;
pub mod columns;
pub mod conversion;
pub mod defaults;
pub mod definition;
pub mod format;
pub mod jsonpath;
pub mod listtype;
pub mod meta;
mod number;
pub mod path;
pub mod pattern;
pub mod prune;
pub mod schema;
pub mod types;
pub mod validate;

pub use path::Path;
pub use schema::Schema;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties_test;
