//! Rows of coordination.k8s.io.

mod lease;

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "coordination.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        columns: lease::COLUMNS,
        strategy: &lease::STRATEGY,
        ..kind!(GROUP, V1, "Lease", "leases", "lease", true)
    }]
}
