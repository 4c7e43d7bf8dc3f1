//! Rows of apiextensions.k8s.io.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "apiextensions.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: const { &[status(GROUP, "v1", "CustomResourceDefinition")] },
        // custom_resource_definition
        ..kind!(
            GROUP,
            V1,
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "customresourcedefinition",
            false
        )
    }]
}
