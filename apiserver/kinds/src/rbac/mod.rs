//! Rows of rbac.authorization.k8s.io.

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            // cluster_role
            ..kind!(GROUP, V1, "ClusterRole", "clusterroles", "clusterrole", false)
        },
        Kind {
            // cluster_role_binding
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
            // role
            ..kind!(GROUP, V1, "Role", "roles", "role", true)
        },
        Kind {
            // role_binding
            ..kind!(GROUP, V1, "RoleBinding", "rolebindings", "rolebinding", true)
        },
    ]
}
