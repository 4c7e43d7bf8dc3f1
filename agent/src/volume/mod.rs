//! A pod's volumes on this node: made before its containers, taken away after.

pub mod atomic;
mod host_path;
pub mod payload;
mod sub_path;
pub mod token;

use crate::config::Config;
use crate::error::Error;
use crate::pod::environment::{Facts, Lookup};
use crate::pod::{resources, spec};
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, PodSpec, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use payload::TokenRequest;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Makes (or refreshes) every volume of the pod. Idempotent.
pub fn mount_all(
    config: &Config,
    pod: &Pod,
    lookup: &dyn Lookup,
    facts: &Facts,
    tokens: &BTreeMap<TokenRequest, String>,
    stamp: &str,
) -> Result<(), Error> {
    let pod_spec = pod.spec.as_ref();
    let group = pod_spec
        .and_then(|s| s.security_context.as_ref())
        .and_then(|s| s.fs_group)
        .and_then(|g| u32::try_from(g).ok());
    for volume in pod_spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let failed = |what: String| {
            Error::Volume(format!(
                "MountVolume.SetUp failed for volume \"{}\" : {what}",
                volume.name
            ))
        };
        let path = volume_path(config, pod, volume);
        if let Some(files) = payload::files(pod, volume, lookup, facts, tokens) {
            let files = files.map_err(failed)?;
            make_tmpfs(&path, "", group)
                .and_then(|()| atomic::write(&path, &files, group, stamp))
                .map_err(|error| failed(error.chain()))?;
        } else if let (Some(source), Some(pod_spec)) = (&volume.empty_dir, pod_spec) {
            empty_dir(&path, source, memory_size(pod_spec, source, facts), group)
                .map_err(|error| failed(error.chain()))?;
        } else if let Some(source) = &volume.host_path {
            host_path::prepare(source).map_err(failed)?;
        } else {
            return Err(failed("this kind of volume is not supported yet".into()));
        }
    }
    Ok(())
}

/// Made once: what the containers did to its mode since is theirs.
fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, size: i64, group: Option<u32>) -> Result<(), Error> {
    let memory = match source.medium.as_deref().unwrap_or_default() {
        "" => false,
        "Memory" => true,
        other => return Err(Error::Volume(format!("storage medium {other:?} is not supported"))),
    };
    if path.is_dir() && (!memory || is_mount_point(path)) {
        return Ok(());
    }
    if memory {
        return make_tmpfs(path, &format!("size={size}"), group);
    }
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    open_to_all(path, group)
}

/// The smallest of the volume's limit, the pod's limit and the node's memory. Pure.
fn memory_size(pod_spec: &PodSpec, source: &EmptyDirVolumeSource, facts: &Facts) -> i64 {
    let own = source.size_limit.as_ref().and_then(|q| resources::milli(&q.0));
    let own = own.and_then(|m| i64::try_from(m / 1_000).ok()).filter(|b| *b > 0);
    [own, resources::pod_limits(pod_spec).memory_bytes]
        .into_iter()
        .flatten()
        .fold(facts.memory_allocatable_bytes, i64::min)
}

fn open_to_all(path: &Path, group: Option<u32>) -> Result<(), Error> {
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(group.into())).map_err(Error::os("change the group of", path))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}

fn volume_path(config: &Config, pod: &Pod, volume: &Volume) -> PathBuf {
    if let Some(host) = &volume.host_path {
        return PathBuf::from(&host.path);
    }
    let kind = if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else {
        "kubernetes.io~empty-dir"
    };
    config
        .pod_dir(spec::uid(pod))
        .join("volumes")
        .join(kind)
        .join(&volume.name)
}

fn make_tmpfs(path: &Path, options: &str, group: Option<u32>) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    if is_mount_point(path) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).map_err(Error::os("mount a tmpfs on", path))?;
    open_to_all(path, group)
}

/// A mount point is on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// The container's mounts of its volumes. `expand` resolves `subPathExpr`; its error,
/// as all others here, is worded for the user.
pub fn mounts(
    config: &Config,
    pod: &Pod,
    container: &Container,
    expand: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<cri::Mount>, Error> {
    let volumes: BTreeMap<&str, &Volume> = pod
        .spec
        .iter()
        .flat_map(|s| s.volumes.iter().flatten())
        .map(|v| (v.name.as_str(), v))
        .collect();
    let mut result = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes
            .get(wanted.name.as_str())
            .ok_or_else(|| Error::Volume(format!("volume {:?} not found", wanted.name)))?;
        let mut host = volume_path(config, pod, volume);
        let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.clone()),
            (_, Some(text)) if !text.is_empty() => Some(expand(text).map_err(Error::Volume)?),
            _ => None,
        };
        if let Some(sub) = sub {
            let slot = config
                .pod_dir(spec::uid(pod))
                .join("volume-subpaths")
                .join(&wanted.name)
                .join(&container.name)
                .join(index.to_string());
            host = sub_path::bind(&host, &sub, &slot).map_err(|error| {
                Error::Volume(format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {}",
                    wanted.name,
                    container.name,
                    error.chain()
                ))
            })?;
        }
        if wanted.recursive_read_only.as_deref() == Some("Enabled") {
            return Err(Error::Volume(format!(
                "volume {:?} requested recursive read-only mode, but it is not supported by the runtime",
                wanted.name
            )));
        }
        let propagation = match wanted.mount_propagation.as_deref() {
            Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
            _ => cri::MountPropagation::PropagationPrivate,
        };
        result.push(cri::Mount {
            container_path: wanted.mount_path.clone(),
            host_path: host.display().to_string(),
            readonly: wanted.read_only.unwrap_or(false),
            propagation: propagation as i32,
            ..Default::default()
        });
    }
    Ok(result)
}

/// Unmounts everything below the pod's directory, deepest first, and removes it.
/// A directory that is still a mount is left alone: it may be somebody's data.
pub fn unmount_all(pod_dir: &Path) -> Result<(), Error> {
    for point in mounts_below(pod_dir) {
        umount2(&point, MntFlags::MNT_DETACH).map_err(Error::os("unmount", &point))?;
    }
    match std::fs::remove_dir_all(pod_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", pod_dir)(error)),
        _ => Ok(()),
    }
}

pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|escaped| PathBuf::from(escaped.replace("\\040", " ")))
        .filter(|point| point.starts_with(dir))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn memory_is_bounded_by_the_smallest() {
        let facts = Facts {
            memory_allocatable_bytes: 1_000 << 20,
            ..Facts::default()
        };
        for (limit, size, expected) in [
            (None, None, 1_000 << 20),
            (None, Some("10Mi"), 10 << 20),
            (Some("64Mi"), None, 64 << 20),
            (Some("64Mi"), Some("128Mi"), 64 << 20),
            (Some("64Mi"), Some("0"), 64 << 20),
        ] {
            let limits = limit.map_or(json!({}), |l| json!({"limits": {"memory": l}}));
            let spec = json!({"containers": [{"name": "c", "resources": limits}]});
            let spec: PodSpec = serde_json::from_value(spec).expect("valid");
            let source: EmptyDirVolumeSource =
                serde_json::from_value(json!({"medium": "Memory", "sizeLimit": size})).expect("valid");
            assert_eq!(memory_size(&spec, &source, &facts), expected, "{limit:?} {size:?}");
        }
    }
}
