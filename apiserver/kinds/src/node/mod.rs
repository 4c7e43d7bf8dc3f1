//! Rows of node.k8s.io.

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "node.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        // runtime_class
        ..kind!(GROUP, V1, "RuntimeClass", "runtimeclasses", "runtimeclass", false)
    }]
}
