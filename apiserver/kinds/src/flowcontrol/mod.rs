//! Rows of flowcontrol.apiserver.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            subresources: const { &[status(GROUP, "v1", "FlowSchema")] },
            columns: strategy::flow_schema::COLUMNS,
            strategy: &strategy::flow_schema::STRATEGY,
            ..kind!(GROUP, V1, "FlowSchema", "flowschemas", "flowschema", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "PriorityLevelConfiguration")] },
            columns: strategy::priority_level_configuration::COLUMNS,
            strategy: &strategy::priority_level_configuration::STRATEGY,
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
