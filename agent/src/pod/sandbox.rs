//! A pod and its containers as CRI wants them described. Pure.

mod dns;
mod hosts;
mod security;

pub use dns::dns;
pub use hosts::hosts_file;
pub use security::{ImageUser, not_root};

use super::environment::expand;
use super::observed::{
    ANNOTATION_IMAGE, ANNOTATION_MESSAGE_FILE, ANNOTATION_MESSAGE_POLICY, ANNOTATION_RESOURCES, ANNOTATION_RESTARTS,
    LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
};
use super::resources;
use super::spec;
use crate::config::Config;
use crate::users::Mapping;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use skiff_proto::cri::v1 as cri;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

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

/// `users`: its own, where it has some. The error is what keeps such a pod from having a sandbox.
pub fn sandbox_config(
    config: &Config,
    pod: &Pod,
    attempt: u32,
    host_resolv_conf: &str,
    users: Option<Mapping>,
) -> Result<cri::PodSandboxConfig, String> {
    let empty = PodSpec::default();
    let pod_spec = pod.spec.as_ref().unwrap_or(&empty);
    let (namespace, name) = spec::key(pod);
    let context = pod_spec.security_context.clone().unwrap_or_default();
    let privileged =
        spec::containers(pod_spec).any(|(c, _)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name,
            namespace,
            uid: spec::uid(pod).to_owned(),
            attempt,
        }),
        hostname: if spec::host_network(pod_spec) {
            String::new()
        } else {
            spec::kernel_hostname(pod, &config.cluster_domain)?
        },
        log_directory: log_directory(config, pod).display().to_string(),
        dns_config: Some(dns(config, pod, host_resolv_conf).0),
        // hostPort is the dataplane's: it reads the pods themselves.
        port_mappings: Vec::new(),
        labels: labels(pod),
        annotations: pod
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_path(&config.cgroup_root, resources::qos(pod_spec), spec::uid(pod)),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(security::namespaces(pod_spec, users)),
                selinux_options: security::se_linux(context.se_linux_options.as_ref()),
                privileged,
                supplemental_groups: security::groups(&context),
                supplemental_groups_policy: security::groups_policy(&context),
                // The pause process itself can always live with the default profile.
                seccomp: Some(cri::SecurityProfile::default()),
                ..Default::default()
            }),
            sysctls: context
                .sysctls
                .iter()
                .flatten()
                .map(|s| (s.name.replace('/', "."), s.value.clone()))
                .collect(),
            ..Default::default()
        }),
        windows: None,
    })
}

/// Everything about one start of a container that has to be found out first.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    pub attempt: u32,
    pub image_ref: String,
    pub image_user: ImageUser,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<cri::Mount>,
    pub message_file: String,
    /// Of devices, for runtimes that know CDI.
    pub cdi: Vec<String>,
    /// Of devices, for those that do not.
    pub devices: Vec<cri::Device>,
    pub host: resources::Host,
    /// The pod's own users.
    pub users: Option<Mapping>,
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
        (ANNOTATION_IMAGE.to_owned(), container.image.clone().unwrap_or_default()),
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
        devices: prepared.devices.clone(),
        cdi_devices: prepared
            .cdi
            .iter()
            .map(|name| cri::CdiDevice { name: name.clone() })
            .collect(),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::kernel::container(pod, container, &prepared.host)),
            security_context: Some(security::of_container(
                pod_spec,
                container,
                &prepared.image_user,
                prepared.users,
            )),
        }),
        ..Default::default()
    }
}
