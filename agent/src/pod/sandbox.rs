//! A pod and its containers as CRI wants them described. Pure.

use super::environment::expand;
use super::observed::{
    ANNOTATION_MESSAGE_FILE, ANNOTATION_MESSAGE_POLICY, ANNOTATION_RESOURCES, ANNOTATION_RESTARTS,
    LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
};
use super::resources;
use super::spec;
use crate::config::Config;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SeccompProfile};
use skiff_proto::cri::v1::{self as cri, NamespaceMode};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// What the kernel shows about the host and a container need not see.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub fn log_directory(config: &Config, pod: &Pod) -> PathBuf {
    let (namespace, name) = spec::key(pod);
    config
        .pod_logs_dir
        .join(format!("{namespace}_{name}_{}", spec::uid(pod)))
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    let (namespace, name) = spec::key(pod);
    [
        (LABEL_POD_NAME, name),
        (LABEL_POD_NAMESPACE, namespace),
        (LABEL_POD_UID, spec::uid(pod).to_owned()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect()
}

fn namespaces(spec: &PodSpec) -> cri::NamespaceOption {
    let mode = |host: Option<bool>| match host {
        Some(true) => NamespaceMode::Node,
        _ => NamespaceMode::Pod,
    };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: mode(spec.host_network) as i32,
        ipc: mode(spec.host_ipc) as i32,
        pid: pid as i32,
        ..Default::default()
    }
}

fn seccomp(profile: Option<&SeccompProfile>) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, path) = match profile {
        Some(p) if p.type_ == "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        Some(p) if p.type_ == "Localhost" => (
            ProfileType::Localhost,
            format!(
                "/var/lib/kubelet/seccomp/{}",
                p.localhost_profile.as_deref().unwrap_or_default()
            ),
        ),
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: path,
    }
}

/// `host_resolv_conf` is the text of the node's own file.
pub fn dns(config: &Config, pod: &Pod, host_resolv_conf: &str) -> cri::DnsConfig {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let words = |keyword: &str| -> Vec<String> {
        let lines = host_resolv_conf
            .lines()
            .filter_map(|l| l.split_once(char::is_whitespace));
        lines
            .filter(|(k, _)| *k == keyword)
            .flat_map(|(_, rest)| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    };
    let host = cri::DnsConfig {
        servers: words("nameserver"),
        searches: words("search"),
        options: words("options"),
    };
    let namespace = spec::key(pod).0;
    let cluster = || {
        let domain = &config.cluster_domain;
        let mut searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.extend(host.searches.iter().filter(|s| *s != ".").cloned());
        cri::DnsConfig {
            servers: vec![config.cluster_dns.to_string()],
            searches,
            options: vec!["ndots:5".into()],
        }
    };
    let mut found = match (spec.dns_policy.as_deref(), spec::host_network(spec)) {
        (Some("None"), _) => cri::DnsConfig::default(),
        (Some("ClusterFirstWithHostNet"), _) => cluster(),
        (Some("Default"), _) | (_, true) => host.clone(),
        _ => cluster(),
    };
    if let Some(extra) = &spec.dns_config {
        let add = |list: &mut Vec<String>, more: &[String]| {
            for item in more {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        add(&mut found.servers, extra.nameservers.as_deref().unwrap_or_default());
        add(&mut found.searches, extra.searches.as_deref().unwrap_or_default());
        for option in extra.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            found.options.retain(|o| o.split(':').next() != Some(&name));
            found.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    found
}

pub fn sandbox_config(config: &Config, pod: &Pod, attempt: u32, host_resolv_conf: &str) -> cri::PodSandboxConfig {
    let empty = PodSpec::default();
    let pod_spec = pod.spec.as_ref().unwrap_or(&empty);
    let (namespace, name) = spec::key(pod);
    let security = pod_spec.security_context.clone().unwrap_or_default();
    let privileged =
        spec::containers(pod_spec).any(|(c, _)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    let mut groups = security.supplemental_groups.clone().unwrap_or_default();
    groups.extend(security.fs_group);
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name,
            namespace,
            uid: spec::uid(pod).to_owned(),
            attempt,
        }),
        hostname: if spec::host_network(pod_spec) {
            String::new()
        } else {
            spec::hostname(pod)
        },
        log_directory: log_directory(config, pod).display().to_string(),
        dns_config: Some(dns(config, pod, host_resolv_conf)),
        // hostPort is the dataplane's: it reads the pods themselves.
        port_mappings: Vec::new(),
        labels: labels(pod),
        annotations: HashMap::new(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_path(&config.cgroup_root, resources::qos(pod_spec), spec::uid(pod)),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod_spec)),
                privileged,
                supplemental_groups: groups,
                // The pause process itself can always live with the default profile.
                seccomp: Some(cri::SecurityProfile::default()),
                ..Default::default()
            }),
            sysctls: security
                .sysctls
                .iter()
                .flatten()
                .map(|s| (s.name.clone(), s.value.clone()))
                .collect(),
            ..Default::default()
        }),
        windows: None,
    }
}

/// Everything about one start of a container that has to be found out first.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    pub attempt: u32,
    pub image_ref: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<cri::Mount>,
    pub message_file: String,
    pub host: resources::Host,
}

pub fn container_config(pod: &Pod, container: &Container, prepared: &Prepared) -> cri::ContainerConfig {
    let empty = PodSpec::default();
    let pod_spec = pod.spec.as_ref().unwrap_or(&empty);
    let env: BTreeMap<&str, &str> = prepared.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
        let known = |name: &str| env.get(name).map(|v| (*v).to_owned());
        list.into_iter().flatten().map(|text| expand(text, known)).collect()
    };
    let mut labels = labels(pod);
    labels.insert(LABEL_CONTAINER_NAME.into(), container.name.clone());
    let policy = container
        .termination_message_policy
        .clone()
        .unwrap_or_else(|| "File".into());
    let annotations = HashMap::from([
        (ANNOTATION_MESSAGE_FILE.to_owned(), prepared.message_file.clone()),
        (ANNOTATION_MESSAGE_POLICY.to_owned(), policy),
        (ANNOTATION_RESTARTS.to_owned(), prepared.attempt.to_string()),
        (
            ANNOTATION_RESOURCES.to_owned(),
            serde_json::to_string(&container.resources.clone().unwrap_or_default()).unwrap_or_default(),
        ),
    ]);
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: prepared.attempt,
        }),
        image: Some(cri::ImageSpec {
            image: prepared.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(container.command.as_ref()),
        args: expanded(container.args.as_ref()),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: prepared
            .env
            .iter()
            .map(|(key, value)| cri::KeyValue {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        mounts: prepared.mounts.clone(),
        labels,
        annotations,
        log_path: format!("{}/{}.log", container.name, prepared.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::kernel::container(pod, container, &prepared.host)),
            security_context: Some(security(pod_spec, container)),
        }),
        ..Default::default()
    }
}

fn security(spec: &PodSpec, container: &Container) -> cri::LinuxContainerSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| {
        if unmasked {
            Vec::new()
        } else {
            list.iter().map(|p| (*p).to_owned()).collect()
        }
    };
    let int = |value: i64| cri::Int64Value { value };
    let mut groups = pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pod.fs_group);
    let caps = own.capabilities.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.run_as_user);
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: caps.add.unwrap_or_default(),
            drop_capabilities: caps.drop.unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(spec)),
        run_as_user: user.map(int),
        // CRI refuses a group without a user.
        run_as_group: own
            .run_as_group
            .or(pod.run_as_group)
            .filter(|_| user.is_some())
            .map(int),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged {
            seccomp(None)
        } else {
            seccomp(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()))
        }),
        ..Default::default()
    }
}

/// The pod's `/etc/hosts`.
pub fn hosts_file(config: &Config, pod: &Pod, ips: &[String], host_file: &str) -> String {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut text = if spec::host_network(spec) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let host = spec::hostname(pod);
        for ip in ips {
            match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
                Some(sub) => {
                    let (namespace, _) = spec::key(pod);
                    let domain = &config.cluster_domain;
                    text.push_str(&format!("{ip}\t{host}.{sub}.{namespace}.svc.{domain}\t{host}\n"));
                }
                None => text.push_str(&format!("{ip}\t{host}\n")),
            }
        }
        text
    };
    if let Some(aliases) = spec.host_aliases.as_ref().filter(|a| !a.is_empty()) {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.clone().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}
