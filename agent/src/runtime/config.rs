//! containerd's configuration, rendered. Pure.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Layout {
    pub root: PathBuf,
    pub state: PathBuf,
    pub socket: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
    pub pid: PathBuf,
    /// Where sandboxes' network namespaces are: apart from those of other programs.
    pub namespaces: PathBuf,
    /// Names of the namespaces that there were when containerd was last started.
    pub former: PathBuf,
    pub cni_bin: PathBuf,
    pub cni_conf: PathBuf,
    /// Hosts of registries, which containerd reads at each pull.
    pub certs: PathBuf,
}

impl Layout {
    /// All of it below the data directory, so that one node never meets another's
    /// containerd; a Unix socket's path is limited to 107 bytes, hence `run`.
    pub fn new(data_dir: &Path) -> Self {
        let base = data_dir.join("containerd");
        let run = data_dir.join("run");
        let state = run.join("containerd");
        Self {
            namespaces: state.join("io.containerd.grpc.v1.cri/netns"),
            former: run.join("namespaces"),
            certs: base.join("certs.d"),
            root: base.join("root"),
            state,
            socket: run.join("containerd.sock"),
            config: base.join("config.toml"),
            log: base.join("containerd.log"),
            pid: run.join("containerd.pid"),
            cni_bin: data_dir.join("cni/bin"),
            cni_conf: data_dir.join("cni/net.d"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options<'a> {
    pub layout: &'a Layout,
    pub pause_image: &'a str,
    pub runc: Option<&'a Path>,
    /// Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj below their own.
    pub restrict_oom_score_adj: bool,
    pub apparmor: bool,
}

/// Plugins nobody uses here: each costs start-up time, and some of them log
/// errors on file systems they do not know.
const DISABLED: [&str; 11] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.internal.v1.restart",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];

/// In the form of containerd 1.6, which 2 reads as well. What is at one place on every machine (the
/// socket of NRI, which 2 opens unasked, and `/opt/containerd`) may be another containerd's.
pub fn render(options: &Options<'_>) -> String {
    let layout = options.layout;
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let disabled: Vec<String> = DISABLED.iter().map(|name| format!("{name:?}")).collect();
    let runc = options
        .runc
        .map(|path| format!("BinaryName = {}\n", quoted(path)))
        .unwrap_or_default();
    format!(
        r#"version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = [{disabled}]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {pause:?}
stream_server_address = "127.0.0.1"
stream_server_port = "0"
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
restrict_oom_score_adj = {restrict}
netns_mounts_under_state_dir = true
disable_apparmor = {no_apparmor}
max_container_log_line_size = 16384
enable_cdi = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {cni_bin}
conf_dir = {cni_conf}
max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {certs}

[plugins."io.containerd.internal.v1.opt"]
path = {opt}

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
{runc}"#,
        root = quoted(&layout.root),
        state = quoted(&layout.state),
        socket = quoted(&layout.socket),
        disabled = disabled.join(", "),
        pause = options.pause_image,
        restrict = options.restrict_oom_score_adj,
        no_apparmor = !options.apparmor,
        cni_bin = quoted(&layout.cni_bin),
        cni_conf = quoted(&layout.cni_conf),
        certs = quoted(&layout.certs),
        opt = quoted(&layout.root.join("opt")),
    )
}

/// Whether `/proc/self/status` shows CAP_SYS_RESOURCE in the effective set.
pub fn has_sys_resource(status: &str) -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & (1 << CAP_SYS_RESOURCE) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_its_own_places() {
        let layout = Layout::new(Path::new("/d"));
        let text = render(&Options {
            layout: &layout,
            pause_image: "p:1",
            runc: Some(Path::new("/r")),
            restrict_oom_score_adj: true,
            apparmor: false,
        });
        for line in [
            r#"root = "/d/containerd/root""#,
            r#"address = "/d/run/containerd.sock""#,
            r#"sandbox_image = "p:1""#,
            "restrict_oom_score_adj = true",
            r#"BinaryName = "/r""#,
            r#"config_path = "/d/containerd/certs.d""#,
            r#"path = "/d/containerd/root/opt""#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn reads_the_capability() {
        assert!(has_sys_resource("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!has_sys_resource("CapEff:\t000001fffeffffff\n"));
        assert!(!has_sys_resource(""));
    }
}
