//! What the store asks of a disk. Paths are the real ones; a simulated disk keeps for
//! each file and directory what was synced apart from what was only written.

use std::any::Any;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    Read,
    /// It is there, and is written to.
    Write,
    /// It must not be there yet.
    New,
    /// Empty, whether it was there or not.
    Empty,
    /// As it is, or empty if it was not there.
    Keep,
}

/// Ends with the process, or when it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// A file system. Files are for nobody's eyes but their owner's.
pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and those above it; their names are on stable storage afterwards.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// What lies in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Puts the names in a directory on stable storage.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// `WouldBlock` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
    /// Opens, or begins, the database in this directory.
    fn table(&self, dir: &Path) -> io::Result<Box<dyn Table>>;
    /// Removes a directory with all in it: a database, say.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
}

pub trait DiskFile: Send + Sync + 'static {
    /// Bytes read; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves space from the beginning on; false if the file system cannot.
    fn reserve(&self, bytes: u64) -> io::Result<bool>;
    /// Content and length are on stable storage afterwards.
    fn sync(&self) -> io::Result<()>;
    /// Like `sync`, without times and the like.
    fn sync_data(&self) -> io::Result<()>;

    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    fn read_exact_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    bytes = &mut bytes[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len()? as usize];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Reads or writes a file from a place on.
pub struct Stream {
    pub file: Arc<dyn DiskFile>,
    pub at: u64,
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A key and its value.
pub type TableItem = (Vec<u8>, Vec<u8>);

/// A key with its new value, or none.
pub type TableWrite = (Vec<u8>, Option<Vec<u8>>);

/// An ordered table of bytes that may lose what was written last when the power fails,
/// and may be damaged then: whoever reads it checks what it says.
pub trait Table: Send + 'static {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    fn is_empty(&self) -> bool;
    /// All keys with this prefix, in order.
    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = io::Result<TableItem>> + 'a>;
    /// All or nothing, as far as a process that is killed goes.
    fn write(&mut self, batch: Vec<TableWrite>) -> io::Result<()>;
    fn clear(&mut self) -> io::Result<()>;
    /// Begins to bring to the disk what was written.
    fn flush(&mut self) -> io::Result<()>;
}
