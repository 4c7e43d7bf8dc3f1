//! The command line: what can be asked of the `skiff` program. Every flag of
//! `server` and `agent` can also be given as `SKIFF_<FLAG>` in the environment
//! or as a key of the configuration file; see `config.rs` for which one wins.

use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(name = "skiff", version = crate::VERSION, about = "A Kubernetes-compatible container cluster in one binary")]
#[command(args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the control plane and, unless --disable-agent is given, a node; list or remove servers
    Server(Box<ServerArgs>),
    /// Run a node that joins a server
    Agent(Box<AgentArgs>),
    /// Create, list or delete the tokens that nodes join with
    Token(TokenArgs),
    /// Save, list, check, delete or restore snapshots of the cluster
    Snapshot(crate::snapshot::SnapshotArgs),
    /// Wait until the cluster's nodes are ready, and say how it is
    Status(StatusArgs),
    /// Ask why the scheduler places a pod where it does, or nowhere
    Scheduler(SchedulerArgs),
    /// Look whether this machine can run Skiff, and say how to mend what cannot
    Check(CheckArgs),
    /// Stop this machine's pods and remove all that Skiff put here
    Reset(ResetArgs),
    /// Print the version
    Version,
}

impl Command {
    /// Name of the subcommand as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::Agent(_) => "agent",
            Self::Token(_) => "token",
            Self::Snapshot(_) => "snapshot",
            Self::Status(_) => "status",
            Self::Scheduler(_) => "scheduler",
            Self::Check(_) => "check",
            Self::Reset(_) => "reset",
            Self::Version => "version",
        }
    }
}

/// Where things are and how much is said; shared by all that run.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file; its keys are the flags' names
    #[arg(
        long,
        env = "SKIFF_CONFIG",
        default_value = "/etc/skiff/config.yaml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Directory of everything that Skiff keeps
    #[arg(long, env = "SKIFF_DATA_DIR", default_value = "/var/lib/skiff", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Least severe messages to log: error, warn, info, debug, trace, or a filter such as skiff_agent=debug
    #[arg(long, env = "SKIFF_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// How log lines look: text or json
    #[arg(long, env = "SKIFF_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// What a node needs to know, whether in a server or alone.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Name of this node [default: the host name in lower case]
    #[arg(long, env = "SKIFF_NODE_NAME")]
    pub node_name: Option<String>,
    /// Address of this node [default: that of the default route's interface]
    #[arg(long, env = "SKIFF_NODE_IP")]
    pub node_ip: Option<IpAddr>,
    /// Labels of this node, key=value, separated by commas
    #[arg(
        long,
        alias = "node-label",
        env = "SKIFF_NODE_LABELS",
        value_delimiter = ',',
        value_name = "KEY=VALUE"
    )]
    pub node_labels: Vec<String>,
    /// Taints of this node, key=value:effect, separated by commas
    #[arg(
        long,
        aliases = ["node-taint", "register-with-taints"],
        env = "SKIFF_NODE_TAINTS",
        value_delimiter = ',',
        value_name = "KEY=VALUE:EFFECT"
    )]
    pub node_taints: Vec<String>,
    /// Port of the node's own endpoint (logs, exec, attach, port-forward)
    #[arg(long, env = "SKIFF_KUBELET_PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// A container's log is rotated from this size on
    #[arg(
        long,
        env = "SKIFF_CONTAINER_LOG_MAX_SIZE",
        default_value = "10Mi",
        value_name = "QUANTITY"
    )]
    pub container_log_max_size: String,
    /// Logs kept of one container, the present one included
    #[arg(long, env = "SKIFF_CONTAINER_LOG_MAX_FILES", default_value_t = 5, value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub container_log_max_files: u32,
    /// containerd's executable
    #[arg(long, env = "SKIFF_CONTAINERD", default_value = "containerd", value_name = "FILE")]
    pub containerd: PathBuf,
    /// The CNI plugin's executable [default: skiff-cni beside this program]
    #[arg(long, env = "SKIFF_CNI_PLUGIN", value_name = "FILE")]
    pub cni_plugin: Option<PathBuf>,
    /// Image that holds a pod's namespaces
    #[arg(long, env = "SKIFF_PAUSE_IMAGE", default_value = concat!("skiff.local/pause:", env!("CARGO_PKG_VERSION")))]
    pub pause_image: String,
    /// Mirrors, private CAs and logins of registries; followed while the node runs
    #[arg(
        long,
        env = "SKIFF_PRIVATE_REGISTRY",
        default_value = "/etc/skiff/registries.yaml",
        value_name = "FILE"
    )]
    pub private_registry: PathBuf,
    /// From this percentage of the disk on, images that nobody uses are removed
    #[arg(long, env = "SKIFF_IMAGE_GC_HIGH_THRESHOLD", default_value_t = 85, value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_threshold: u8,
    /// Until the disk is down to this percentage
    #[arg(long, env = "SKIFF_IMAGE_GC_LOW_THRESHOLD", default_value_t = 80, value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_threshold: u8,
    /// An image stays at least so long, such as 2m
    #[arg(long, env = "SKIFF_MINIMUM_IMAGE_TTL_DURATION", default_value = "2m", value_parser = crate::duration::parse,
        value_name = "DURATION")]
    pub minimum_image_ttl_duration: Duration,
    /// An image that nobody has used for so long is removed [default: none is]
    #[arg(long, env = "SKIFF_MAXIMUM_IMAGE_TTL_DURATION", value_parser = crate::duration::parse, value_name = "DURATION")]
    pub maximum_image_ttl_duration: Option<Duration>,
    /// Images that are pulled at the same time
    #[arg(long, env = "SKIFF_MAX_PARALLEL_IMAGE_PULLS", default_value_t = 10, value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel_image_pulls: u16,
    /// Sysctls that pods may set although they are not safe, names or patterns ending in *, separated by commas
    #[arg(
        long,
        env = "SKIFF_ALLOWED_UNSAFE_SYSCTLS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Folder of pods that this node runs of itself, a manifest a file [default: <data-dir>/agent/manifests]
    #[arg(long, env = "SKIFF_POD_MANIFEST_PATH", value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    #[command(flatten)]
    pub resources: crate::resources::ResourceArgs,
    /// How pods of two nodes reach each other: auto, vxlan or direct
    #[arg(long, env = "SKIFF_NETWORK_BACKEND", default_value = "auto", value_parser = ["auto", "vxlan", "direct"])]
    pub network_backend: String,
    /// Where the resolvers for names outside the cluster stand
    #[arg(
        long,
        env = "SKIFF_RESOLV_CONF",
        default_value = "/etc/resolv.conf",
        value_name = "FILE"
    )]
    pub resolv_conf: PathBuf,
}

/// Addresses that all nodes and servers of a cluster agree on.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Addresses of pods
    #[arg(
        long,
        env = "SKIFF_CLUSTER_CIDR",
        default_value = "10.42.0.0/16",
        value_name = "CIDR"
    )]
    pub cluster_cidr: String,
    /// Addresses of services
    #[arg(
        long,
        env = "SKIFF_SERVICE_CIDR",
        default_value = "10.43.0.0/16",
        value_name = "CIDR"
    )]
    pub service_cidr: String,
    /// Address of the cluster's DNS; inside the service addresses
    #[arg(long, env = "SKIFF_CLUSTER_DNS", default_value = "10.43.0.10")]
    pub cluster_dns: IpAddr,
    /// Domain of the cluster's names
    #[arg(long, env = "SKIFF_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServerArgs {
    #[command(subcommand)]
    pub action: Option<ServerAction>,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// Address to listen on [default: all]
    #[arg(long, env = "SKIFF_BIND_ADDRESS", default_value = "::")]
    pub bind_address: IpAddr,
    /// Port of the Kubernetes API
    #[arg(long, env = "SKIFF_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Address that nodes and pods reach this server at [default: the node's]
    #[arg(long, env = "SKIFF_ADVERTISE_ADDRESS")]
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses in the server's certificate, separated by commas
    #[arg(long, env = "SKIFF_TLS_SAN", value_delimiter = ',', value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// Run no node in this process
    #[arg(long, env = "SKIFF_DISABLE_AGENT")]
    pub disable_agent: bool,
    /// Where to write the administrator's kubeconfig [default: <data-dir>/admin.kubeconfig]
    #[arg(long, env = "SKIFF_WRITE_KUBECONFIG", value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Ports that NodePort services are given
    #[arg(
        long,
        env = "SKIFF_SERVICE_NODE_PORT_RANGE",
        default_value = "30000-32767",
        value_name = "FIRST-LAST"
    )]
    pub service_node_port_range: String,
    /// Become one of the servers of a cluster: the URL of one of them, https://host:6443
    #[arg(long, env = "SKIFF_JOIN", value_name = "URL")]
    pub join: Option<String>,
    /// Token to join with, from `skiff token create --server` on a server
    #[arg(long, env = "SKIFF_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "SKIFF_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Port of the servers among themselves; closed while there is only one
    #[arg(long, env = "SKIFF_PEER_PORT", default_value_t = 2380)]
    pub peer_port: u16,
    /// Serve the store behind etcd's API here, to clients with a certificate of <data-dir>/server/tls/etcd
    #[arg(long, env = "SKIFF_ETCD_LISTEN", value_name = "ADDRESS:PORT")]
    pub etcd_listen: Option<SocketAddr>,
    /// KubeSchedulerConfiguration with the scheduler's profiles
    #[arg(long, env = "SKIFF_SCHEDULER_CONFIG", value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
    /// The store takes nothing that grows beyond this size; 0 for no end
    #[arg(
        long,
        alias = "quota-backend-bytes",
        env = "SKIFF_STORE_QUOTA",
        default_value = "8Gi",
        value_name = "QUANTITY"
    )]
    pub store_quota: String,
    /// Go on alone when the other servers are lost for good; they cannot come back but as new ones
    #[arg(long, aliases = ["force-new-cluster", "cluster-reset"], env = "SKIFF_FORCE_SINGLE")]
    pub force_single: bool,
    #[command(flatten)]
    pub snapshots: crate::snapshot::Scheduled,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ServerAction {
    /// List the servers of the cluster, and say which answer
    List(Access),
    /// Take a server out of the cluster, for good
    Remove {
        #[command(flatten)]
        access: Access,
        /// Its name or number, as `skiff server list` shows them
        server: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// The server to join, https://host:6443
    #[arg(long, env = "SKIFF_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Token to join with, from `skiff token create` on the server
    #[arg(long, env = "SKIFF_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "SKIFF_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// How the commands that ask the cluster find it.
#[derive(Debug, Clone, Args)]
pub struct Access {
    /// Directory of everything that Skiff keeps
    #[arg(
        long,
        global = true,
        env = "SKIFF_DATA_DIR",
        default_value = "/var/lib/skiff",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// kubeconfig to use [default: <data-dir>/admin.kubeconfig]
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl Access {
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig
            .clone()
            .unwrap_or_else(|| self.data_dir.join(crate::paths::ADMIN_KUBECONFIG))
    }
}

#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum TokenAction {
    /// Create a token and print it
    Create {
        /// How long it can be used: 30m, 24h, 7d; 0 for ever
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// For a server that joins (`skiff server --join`), not for a node: it hands out the cluster's keys
        #[arg(long)]
        server: bool,
        /// A word on what it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the tokens, without their secrets
    List,
    /// Delete a token by its id (or the whole token)
    Delete { id: String },
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub access: Access,
    /// Wait at most this long (30s, 2m) for the nodes to be ready
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// How many ready nodes to wait for
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
}

#[derive(Debug, Clone, Args)]
pub struct SchedulerArgs {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub action: SchedulerAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum SchedulerAction {
    /// Show every node with its scores, or with what refuses the pod there.
    /// Exits with 0 if a node will do, 2 if none does, 1 on errors
    Explain(ExplainArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Name of the pod
    pub pod: String,
    /// Its namespace [default: the kubeconfig's]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// table or json
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    pub output: String,
    /// KubeSchedulerConfiguration that the server was started with
    #[arg(long, env = "SKIFF_SCHEDULER_CONFIG", value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Directory of everything that Skiff keeps
    #[arg(long, env = "SKIFF_DATA_DIR", default_value = "/var/lib/skiff", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// containerd's executable
    #[arg(long, env = "SKIFF_CONTAINERD", default_value = "containerd", value_name = "FILE")]
    pub containerd: PathBuf,
    /// Port of the Kubernetes API
    #[arg(long, env = "SKIFF_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Port of the node's own endpoint
    #[arg(long, env = "SKIFF_KUBELET_PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
}

#[derive(Debug, Clone, Args)]
pub struct ResetArgs {
    /// Directory of everything that Skiff keeps
    #[arg(long, env = "SKIFF_DATA_DIR", default_value = "/var/lib/skiff", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Stop the pods and clear the network, but keep the cluster's data
    #[arg(long)]
    pub keep_data: bool,
}
