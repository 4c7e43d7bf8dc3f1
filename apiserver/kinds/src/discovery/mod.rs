//! Rows of discovery.k8s.io.

mod endpoint_slice;

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "discovery.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        columns: endpoint_slice::COLUMNS,
        strategy: &endpoint_slice::STRATEGY,
        ..kind!(GROUP, V1, "EndpointSlice", "endpointslices", "endpointslice", true)
    }]
}
