//! How much of a disk there is, and how much of it a folder takes.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSystem {
    pub available_bytes: u64,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub inodes_free: u64,
    pub inodes: u64,
    pub inodes_used: u64,
}

pub fn file_system(path: &Path) -> Option<FileSystem> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Some(FileSystem {
        available_bytes: bytes(stat.blocks_available()),
        capacity_bytes: bytes(stat.blocks()),
        used_bytes: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
        inodes_free: stat.files_available(),
        inodes: stat.files(),
        inodes_used: stat.files().saturating_sub(stat.files_free()),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    pub bytes: u64,
    pub inodes: u64,
}

/// Entries looked at of one folder: beyond them, what was counted is the answer. A larger
/// folder would keep a disk busy for seconds each time.
const ENTRIES_MAX: u64 = 200_000;

/// What a folder takes, other file systems below it not counted; each file once.
pub fn taken(folder: &Path) -> Taken {
    let Ok(root) = std::fs::symlink_metadata(folder) else {
        return Taken::default();
    };
    let mut taken = Taken {
        bytes: root.blocks() * 512,
        inodes: 1,
    };
    if !root.is_dir() {
        return taken;
    }
    let (mut waiting, mut linked) = (vec![folder.to_owned()], BTreeSet::new());
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if taken.inodes >= ENTRIES_MAX {
                return taken;
            }
            // Of the entry itself, not of what a link points to.
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != root.dev() || (found.nlink() > 1 && !found.is_dir() && !linked.insert(found.ino())) {
                continue;
            }
            taken.bytes += found.blocks() * 512;
            taken.inodes += 1;
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    taken
}

/// Folders are walked at most this often, as upstream.
const KEPT: Duration = Duration::from_secs(60);

/// Remembers what folders took.
#[derive(Debug, Default)]
pub struct Walks(Mutex<HashMap<PathBuf, (Instant, Taken)>>);

impl Walks {
    pub fn taken(&self, folder: &Path, now: Instant) -> Taken {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, known)) = lock().get(folder)
            && now.duration_since(*at) < KEPT
        {
            return *known;
        }
        let walked = taken(folder);
        let mut walks = lock();
        walks.retain(|_, (at, _)| now.duration_since(*at) < KEPT);
        walks.insert(folder.to_owned(), (now, walked));
        walked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_and_links_once() {
        let dir = std::env::temp_dir().join(format!("skiff-taken-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).expect("made");
        std::fs::write(dir.join("sub/a"), vec![1; 10_000]).expect("written");
        let one = taken(&dir);
        assert!(one.bytes >= 10_000 && one.inodes == 3, "{one:?}");
        std::fs::hard_link(dir.join("sub/a"), dir.join("b")).expect("linked");
        std::os::unix::fs::symlink("/", dir.join("out")).expect("linked");
        let two = taken(&dir);
        assert_eq!(two.inodes, 4, "the symbolic link alone is new");
        let (walks, begin) = (Walks::default(), Instant::now());
        assert_eq!(walks.taken(&dir, begin), two);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(walks.taken(&dir, begin), two, "remembered");
        assert_eq!(walks.taken(&dir, begin + KEPT), Taken::default());
        assert!(file_system(Path::new("/")).is_some_and(|f| f.capacity_bytes > 0));
    }
}
