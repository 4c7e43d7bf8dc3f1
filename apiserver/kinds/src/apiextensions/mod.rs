//! Rows of apiextensions.k8s.io.

mod custom_resource_definition;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "apiextensions.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: const { &[status(GROUP, "v1", "CustomResourceDefinition")] },
        columns: custom_resource_definition::COLUMNS,
        strategy: &custom_resource_definition::STRATEGY,
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
