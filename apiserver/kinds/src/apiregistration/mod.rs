//! Rows of apiregistration.k8s.io.

mod api_service;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        categories: &["api-extensions"],
        subresources: const { &[status(GROUP, "v1", "APIService")] },
        columns: api_service::COLUMNS,
        strategy: &api_service::STRATEGY,
        ..kind!(GROUP, V1, "APIService", "apiservices", "apiservice", false)
    }]
}
