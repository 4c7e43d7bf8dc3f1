//! Writes a volume's files so that a reader sees all of the old or all of the new:
//! `..data` is a symlink to a time-stamped directory and is replaced by a rename.

use super::payload::{File, Files};
use crate::error::Error;
use nix::unistd::{Gid, Uid, chown};
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// `group`: the pod's fsGroup, which owns and may read the files.
pub fn write(volume: &Path, files: &Files, group: Option<u32>, stamp: &str) -> Result<(), Error> {
    let data = volume.join("..data");
    if matches!(current(&data), Some(ref old) if same(&volume.join(old), files, group)) {
        return Ok(());
    }
    let fresh_name = format!("..{stamp}");
    let fresh = volume.join(&fresh_name);
    make_dir(&fresh, group)?;
    for (path, file) in files {
        write_one(&fresh, path, file, group)?;
    }
    let temporary = volume.join("..data_tmp");
    let _ = std::fs::remove_file(&temporary);
    symlink(&fresh_name, &temporary).map_err(Error::io("link", &temporary))?;
    std::fs::rename(&temporary, &data).map_err(Error::io("replace", &data))?;
    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = volume.join(top);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(top), &link).map_err(Error::io("link", &link))?;
        }
    }
    for entry in std::fs::read_dir(volume).map_err(Error::io("read", volume))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            // The old files, also those that an interrupted write left.
            if name != "..data" && name != fresh_name {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        } else if !tops.contains(name.as_str()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Kubernetes opens read-only volumes to the pod's group by these bits.
fn file_mode(file: &File, group: Option<u32>) -> u32 {
    (if group.is_some() { file.mode | 0o440 } else { file.mode }) & 0o777
}

fn current(data: &Path) -> Option<String> {
    Some(std::fs::read_link(data).ok()?.to_string_lossy().into_owned())
}

fn same(dir: &Path, files: &Files, group: Option<u32>) -> bool {
    fn count(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 })
            .sum()
    }
    count(dir) == files.len()
        && files.iter().all(|(path, file)| {
            let full = dir.join(path);
            let mode = std::fs::metadata(&full).map(|m| m.permissions().mode() & 0o777).ok();
            mode == Some(file_mode(file, group)) && std::fs::read(&full).is_ok_and(|bytes| bytes == file.bytes)
        })
}

fn write_one(dir: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), Error> {
    let full = dir.join(path);
    let mut parent = dir.to_owned();
    for part in path.rsplit_once('/').iter().flat_map(|(dirs, _)| dirs.split('/')) {
        parent.push(part);
        make_dir(&parent, group)?;
    }
    std::fs::write(&full, &file.bytes).map_err(Error::io("write", &full))?;
    if let Some(user) = file.user {
        chown(&full, Some(Uid::from_raw(user)), None).map_err(Error::os("change the owner of", &full))?;
    }
    set(&full, file_mode(file, group), group)
}

fn make_dir(path: &Path, group: Option<u32>) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    set(path, if group.is_some() { 0o2755 } else { 0o755 }, group)
}

fn set(path: &Path, mode: u32, group: Option<u32>) -> Result<(), Error> {
    if let Some(group) = group {
        chown(path, None::<Uid>, Some(Gid::from_raw(group))).map_err(Error::os("change the group of", path))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File {
            bytes: text.into(),
            mode: 0o640,
            user: None,
        };
        list.iter().map(|(path, text)| ((*path).into(), file(text))).collect()
    }

    #[test]
    fn replaces_all_at_once_and_drops_what_is_gone() {
        let dir = std::env::temp_dir().join(format!("skiff-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None, "one").expect("written");
        assert_eq!(std::fs::read_to_string(dir.join("d/b")).expect("read"), "2");
        let first = std::fs::read_link(dir.join("..data")).expect("link");
        write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None, "two").expect("written");
        assert_eq!(
            std::fs::read_link(dir.join("..data")).expect("link"),
            first,
            "unchanged"
        );
        write(&dir, &files(&[("a", "3")]), None, "three").expect("written");
        assert_eq!(std::fs::read_to_string(dir.join("a")).expect("read"), "3");
        assert!(dir.join("d").symlink_metadata().is_err());
        assert!(!dir.join(&first).exists());
        let left = std::fs::read_dir(&dir).expect("read").count();
        assert_eq!(left, 3, "..data, its directory and one file");
        write(&dir, &files(&[("a", "3"), ("d/b", "2")]), Some(0), "four").expect("written");
        let mode = |path: &str| std::fs::metadata(dir.join(path)).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode("a"), mode("..data/d"), mode("d/b")), (0o640, 0o2755, 0o640));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
