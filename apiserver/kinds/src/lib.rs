//! The table of kinds: names, versions, subresources, columns, and each kind's
//! defaults and validation. Pure.

pub mod contract;

pub use contract::*;
