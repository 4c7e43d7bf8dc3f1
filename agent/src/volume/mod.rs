//! A pod's volumes on this node: made before its containers, taken away after.

pub mod atomic;
pub mod payload;

use crate::config::Config;
use crate::error::Error;
use crate::pod::environment::{Facts, Lookup};
use crate::pod::{resources, spec};
use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use payload::TokenRequest;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
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
            make_tmpfs(&path, "")?;
            atomic::write(&path, &files, group, stamp)?;
        } else if let Some(source) = &volume.empty_dir {
            if source.medium.as_deref() == Some("Memory") {
                let limit = source.size_limit.as_ref().and_then(|q| resources::milli(&q.0));
                make_tmpfs(&path, &limit.map(|m| format!("size={}", m / 1_000)).unwrap_or_default())?;
            }
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
            let mode = if group.is_some() { 0o2777 } else { 0o777 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .map_err(Error::io("set the mode of", &path))?;
            if let Some(group) = group {
                nix::unistd::chown(&path, None, Some(group.into())).map_err(Error::os("change the group of", &path))?;
            }
        } else if let Some(source) = &volume.host_path {
            host_path(source).map_err(failed)?;
        } else {
            return Err(failed("this kind of volume is not supported yet".into()));
        }
    }
    Ok(())
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

fn make_tmpfs(path: &Path, options: &str) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    if is_mount_point(path) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).map_err(Error::os("mount a tmpfs on", path))
}

/// A mount point is on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let found = std::fs::metadata(path).ok();
    let kind = source.type_.as_deref().unwrap_or_default();
    let must = |ok: bool| {
        if ok {
            Ok(())
        } else {
            Err(format!("hostPath type check failed: {} is not a {}", source.path, kind))
        }
    };
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" => match found {
            Some(meta) => must(meta.is_dir()),
            None => std::fs::create_dir_all(path).map_err(|e| e.to_string()),
        },
        "FileOrCreate" => match found {
            Some(meta) => must(meta.is_file()),
            None => std::fs::write(path, []).map_err(|e| e.to_string()),
        },
        "Directory" => must(found.is_some_and(|m| m.is_dir())),
        "File" => must(found.is_some_and(|m| m.is_file())),
        "Socket" => must(found.is_some_and(|m| m.file_type().is_socket())),
        "CharDevice" => must(found.is_some_and(|m| m.file_type().is_char_device())),
        "BlockDevice" => must(found.is_some_and(|m| m.file_type().is_block_device())),
        other => Err(format!("unknown hostPath type {other:?}")),
    }
}

/// The container's mounts of its volumes. `expand` resolves `subPathExpr`.
pub fn mounts(
    config: &Config,
    pod: &Pod,
    container: &Container,
    expand: impl Fn(&str) -> String,
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
            (_, Some(text)) if !text.is_empty() => Some(expand(text)),
            _ => None,
        };
        if let Some(sub) = sub {
            let slot = config
                .pod_dir(spec::uid(pod))
                .join("volume-subpaths")
                .join(&wanted.name)
                .join(&container.name)
                .join(index.to_string());
            host = bind_sub_path(&host, &sub, &slot)?;
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

/// Opens the path without ever leaving the volume (a container may have planted
/// symlinks) and binds what was opened, so that nobody can swap it afterwards.
fn bind_sub_path(volume: &Path, sub: &str, slot: &Path) -> Result<PathBuf, Error> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
    use nix::sys::stat::{Mode, mkdirat};
    use std::os::fd::AsRawFd;
    if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
        return Err(Error::Volume(format!(
            "subPath {sub:?} must be relative and without '..'"
        )));
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let root = open(
        volume,
        OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY,
        Mode::empty(),
    )
    .map_err(Error::os("open", volume))?;
    let mut opened = root;
    for part in sub.split('/').filter(|p| !p.is_empty() && *p != ".") {
        let next = match openat2(&opened, part, how) {
            Err(nix::Error::ENOENT) => {
                mkdirat(&opened, part, Mode::from_bits_truncate(0o750))
                    .map_err(Error::os("create a subPath in", volume))?;
                openat2(&opened, part, how)
            }
            other => other,
        };
        opened = next.map_err(Error::os("open a subPath in", volume))?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_dir = std::fs::metadata(&source)
        .map_err(Error::io("look at", &source))?
        .is_dir();
    let _ = umount2(slot, MntFlags::MNT_DETACH);
    if is_dir {
        std::fs::create_dir_all(slot).map_err(Error::io("create", slot))?;
    } else {
        if let Some(parent) = slot.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        std::fs::write(slot, []).map_err(Error::io("create", slot))?;
    }
    mount(Some(&source), slot, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::os("bind", slot))?;
    Ok(slot.to_owned())
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
