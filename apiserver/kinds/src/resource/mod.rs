//! Rows of resource.k8s.io.

mod allocation;
mod claim;
mod device;
mod names;
mod request;
mod selector;
mod slice;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "resource.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: claim::AGED,
            strategy: &claim::CLASS,
            ..kind!(GROUP, V1, "DeviceClass", "deviceclasses", "deviceclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "ResourceClaim")] },
            columns: claim::CLAIM_COLUMNS,
            strategy: &claim::CLAIM,
            ..kind!(GROUP, V1, "ResourceClaim", "resourceclaims", "resourceclaim", true)
        },
        Kind {
            columns: claim::AGED,
            strategy: &claim::TEMPLATE,
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
            columns: slice::COLUMNS,
            strategy: &slice::STRATEGY,
            ..kind!(GROUP, V1, "ResourceSlice", "resourceslices", "resourceslice", false)
        },
    ]
}
