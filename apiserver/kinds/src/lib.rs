//! The table of kinds: names, versions, subresources, columns, and each kind's
//! defaults and validation. Pure: no I/O, no clock, no randomness; time is an
//! argument and nothing is looked up.
//!
//! ```text
//! kinds() ── one row per served resource ──> discovery, tables, routing
//!   └─ row.strategy (Rules) ──> default → prepare → validate → row cells
//! ```
//!
//! A folder per API group holds that group's rows with the strategies beside them.

pub mod contract;
pub mod convert;
pub mod custom;
pub mod meta;
pub mod rules;

mod admissionregistration;
mod age;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod certificates;
mod check;
mod conditions;
mod coordination;
mod core;
mod discovery;
mod events;
mod flowcontrol;
mod intern;
mod names;
mod networking;
mod node;
mod policy;
mod quantity;
mod rbac;
mod resource;
mod row;
mod scheduling;
mod selector;
mod storage;
mod tree;
mod workload;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub use age::age;
pub use contract::*;
pub use convert::{ConvertError, convert, storage_api_version};
pub use flowcontrol::bootstrap as flow;
pub use intern::{intern, intern_subresources, intern_texts};
pub use rules::{NameRule, PLAIN, Rules};

struct Table {
    rows: Vec<Kind>,
    by_plural: BTreeMap<(&'static str, &'static str), usize>,
    by_kind: BTreeMap<(&'static str, &'static str), usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rows: Vec<Kind> = [
        core::rows(),
        apiregistration::rows(),
        apps::rows(),
        events::rows(),
        authentication::rows(),
        authorization::rows(),
        autoscaling::rows(),
        batch::rows(),
        certificates::rows(),
        networking::rows(),
        policy::rows(),
        rbac::rows(),
        storage::rows(),
        admissionregistration::rows(),
        apiextensions::rows(),
        scheduling::rows(),
        coordination::rows(),
        node::rows(),
        discovery::rows(),
        resource::rows(),
        flowcontrol::rows(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let by_plural = rows.iter().enumerate().map(|(i, k)| ((k.group, k.plural), i)).collect();
    let by_kind = rows.iter().enumerate().map(|(i, k)| ((k.group, k.kind), i)).collect();
    Table {
        rows,
        by_plural,
        by_kind,
    }
});

/// Every built-in resource, groups in discovery order (core first).
pub fn kinds() -> &'static [Kind] {
    &TABLE.rows
}

/// The row of `pods`, `deployments`, ... in `group` (empty: core).
pub fn find(group: &str, plural: &str) -> Option<&'static Kind> {
    TABLE.by_plural.get(&(group, plural)).map(|&i| &TABLE.rows[i])
}

/// The row of `Pod`, `Deployment`, ... in `group` (empty: core).
pub fn find_kind(group: &str, kind: &str) -> Option<&'static Kind> {
    TABLE.by_kind.get(&(group, kind)).map(|&i| &TABLE.rows[i])
}

#[cfg(test)]
mod table_test;
