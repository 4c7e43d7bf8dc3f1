//! `subPath`: a part of a volume, opened without ever leaving the volume (a container
//! may have planted symlinks) and bound, so that nobody can swap it afterwards.

use super::mount_point::detach;
use crate::error::Error;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the pod's author wrote, after its variables were put in: a path of its own.
pub fn check(sub: &str) -> Result<(), String> {
    if sub.starts_with('/') {
        return Err(format!("error SubPath `{sub}` must not be an absolute path"));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{sub}`: must not contain '..'"));
    }
    Ok(())
}

/// Binds `sub` of the volume to `slot`; directories that are missing are made as
/// accessible as the volume itself. What the host mounts in it later appears; what is
/// unmounted of it here stays mounted on the host, unless it is to be `shared`.
pub fn bind(volume: &Path, sub: &str, slot: &Path, shared: bool) -> Result<PathBuf, Error> {
    let opened = open_beneath(volume, sub)?;
    let source = path_of(&opened);
    let is_dir = std::fs::metadata(&source)
        .map_err(Error::io("look at", &source))?
        .is_dir();
    // Of the container's earlier start.
    let _ = detach(slot);
    clear(slot, is_dir);
    if is_dir {
        std::fs::create_dir_all(slot).map_err(Error::io("create", slot))?;
    } else {
        if let Some(parent) = slot.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        std::fs::write(slot, []).map_err(Error::io("create", slot))?;
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), slot, None::<&str>, flags, None::<&str>).map_err(Error::os("bind", slot))?;
    if !shared {
        let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, slot, None::<&str>, flags, None::<&str>).map_err(Error::os("bind", slot))?;
    }
    Ok(slot.to_owned())
}

/// A file may have become a directory since, or the other way round.
fn clear(slot: &Path, is_dir: bool) {
    match std::fs::symlink_metadata(slot) {
        Ok(meta) if meta.is_dir() && !is_dir => drop(std::fs::remove_dir(slot)),
        Ok(meta) if !meta.is_dir() && is_dir => drop(std::fs::remove_file(slot)),
        _ => {}
    }
}

/// A file of the volume, for reading.
pub fn open_file(volume: &Path, path: &str) -> Result<File, Error> {
    check(path).map_err(Error::Volume)?;
    let root = open_root(volume)?;
    // A FIFO would be waited for.
    let how = beneath(OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    let file = File::from(openat2(&root, path, how).map_err(Error::os("open a file in", volume))?);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        _ => Err(Error::Volume(format!("{path} is not a file"))),
    }
}

fn path_of(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn open_root(volume: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(volume, flags, Mode::empty()).map_err(Error::os("open", volume))
}

fn beneath(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn open_beneath(volume: &Path, sub: &str) -> Result<OwnedFd, Error> {
    check(sub).map_err(Error::Volume)?;
    let how = beneath(OFlag::O_PATH);
    let root = open_root(volume)?;
    let parts: Vec<&str> = sub.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.is_empty() {
        return Ok(root);
    }
    match openat2(&root, parts.join("/").as_str(), how) {
        Ok(opened) => return Ok(opened),
        Err(nix::Error::ENOENT) => {}
        Err(error) => return Err(Error::os("open a subPath in", volume)(error)),
    }
    let mode = std::fs::metadata(path_of(&root))
        .map_err(Error::io("look at", volume))?
        .permissions()
        .mode()
        & 0o2777;
    let mut parent = None;
    for end in 1..=parts.len() {
        let path = parts[..end].join("/");
        let found = match openat2(&root, path.as_str(), how) {
            Err(nix::Error::ENOENT) => {
                let parent = parent.as_ref().unwrap_or(&root);
                mkdirat(parent, parts[end - 1], Mode::from_bits_truncate(0o700))
                    .map_err(Error::os("create a subPath in", volume))?;
                let made = openat2(&root, path.as_str(), how).map_err(Error::os("open a subPath in", volume))?;
                // The process's umask must not narrow what the container may do.
                std::fs::set_permissions(path_of(&made), std::fs::Permissions::from_mode(mode))
                    .map_err(Error::io("set the mode of a subPath in", volume))?;
                made
            }
            other => other.map_err(Error::os("open a subPath in", volume))?,
        };
        parent = Some(found);
    }
    Ok(parent.unwrap_or(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn symlinks_stay_inside_and_missing_directories_are_made() {
        let dir = std::env::temp_dir().join(format!("skiff-sub-path-{}", std::process::id()));
        let volume = dir.join("volume");
        std::fs::create_dir_all(volume.join("real/deep")).expect("made");
        std::fs::create_dir_all(dir.join("outside")).expect("made");
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o2777)).expect("set");
        symlink("../real", volume.join("real/deep/up")).expect("linked");
        symlink("/", volume.join("absolute")).expect("linked");
        symlink("../outside", volume.join("out")).expect("linked");
        symlink("/etc/passwd", volume.join("passwd")).expect("linked");
        for (sub, inside) in [
            ("", true),
            ("real", true),
            ("./real//deep", true),
            ("real/deep/up", false),
            ("new/er", true),
            ("absolute", false),
            ("absolute/etc", false),
            ("out", false),
            ("out/x", false),
            ("passwd", false),
            ("../outside", false),
            ("/etc", false),
        ] {
            assert_eq!(open_beneath(&volume, sub).is_ok(), inside, "{sub}");
        }
        symlink("..", volume.join("real/back")).expect("linked");
        assert!(open_beneath(&volume, "real/back/new").is_ok(), "up, but inside");
        let mode = std::fs::metadata(volume.join("new/er"))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o2777);
        assert!(!dir.join("outside/x").exists());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
