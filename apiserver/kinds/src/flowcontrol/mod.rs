//! Rows of flowcontrol.apiserver.k8s.io.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            subresources: const { &[status(GROUP, "v1", "FlowSchema")] },
            // flow_schema
            ..kind!(GROUP, V1, "FlowSchema", "flowschemas", "flowschema", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "PriorityLevelConfiguration")] },
            // priority_level_configuration
            ..kind!(
                GROUP,
                V1,
                "PriorityLevelConfiguration",
                "prioritylevelconfigurations",
                "prioritylevelconfiguration",
                false
            )
        },
    ]
}
