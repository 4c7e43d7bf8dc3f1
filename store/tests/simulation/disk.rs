//! A disk in memory. Of each file, of the names in each directory, and of the state
//! database it knows what was synced, and what was only written: a power loss takes any
//! part of the latter, sector by sector; a process that is killed loses nothing.

mod table;

use crate::random::{Random, lock};
use skiff_store::host::{Disk, DiskFile, Lock, Open, Table, TableWrite};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use table::SimTable;
use tokio::sync::Notify;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Batches of the database that a power loss may still take.
const UNSYNCED_BATCHES_MAX: usize = 64;

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Length(length) => content.resize(*length, 0),
        }
    }

    /// Sectors that came down, each by its own luck.
    fn tear(&self, random: &Random) -> Vec<Change> {
        let Change::Write(at, bytes) = self else {
            return vec![self.clone()];
        };
        let mut kept = Vec::new();
        let mut from = 0;
        while from < bytes.len() {
            let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
            if random.once_in(2) {
                kept.push(Change::Write(at + from, bytes[from..to].to_vec()));
            }
            from = to;
        }
        kept
    }
}

#[derive(Default)]
struct Inode {
    content: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Default)]
struct TableData {
    content: BTreeMap<Vec<u8>, Vec<u8>>,
    synced: BTreeMap<Vec<u8>, Vec<u8>>,
    unsynced: Vec<Vec<TableWrite>>,
}

fn write_table(table: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &[TableWrite]) {
    for (key, value) in batch {
        match value {
            Some(value) => table.insert(key.clone(), value.clone()),
            None => table.remove(key),
        };
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Dir,
    File(u64),
    Table(u64),
}

enum NameChange {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type Names = BTreeMap<PathBuf, Node>;

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Put(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let below = path.strip_prefix(from).expect("it starts with it");
                    let there = match below == Path::new("") {
                        true => to.clone(),
                        false => to.join(below),
                    };
                    if let Some(node) = names.remove(&path) {
                        names.insert(there, node);
                    }
                }
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Put(path, _) | NameChange::Remove(path) | NameChange::Rename(_, path) => path.parent(),
        }
    }
}

/// What remains when nothing runs.
#[derive(Default)]
struct Platter {
    names: Names,
    synced_names: Names,
    unsynced_names: Vec<NameChange>,
    files: BTreeMap<u64, Inode>,
    tables: BTreeMap<u64, TableData>,
    next: u64,
}

/// One start of a server: what it holds is void when it ends.
#[derive(Default)]
pub struct Life {
    ended: AtomicBool,
    pub end: Notify,
}

impl Life {
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub fn finish(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    pub async fn ends(&self) {
        loop {
            let end = self.end.notified();
            if self.has_ended() {
                return;
            }
            end.await;
        }
    }
}

#[derive(Default)]
struct Faults {
    /// Steps to a power loss in the midst of things.
    fuse: Option<u64>,
    /// The next sync fails.
    sync_fails: bool,
    /// One did: what is read may not be what is kept.
    sync_failed: bool,
    /// No space is left for what was not reserved.
    full: bool,
}

/// The disk of one server through all its lives.
#[derive(Clone)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    faults: Arc<Mutex<Faults>>,
    /// The log was written to where it had no space.
    unreserved: Arc<AtomicBool>,
    life: Arc<Life>,
    random: Random,
}

impl SimDisk {
    pub fn new(random: Random) -> Self {
        let life = Arc::new(Life::default());
        life.finish();
        SimDisk {
            platter: Arc::default(),
            faults: Arc::default(),
            unreserved: Arc::default(),
            life,
            random,
        }
    }

    /// For another life of the server.
    pub fn for_life(&self, life: Arc<Life>) -> SimDisk {
        // Whoever saw a sync fail starts the machine anew, not the process alone.
        if lock(&self.faults).sync_failed {
            self.lose_power();
        }
        *lock(&self.faults) = Faults::default();
        SimDisk { life, ..self.clone() }
    }

    pub fn lose_power_in(&self, steps: u64) {
        lock(&self.faults).fuse = Some(steps);
    }

    pub fn fail_sync(&self) {
        lock(&self.faults).sync_fails = true;
    }

    /// Nothing fails any more.
    pub fn calm(&self) {
        let mut faults = lock(&self.faults);
        *faults = Faults {
            sync_failed: faults.sync_failed,
            ..Faults::default()
        };
    }

    pub fn set_full(&self, full: bool) {
        lock(&self.faults).full = full;
    }

    /// Takes what was not synced, or parts of it.
    pub fn lose_power(&self) {
        let (random, mut platter) = (&self.random, lock(&self.platter));
        let Platter {
            names,
            synced_names,
            unsynced_names,
            files,
            tables,
            ..
        } = &mut *platter;
        // Journals keep the order of what happens to names.
        let kept = random.below(0..unsynced_names.len() as u64 + 1) as usize;
        unsynced_names.iter().take(kept).for_each(|c| c.apply(synced_names));
        unsynced_names.clear();
        while let Some(orphan) = synced_names.keys().find(|p| {
            p.parent()
                .is_some_and(|d| d != Path::new("/") && !synced_names.contains_key(d))
        }) {
            let orphan = orphan.clone();
            synced_names.remove(&orphan);
        }
        *names = synced_names.clone();
        let luck = random.below(0..4);
        for inode in files.values_mut() {
            for change in std::mem::take(&mut inode.unsynced) {
                match luck {
                    0 => {}
                    1 => change.apply(&mut inode.synced),
                    _ if random.once_in(3) => {}
                    _ if random.once_in(2) => change.apply(&mut inode.synced),
                    _ => change.tear(random).iter().for_each(|c| c.apply(&mut inode.synced)),
                }
            }
            inode.content = inode.synced.clone();
        }
        for table in tables.values_mut() {
            let batches = std::mem::take(&mut table.unsynced);
            let kept = random.below(0..batches.len() as u64 + 1) as usize;
            let damaged = random.once_in(3);
            for (at, batch) in batches.into_iter().enumerate() {
                let batch: Vec<TableWrite> = match damaged {
                    true => batch.into_iter().filter(|_| !random.once_in(3)).collect(),
                    false if at < kept => batch,
                    false => break,
                };
                write_table(&mut table.synced, &batch);
            }
            table.content = table.synced.clone();
        }
    }

    /// A file that was brought here by other means, and is safe.
    pub fn put_file(&self, path: &Path, bytes: &[u8]) {
        let mut platter = lock(&self.platter);
        platter.next += 1;
        let inode = platter.next;
        let content = Inode {
            content: bytes.to_vec(),
            synced: bytes.to_vec(),
            unsynced: Vec::new(),
        };
        platter.files.insert(inode, content);
        platter.names.insert(path.into(), Node::File(inode));
        platter.synced_names.insert(path.into(), Node::File(inode));
    }

    pub fn erase(&self) {
        *lock(&self.platter) = Platter::default();
    }

    /// Everything that touches the disk passes here.
    fn step(&self) -> io::Result<()> {
        if self.life.has_ended() {
            return Err(io::Error::other("this server is no more"));
        }
        Ok(())
    }

    /// Everything that changes it passes here: false when the power fails now.
    fn powered(&self) -> io::Result<bool> {
        self.step()?;
        let mut faults = lock(&self.faults);
        self.random.note(0xd15c);
        match &mut faults.fuse {
            Some(0) => {
                self.life.finish();
                Ok(false)
            }
            Some(steps) => {
                *steps -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn change_names(&self, platter: &mut Platter, change: NameChange) -> io::Result<()> {
        let powered = self.powered()?;
        change.apply(&mut platter.names);
        platter.unsynced_names.push(change);
        match powered {
            true => Ok(()),
            false => Err(io::Error::other("the power failed")),
        }
    }

    /// The log finds no space for what it has taken on.
    fn note_unreserved(&self, inode: u64) {
        let platter = lock(&self.platter);
        let name = platter.names.iter().find(|(_, node)| **node == Node::File(inode));
        if let Some((path, _)) = name
            && path.extension().is_some_and(|e| e == "log")
        {
            self.unreserved.store(true, Ordering::Release);
        }
    }

    /// Was more written to the log than it had space for?
    pub fn was_unreserved(&self) -> bool {
        self.unreserved.load(Ordering::Acquire)
    }

    fn full(&self) -> io::Result<()> {
        match lock(&self.faults).full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.step()?;
        let mut platter = lock(&self.platter);
        let found = match platter.names.get(path) {
            Some(Node::File(inode)) => Some(*inode),
            Some(_) => return Err(io::ErrorKind::IsADirectory.into()),
            None => None,
        };
        let inode = match (found, how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Open::Read | Open::Write) => return Err(absent()),
            (Some(inode), _) => inode,
            (None, _) => {
                if !path.parent().is_some_and(|dir| platter.names.contains_key(dir)) {
                    return Err(absent());
                }
                platter.next += 1;
                let inode = platter.next;
                platter.files.insert(inode, Inode::default());
                self.change_names(&mut platter, NameChange::Put(path.into(), Node::File(inode)))?;
                inode
            }
        };
        drop(platter);
        let file = SimFile {
            disk: self.clone(),
            inode,
        };
        if how == Open::Empty && found.is_some() {
            file.set_len(0)?;
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        if !platter.names.contains_key(from) {
            return Err(absent());
        }
        self.change_names(&mut platter, NameChange::Rename(from.into(), to.into()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        if !platter.names.contains_key(path) {
            return Err(absent());
        }
        self.change_names(&mut platter, NameChange::Remove(path.into()))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        let mut missing: Vec<&Path> = path.ancestors().take_while(|p| *p != Path::new("/")).collect();
        missing.reverse();
        for dir in missing {
            if !platter.names.contains_key(dir) {
                self.change_names(&mut platter, NameChange::Put(dir.into(), Node::Dir))?;
            }
            platter.synced_names.insert(dir.into(), Node::Dir);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.step()?;
        let platter = lock(&self.platter);
        if !platter.names.contains_key(dir) {
            return Err(absent());
        }
        let inside = platter.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if !self.powered()? {
            return Err(io::Error::other("the power failed"));
        }
        let mut platter = lock(&self.platter);
        let changes = std::mem::take(&mut platter.unsynced_names);
        for change in changes {
            match change.dir() == Some(dir) {
                true => change.apply(&mut platter.synced_names),
                false => platter.unsynced_names.push(change),
            }
        }
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Lock> {
        self.step()?;
        Ok(Box::new(()))
    }

    fn table(&self, dir: &Path) -> io::Result<Box<dyn Table>> {
        self.step()?;
        let mut platter = lock(&self.platter);
        let path = dir.join("db");
        let number = match platter.names.get(&path) {
            Some(Node::Table(number)) => *number,
            _ => {
                platter.next += 1;
                let number = platter.next;
                platter.tables.insert(number, TableData::default());
                for (path, node) in [(dir.to_path_buf(), Node::Dir), (path, Node::Table(number))] {
                    self.change_names(&mut platter, NameChange::Put(path, node))?;
                }
                number
            }
        };
        let disk = self.clone();
        let held = platter.tables[&number].content.clone();
        Ok(Box::new(SimTable { disk, number, held }))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        let all: Vec<PathBuf> = platter
            .names
            .keys()
            .filter(|path| path.starts_with(dir))
            .cloned()
            .collect();
        if all.is_empty() {
            return Err(absent());
        }
        // What is in it goes before itself.
        for path in all.into_iter().rev() {
            self.change_names(&mut platter, NameChange::Remove(path))?;
        }
        Ok(())
    }
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let powered = self.disk.powered()?;
        let mut platter = lock(&self.disk.platter);
        let inode = platter.files.get_mut(&self.inode).ok_or_else(absent)?;
        change.apply(&mut inode.content);
        inode.unsynced.push(change);
        match powered {
            true => Ok(()),
            false => Err(io::Error::other("the power failed")),
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.step()?;
        let platter = lock(&self.disk.platter);
        let inode = platter.files.get(&self.inode).ok_or_else(absent)?;
        let rest = inode.content.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // What it has of the disk already is written to also when that is full.
        let has = (self.len()? as usize).next_multiple_of(SECTOR);
        if has < offset as usize + bytes.len() {
            self.disk
                .full()
                .inspect_err(|_| self.disk.note_unreserved(self.inode))?;
        }
        self.change(Change::Write(offset as usize, bytes.to_vec()))
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.step()?;
        let platter = lock(&self.disk.platter);
        Ok(platter.files.get(&self.inode).ok_or_else(absent)?.content.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(Change::Length(bytes as usize))
    }

    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        if self.len()? < bytes {
            self.disk.full()?;
            self.change(Change::Length(bytes as usize))?;
        }
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.disk.powered()? {
            return Err(io::Error::other("the power failed"));
        }
        let failed = {
            let mut faults = lock(&self.disk.faults);
            let failed = std::mem::take(&mut faults.sync_fails);
            faults.sync_failed |= failed;
            failed
        };
        let mut platter = lock(&self.disk.platter);
        let inode = platter.files.get_mut(&self.inode).ok_or_else(absent)?;
        let changes = std::mem::take(&mut inode.unsynced);
        if failed {
            // The kernel says so once, and then takes the pages for clean.
            return Err(io::Error::other("the sync failed"));
        }
        changes.iter().for_each(|c| c.apply(&mut inode.synced));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }
}
