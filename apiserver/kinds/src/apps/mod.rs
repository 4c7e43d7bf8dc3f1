//! Rows of apps.

use crate::contract::Kind;
use crate::row::{SCALE, kind, status};

pub(crate) const GROUP: &str = "apps";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            // controller_revision
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
            // daemon_set
            ..kind!(GROUP, V1, "DaemonSet", "daemonsets", "daemonset", true)
        },
        Kind {
            short_names: &["deploy"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "Deployment")] },
            // deployment
            ..kind!(GROUP, V1, "Deployment", "deployments", "deployment", true)
        },
        Kind {
            short_names: &["rs"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "ReplicaSet")] },
            // replica_set
            ..kind!(GROUP, V1, "ReplicaSet", "replicasets", "replicaset", true)
        },
        Kind {
            short_names: &["sts"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "StatefulSet")] },
            // stateful_set
            ..kind!(GROUP, V1, "StatefulSet", "statefulsets", "statefulset", true)
        },
    ]
}
