//! Rows of node.k8s.io.

mod runtime_class;

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "node.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        columns: runtime_class::COLUMNS,
        strategy: &runtime_class::STRATEGY,
        ..kind!(GROUP, V1, "RuntimeClass", "runtimeclasses", "runtimeclass", false)
    }]
}
