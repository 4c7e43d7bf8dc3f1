//! Where things lie below the data directory.

/// The administrator's kubeconfig.
pub const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// Certificates and keys of the cluster, on servers.
pub const SERVER_TLS: &str = "server/tls";
/// The key that Secrets are encrypted with in the store.
pub const STORE_KEY: &str = "server/tls/store-encryption.key";
/// The authority and certificates of etcd's API.
pub const ETCD_TLS: &str = "server/tls/etcd";
/// The store, on servers.
pub const SERVER_STORE: &str = "server/store";
/// Certificates and keys of a joined node.
pub const AGENT_TLS: &str = "agent/tls";
/// Everything of the node.
pub const AGENT: &str = "agent";
/// Archives that the node loads at start.
pub const IMAGES: &str = "images";
/// Where snapshots are kept, the key that seals the cluster's keys in them, and the mark of
/// a restore that is under way.
pub const SNAPSHOTS: &str = "server/snapshots";
pub const SNAPSHOT_KEY: &str = "server/snapshot.key";
pub const RESTORING: &str = "server/restoring";
/// Where the running server is asked for a snapshot.
pub const CONTROL: &str = "server/control.sock";
/// Process id of the running server or agent.
pub const PID: &str = "skiff.pid";
/// Who this server is among those that it joined.
pub const SERVER_IDENTITY: &str = "server/identity.json";
