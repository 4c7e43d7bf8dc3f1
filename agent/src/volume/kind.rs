//! What a volume is made of, and where it lies on the node. Pure.

use crate::config::Config;
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
    EmptyDir,
    HostPath,
    Image,
    /// Made by something that is not part of the node agent; see [`super::provider`].
    Foreign,
}

impl Kind {
    pub fn of(volume: &Volume) -> Self {
        if volume.config_map.is_some() {
            Self::ConfigMap
        } else if volume.secret.is_some() {
            Self::Secret
        } else if volume.downward_api.is_some() {
            Self::DownwardApi
        } else if volume.projected.is_some() {
            Self::Projected
        } else if volume.empty_dir.is_some() {
            Self::EmptyDir
        } else if volume.host_path.is_some() {
            Self::HostPath
        } else if volume.image.is_some() {
            Self::Image
        } else {
            Self::Foreign
        }
    }

    /// The name of the directory that Kubernetes keeps such volumes in.
    fn directory(self) -> &'static str {
        match self {
            Self::ConfigMap => "kubernetes.io~configmap",
            Self::Secret => "kubernetes.io~secret",
            Self::DownwardApi => "kubernetes.io~downward-api",
            Self::Projected => "kubernetes.io~projected",
            Self::EmptyDir => "kubernetes.io~empty-dir",
            Self::HostPath => "kubernetes.io~host-path",
            Self::Image => "kubernetes.io~image",
            Self::Foreign => "kubernetes.io~csi",
        }
    }

    /// Secrets and what the API tells of the pod never touch a disk.
    pub fn in_memory(self) -> bool {
        matches!(self, Self::Secret | Self::DownwardApi | Self::Projected)
    }
}

pub fn volume_path(config: &Config, pod: &Pod, volume: &Volume) -> PathBuf {
    match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => config
            .pod_dir(spec::uid(pod))
            .join("volumes")
            .join(Kind::of(volume).directory())
            .join(&volume.name),
    }
}
