//! Rows of scheduling.k8s.io.

mod priority_class;

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "scheduling.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["pc"],
        columns: priority_class::COLUMNS,
        strategy: &priority_class::STRATEGY,
        ..kind!(GROUP, V1, "PriorityClass", "priorityclasses", "priorityclass", false)
    }]
}
