//! Rows of resource.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "resource.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: strategy::device_class::COLUMNS,
            strategy: &strategy::device_class::STRATEGY,
            ..kind!(GROUP, V1, "DeviceClass", "deviceclasses", "deviceclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ResourceClaim")] },
            columns: strategy::resource_claim::COLUMNS,
            strategy: &strategy::resource_claim::STRATEGY,
            ..kind!(GROUP, V1, "ResourceClaim", "resourceclaims", "resourceclaim", true)
        },
        Kind {
            columns: strategy::resource_claim_template::COLUMNS,
            strategy: &strategy::resource_claim_template::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "ResourceClaimTemplate",
                "resourceclaimtemplates",
                "resourceclaimtemplate",
                true
            )
        },
        Kind {
            columns: strategy::resource_slice::COLUMNS,
            strategy: &strategy::resource_slice::STRATEGY,
            ..kind!(GROUP, V1, "ResourceSlice", "resourceslices", "resourceslice", false)
        },
    ]
}
