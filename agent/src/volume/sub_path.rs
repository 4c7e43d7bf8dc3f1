//! `subPath`: a part of a volume, opened without ever leaving the volume (a container
//! may have planted symlinks) and bound, so that nobody can swap it afterwards.

use crate::error::Error;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Binds `sub` of the volume to `slot`; directories that are missing are made as
/// accessible as the volume itself.
pub fn bind(volume: &Path, sub: &str, slot: &Path) -> Result<PathBuf, Error> {
    let opened = open_beneath(volume, sub)?;
    let source = path_of(&opened);
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
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), slot, None::<&str>, flags, None::<&str>).map_err(Error::os("bind", slot))?;
    Ok(slot.to_owned())
}

fn path_of(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn open_beneath(volume: &Path, sub: &str) -> Result<OwnedFd, Error> {
    if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
        return Err(Error::Volume(format!(
            "subPath {sub:?} must be relative and without '..'"
        )));
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let root = open(volume, flags, Mode::empty()).map_err(Error::os("open", volume))?;
    let parts: Vec<&str> = sub.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.is_empty() {
        return Ok(root);
    }
    match openat2(&root, parts.join("/").as_str(), how) {
        Ok(opened) => return Ok(opened),
        Err(nix::Error::ENOENT) => {}
        Err(error) => return Err(Error::os("open a subPath in", volume)(error)),
    }
    let mode = std::fs::metadata(volume)
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
