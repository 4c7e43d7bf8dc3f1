//! Rows of the core group.

pub(crate) mod claim;
mod config;
pub(crate) mod event;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
pub(crate) mod pod;
mod quota;
pub(crate) mod resources;
pub(crate) mod service;
mod small;
pub(crate) mod source;

use crate::contract::Kind;
use crate::row::{CONNECT, CREATE, GET_PATCH_UPDATE, NO_COLLECTION, PROXY, SCALE, kind, status, sub};

pub(crate) const GROUP: &str = "";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            verbs: CREATE,
            columns: small::binding::COLUMNS,
            strategy: &small::binding::STRATEGY,
            ..kind!(GROUP, V1, "Binding", "bindings", "binding", true)
        },
        Kind {
            short_names: &["cs"],
            verbs: &["get", "list"],
            columns: small::component_status::COLUMNS,
            strategy: &small::component_status::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "ComponentStatus",
                "componentstatuses",
                "componentstatus",
                false
            )
        },
        Kind {
            short_names: &["cm"],
            columns: config::config_map::COLUMNS,
            strategy: &config::config_map::STRATEGY,
            ..kind!(GROUP, V1, "ConfigMap", "configmaps", "configmap", true)
        },
        Kind {
            short_names: &["ep"],
            columns: small::endpoints::COLUMNS,
            strategy: &small::endpoints::STRATEGY,
            ..kind!(GROUP, V1, "Endpoints", "endpoints", "endpoints", true)
        },
        Kind {
            short_names: &["ev"],
            columns: event::COLUMNS,
            strategy: &event::STRATEGY,
            ..kind!(GROUP, V1, "Event", "events", "event", true)
        },
        Kind {
            short_names: &["limits"],
            columns: quota::limit_range::COLUMNS,
            strategy: &quota::limit_range::STRATEGY,
            ..kind!(GROUP, V1, "LimitRange", "limitranges", "limitrange", true)
        },
        Kind {
            short_names: &["ns"],
            verbs: NO_COLLECTION,
            subresources: const {
                &[
                    sub("finalize", "", "v1", "Namespace", &["update"]),
                    status(GROUP, "v1", "Namespace"),
                ]
            },
            columns: namespace::COLUMNS,
            strategy: &namespace::STRATEGY,
            ..kind!(GROUP, V1, "Namespace", "namespaces", "namespace", false)
        },
        Kind {
            short_names: &["no"],
            subresources: const {
                &[
                    sub("proxy", "", "v1", "NodeProxyOptions", PROXY),
                    status(GROUP, "v1", "Node"),
                ]
            },
            columns: node::COLUMNS,
            strategy: &node::STRATEGY,
            ..kind!(GROUP, V1, "Node", "nodes", "node", false)
        },
        Kind {
            short_names: &["pv"],
            subresources: const { &[status(GROUP, "v1", "PersistentVolume")] },
            columns: persistent_volume::COLUMNS,
            strategy: &persistent_volume::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "PersistentVolume",
                "persistentvolumes",
                "persistentvolume",
                false
            )
        },
        Kind {
            short_names: &["pvc"],
            subresources: const { &[status(GROUP, "v1", "PersistentVolumeClaim")] },
            columns: persistent_volume_claim::COLUMNS,
            strategy: &persistent_volume_claim::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "PersistentVolumeClaim",
                "persistentvolumeclaims",
                "persistentvolumeclaim",
                true
            )
        },
        Kind {
            short_names: &["po"],
            categories: &["all"],
            subresources: const {
                &[
                    sub("attach", "", "v1", "PodAttachOptions", CONNECT),
                    sub("binding", "", "v1", "Binding", CREATE),
                    sub("ephemeralcontainers", "", "v1", "Pod", GET_PATCH_UPDATE),
                    sub("eviction", "policy", "v1", "Eviction", CREATE),
                    sub("exec", "", "v1", "PodExecOptions", CONNECT),
                    sub("log", "", "v1", "Pod", &["get"]),
                    sub("portforward", "", "v1", "PodPortForwardOptions", CONNECT),
                    sub("proxy", "", "v1", "PodProxyOptions", PROXY),
                    sub("resize", "", "v1", "Pod", GET_PATCH_UPDATE),
                    status(GROUP, "v1", "Pod"),
                ]
            },
            columns: pod::COLUMNS,
            strategy: &pod::STRATEGY,
            ..kind!(GROUP, V1, "Pod", "pods", "pod", true)
        },
        Kind {
            columns: small::pod_template::COLUMNS,
            strategy: &small::pod_template::STRATEGY,
            ..kind!(GROUP, V1, "PodTemplate", "podtemplates", "podtemplate", true)
        },
        Kind {
            short_names: &["rc"],
            categories: &["all"],
            subresources: const { &[SCALE, status(GROUP, "v1", "ReplicationController")] },
            columns: small::replication_controller::COLUMNS,
            strategy: &small::replication_controller::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "ReplicationController",
                "replicationcontrollers",
                "replicationcontroller",
                true
            )
        },
        Kind {
            short_names: &["quota"],
            subresources: const { &[status(GROUP, "v1", "ResourceQuota")] },
            columns: quota::resource_quota::COLUMNS,
            strategy: &quota::resource_quota::STRATEGY,
            ..kind!(GROUP, V1, "ResourceQuota", "resourcequotas", "resourcequota", true)
        },
        Kind {
            columns: config::secret::COLUMNS,
            strategy: &config::secret::STRATEGY,
            ..kind!(GROUP, V1, "Secret", "secrets", "secret", true)
        },
        Kind {
            short_names: &["svc"],
            categories: &["all"],
            subresources: const {
                &[
                    sub("proxy", "", "v1", "ServiceProxyOptions", PROXY),
                    status(GROUP, "v1", "Service"),
                ]
            },
            columns: service::COLUMNS,
            strategy: &service::STRATEGY,
            ..kind!(GROUP, V1, "Service", "services", "service", true)
        },
        Kind {
            short_names: &["sa"],
            subresources: const { &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE)] },
            columns: small::service_account::COLUMNS,
            strategy: &small::service_account::STRATEGY,
            ..kind!(GROUP, V1, "ServiceAccount", "serviceaccounts", "serviceaccount", true)
        },
    ]
}
