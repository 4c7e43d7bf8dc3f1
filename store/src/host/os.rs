//! The disk that the kernel offers, and sled on it.

use super::disk::*;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// sled only writes here after it was loaded: a small cache does.
const CACHE_BYTES: u64 = 4 << 20;

/// How long a database may still be held by whoever closed it, and how often that is looked at.
const LOCKED_MAX: Duration = Duration::from_secs(5);
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::New => options.write(true).create_new(true),
            Open::Empty => options.write(true).create(true).truncate(true),
            Open::Keep => options.write(true).create(true).truncate(false),
        };
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for made in missing {
            // What is synced below is lost with the name of its directory.
            match made.parent() {
                Some(above) if above != Path::new("") => self.sync_dir(above)?,
                _ => self.sync_dir(Path::new("."))?,
            }
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path()));
        let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::Error(source)) => Err(source),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn table(&self, dir: &Path) -> io::Result<Box<dyn Table>> {
        Ok(Box::new(Sled {
            db: Some(Sled::open(dir)?),
            dir: dir.into(),
            failed: false,
        }))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        match fallocate(self.as_fd(), FallocateFlags::empty(), 0, bytes as i64) {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}

/// sled stays with an error that it once met (no space, say) until it is opened anew.
struct Sled {
    /// `None`: it could not be opened again.
    db: Option<sled::Db>,
    dir: PathBuf,
    failed: bool,
}

impl Sled {
    fn open(dir: &Path) -> io::Result<sled::Db> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // The store's thread flushes; sled's own would wake twice a second, also when idle.
            .flush_every_ms(None);
        // One that was closed is let go a moment later, by sled's own threads.
        let until = Instant::now() + LOCKED_MAX;
        loop {
            match config.open() {
                Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                    if Instant::now() >= until {
                        return Err(io::Error::new(io::ErrorKind::WouldBlock, error));
                    }
                    std::thread::sleep(LOCKED_PAUSE);
                }
                opened => return Ok(opened?),
            }
        }
    }

    fn db(&self) -> io::Result<&sled::Db> {
        let closed = || io::Error::other("the database could not be opened again");
        self.db.as_ref().ok_or_else(closed)
    }

    fn noted<T>(&mut self, result: Result<T, sled::Error>) -> io::Result<T> {
        self.failed |= result.is_err();
        Ok(result?)
    }
}

impl Table for Sled {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.db()?.get(key)?.map(|value| value.to_vec()))
    }

    fn is_empty(&self) -> bool {
        self.db.as_ref().is_none_or(|db| db.iter().next().is_none())
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = io::Result<TableItem>> + 'a> {
        let items = match self.db() {
            Ok(db) => db.scan_prefix(prefix),
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        Box::new(items.map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(io::Error::from)))
    }

    fn write(&mut self, writes: Vec<TableWrite>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let written = self.db()?.apply_batch(batch);
        self.noted(written)
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.failed || self.db.is_none() {
            drop(self.db.take());
            match fs::remove_dir_all(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.db = Some(Sled::open(&self.dir)?);
            self.failed = false;
        }
        let cleared = self.db()?.clear();
        self.noted(cleared)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.db()?.flush();
        self.noted(flushed).map(|_| ())
    }
}
