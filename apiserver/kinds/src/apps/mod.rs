//! Rows of apps.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use crate::contract::Kind;
use crate::row::{SCALE, kind, status};

pub(crate) const GROUP: &str = "apps";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: controller_revision::COLUMNS,
            strategy: &controller_revision::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "ControllerRevision",
                "controllerrevisions",
                "controllerrevision",
                true
            )
        },
        Kind {
            short_names: &["ds"],
            categories: &["all"],
            subresources: const { &[status(GROUP, "v1", "DaemonSet")] },
            columns: daemon_set::COLUMNS,
            strategy: &daemon_set::STRATEGY,
            ..kind!(GROUP, V1, "DaemonSet", "daemonsets", "daemonset", true)
        },
        Kind {
            short_names: &["deploy"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "Deployment")] },
            columns: deployment::COLUMNS,
            strategy: &deployment::STRATEGY,
            ..kind!(GROUP, V1, "Deployment", "deployments", "deployment", true)
        },
        Kind {
            short_names: &["rs"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "ReplicaSet")] },
            columns: replica_set::COLUMNS,
            strategy: &replica_set::STRATEGY,
            ..kind!(GROUP, V1, "ReplicaSet", "replicasets", "replicaset", true)
        },
        Kind {
            short_names: &["sts"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "StatefulSet")] },
            columns: stateful_set::COLUMNS,
            strategy: &stateful_set::STRATEGY,
            ..kind!(GROUP, V1, "StatefulSet", "statefulsets", "statefulset", true)
        },
    ]
}
