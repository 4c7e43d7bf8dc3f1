//! Rows of rbac.authorization.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: strategy::cluster_role::COLUMNS,
            strategy: &strategy::cluster_role::STRATEGY,
            ..kind!(GROUP, V1, "ClusterRole", "clusterroles", "clusterrole", false)
        },
        Kind {
            columns: strategy::cluster_role_binding::COLUMNS,
            strategy: &strategy::cluster_role_binding::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "ClusterRoleBinding",
                "clusterrolebindings",
                "clusterrolebinding",
                false
            )
        },
        Kind {
            columns: strategy::role::COLUMNS,
            strategy: &strategy::role::STRATEGY,
            ..kind!(GROUP, V1, "Role", "roles", "role", true)
        },
        Kind {
            columns: strategy::role_binding::COLUMNS,
            strategy: &strategy::role_binding::STRATEGY,
            ..kind!(GROUP, V1, "RoleBinding", "rolebindings", "rolebinding", true)
        },
    ]
}
