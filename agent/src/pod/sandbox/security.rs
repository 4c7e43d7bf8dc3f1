//! A container's security context, its pod's included. Pure.

use crate::users::{self, Mapping};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SELinuxOptions, SeccompProfile,
};
use skiff_proto::cri::v1::{self as cri, NamespaceMode, security_profile::ProfileType};

/// What the kernel shows about the host and a container need not see.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
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

/// Where administrators and their tools put profiles for kubelets.
const SECCOMP_DIR: &str = "/var/lib/kubelet/seccomp";

/// The user that an image names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    Id(i64),
    Name(String),
}

impl Default for ImageUser {
    /// An image that names nobody runs as root.
    fn default() -> Self {
        Self::Id(0)
    }
}

impl From<&cri::Image> for ImageUser {
    fn from(image: &cri::Image) -> Self {
        match &image.uid {
            Some(uid) => Self::Id(uid.value),
            None if image.username.is_empty() => Self::default(),
            None => Self::Name(image.username.clone()),
        }
    }
}

/// `users`: the pod's own; without them it has the node's.
pub fn namespaces(spec: &PodSpec, users: Option<Mapping>) -> cri::NamespaceOption {
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
        userns_options: Some(users::namespace(users)),
        ..Default::default()
    }
}

/// Those that every process of the pod is in, the owner of its volumes last.
pub fn groups(pod: &PodSecurityContext) -> Vec<i64> {
    let given = pod.supplemental_groups.iter().flatten().copied();
    given.chain(pod.fs_group).collect()
}

pub fn groups_policy(pod: &PodSecurityContext) -> i32 {
    let policy = match pod.supplemental_groups_policy.as_deref() {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict,
        _ => cri::SupplementalGroupsPolicy::Merge,
    };
    policy as i32
}

fn seccomp(profile: Option<&SeccompProfile>) -> cri::SecurityProfile {
    let (kind, path) = match profile {
        Some(p) if p.type_ == "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        Some(p) if p.type_ == "Localhost" => {
            let name = p.localhost_profile.as_deref().unwrap_or_default();
            (ProfileType::Localhost, format!("{SECCOMP_DIR}/{name}"))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: path,
    }
}

/// None: the runtime does as it always does.
fn app_armor(profile: Option<&AppArmorProfile>) -> Option<cri::SecurityProfile> {
    let profile = profile?;
    let (kind, name) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" => (
            ProfileType::Localhost,
            profile.localhost_profile.clone().unwrap_or_default(),
        ),
        _ => (ProfileType::Unconfined, String::new()),
    };
    Some(cri::SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: name,
    })
}

pub fn se_linux(options: Option<&SELinuxOptions>) -> Option<cri::SeLinuxOption> {
    let options = options?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
}

pub fn of_container(
    spec: &PodSpec,
    container: &Container,
    image: &ImageUser,
    users: Option<Mapping>,
) -> cri::LinuxContainerSecurityContext {
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
    let caps = own.capabilities.unwrap_or_default();
    // CRI refuses a group without a user, so the image's is always told.
    let (user, user_name) = match (own.run_as_user.or(pod.run_as_user), image) {
        (Some(id), _) => (Some(id), String::new()),
        (None, ImageUser::Id(id)) => (Some(*id), String::new()),
        (None, ImageUser::Name(name)) => (None, name.clone()),
    };
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: caps.add.unwrap_or_default(),
            drop_capabilities: caps.drop.unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(spec, users)),
        selinux_options: se_linux(own.se_linux_options.as_ref().or(pod.se_linux_options.as_ref())),
        run_as_user: user.map(int),
        run_as_username: user_name,
        run_as_group: own.run_as_group.or(pod.run_as_group).map(int),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&pod),
        supplemental_groups_policy: groups_policy(&pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged {
            seccomp(None)
        } else {
            seccomp(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()))
        }),
        apparmor: app_armor(own.app_armor_profile.as_ref().or(pod.app_armor_profile.as_ref())),
        ..Default::default()
    }
}

/// Whether the container may run as the user that it would run as. `pod` names it.
pub fn not_root(spec: &PodSpec, container: &Container, image: &ImageUser, pod: &str) -> Result<(), String> {
    let (own, all) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let wanted = own
        .and_then(|s| s.run_as_non_root)
        .or(all.and_then(|s| s.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let user = own.and_then(|s| s.run_as_user).or(all.and_then(|s| s.run_as_user));
    let whose = format!("(pod: {pod:?}, container: {})", container.name);
    match (user, image) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whose}")),
        (Some(_), _) => Ok(()),
        (None, ImageUser::Id(0)) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, ImageUser::Id(_)) => Ok(()),
        (None, ImageUser::Name(name)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whose}"
        )),
    }
}

#[cfg(test)]
#[path = "security_test.rs"]
mod tests;
