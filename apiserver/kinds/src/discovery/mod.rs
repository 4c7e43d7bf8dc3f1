//! Rows of discovery.k8s.io.

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "discovery.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        // endpoint_slice
        ..kind!(GROUP, V1, "EndpointSlice", "endpointslices", "endpointslice", true)
    }]
}
