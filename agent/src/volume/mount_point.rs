//! Mounting and unmounting below a pod's directory.

use crate::error::Error;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Everybody may write; with the pod's group, new files belong to that group.
pub fn open_to_all(path: &Path, group: Option<u32>) -> Result<(), Error> {
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(group.into())).map_err(Error::os("change the group of", path))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}

/// Mounts a file system of memory (`tmpfs`, `hugetlbfs`), once.
pub fn memory(path: &Path, kind: &str, options: &str, group: Option<u32>) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    if is_mount_point(path) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(kind), path, Some(kind), flags, Some(options)).map_err(Error::os("mount memory on", path))?;
    open_to_all(path, group)
}

/// A mount point is on another device than its parent.
pub fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::symlink_metadata(p).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Detaches what is mounted there, and what is mounted below it, here alone: a bind
/// of a host's directory is its peer, and the host must keep what is mounted in it.
pub fn detach(point: &Path) -> nix::Result<()> {
    // Fails where nothing is mounted, and so does the next.
    let _ = mount(
        None::<&str>,
        point,
        None::<&str>,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None::<&str>,
    );
    umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// Unmounts everything below the pod's directory, deepest first, and removes it.
/// A directory that is still a mount is left alone: it may be somebody's data.
pub fn unmount_all(pod_dir: &Path) -> Result<(), Error> {
    unmount_below(pod_dir)?;
    match std::fs::remove_dir_all(pod_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", pod_dir)(error)),
        _ => Ok(()),
    }
}

/// Nothing is mounted below the directory any more, or the error says what is.
pub fn unmount_below(pod_dir: &Path) -> Result<(), Error> {
    let points = below(pod_dir);
    if points.is_empty() {
        return Ok(());
    }
    for point in points {
        match detach(&point) {
            // One above it took it away already.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(Error::os("unmount", &point)(error)),
        }
    }
    match below(pod_dir).first() {
        Some(left) => Err(Error::Volume(format!("{} is still mounted", left.display()))),
        None => Ok(()),
    }
}

/// Mount points below a directory, deepest first.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    points_below(
        &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        dir,
    )
}

/// Of two mounts on one place the later is on top: it comes first.
fn points_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let fields = mountinfo.lines().rev().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<PathBuf> = fields
        .map(|escaped| PathBuf::from(unescaped(escaped)))
        .filter(|point| point.starts_with(dir))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    points
}

/// The kernel writes space, tab, newline and backslash in octal.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deepest_first_and_only_below() {
        let info = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /p/a rw - tmpfs t rw\n3 2 0:3 / /p/a/b\\040c rw - tmpfs t rw\n\
            4 1 0:4 / /pa rw - tmpfs t rw\n5 2 0:5 / /p/a rw - tmpfs t rw\n";
        let found: Vec<String> = points_below(info, Path::new("/p"))
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        assert_eq!(found, ["/p/a/b c", "/p/a", "/p/a"]);
    }
}
