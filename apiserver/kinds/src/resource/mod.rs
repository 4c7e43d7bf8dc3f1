//! Rows of resource.k8s.io.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "resource.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            // device_class
            ..kind!(GROUP, V1, "DeviceClass", "deviceclasses", "deviceclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ResourceClaim")] },
            // resource_claim
            ..kind!(GROUP, V1, "ResourceClaim", "resourceclaims", "resourceclaim", true)
        },
        Kind {
            // resource_claim_template
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
            // resource_slice
            ..kind!(GROUP, V1, "ResourceSlice", "resourceslices", "resourceslice", false)
        },
    ]
}
