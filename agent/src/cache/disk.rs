//! The copy on disk: one file per object, replaced atomically; secrets sealed
//! with a key that lies beside them and only root can read.

use crate::error::Error;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    key: LessSafeKey,
    writes: mpsc::Sender<Change>,
}

#[derive(Debug)]
enum Change {
    Put(PathBuf, Vec<u8>),
    Remove(PathBuf),
}

/// A pod starts in less; a node that dies meanwhile lacks what the API still has.
const GATHER: Duration = Duration::from_millis(500);
/// Keeps what waits small when a large cluster is first listed.
const GATHERED_MAX: usize = 256;
const SEALED: [&str; 2] = ["secrets", "tokens"];

impl Disk {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let path = dir.join("key");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == AES_256_GCM.key_len() => bytes,
            _ => {
                let mut fresh = vec![0; AES_256_GCM.key_len()];
                SystemRandom::new()
                    .fill(&mut fresh)
                    .map_err(|_| Error::Copy("no randomness for the node's key".into()))?;
                write_atomically(&path, &fresh, 0o600).map_err(Error::io("write", &path))?;
                fresh
            }
        };
        let key =
            UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::Copy("the node's key is unusable".into()))?;
        let (writes, queue) = mpsc::channel();
        // Syncing must not hold up a pod that starts: one thread writes behind, in order.
        std::thread::Builder::new()
            .name("copy-writer".into())
            .stack_size(128 << 10)
            .spawn(move || write_behind(&queue))
            .map_err(Error::io("start the writer of", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            key: LessSafeKey::new(key),
            writes,
        })
    }

    fn path(&self, kind: &str, namespace: &str, name: &str) -> PathBuf {
        // Neither part can contain a slash; the comma is in no Kubernetes name.
        self.dir.join(kind).join(format!("{namespace},{name}"))
    }

    pub fn put(&self, kind: &str, namespace: &str, name: &str, mut bytes: Vec<u8>) {
        if SEALED.contains(&kind) {
            let mut nonce = [0; NONCE_LEN];
            if SystemRandom::new().fill(&mut nonce).is_err() {
                return;
            }
            let unique = Nonce::assume_unique_for_key(nonce);
            if self
                .key
                .seal_in_place_append_tag(unique, Aad::empty(), &mut bytes)
                .is_err()
            {
                return;
            }
            bytes.splice(0..0, nonce);
        }
        let _ = self.writes.send(Change::Put(self.path(kind, namespace, name), bytes));
    }

    pub fn remove(&self, kind: &str, namespace: &str, name: &str) {
        let _ = self.writes.send(Change::Remove(self.path(kind, namespace, name)));
    }

    /// Every readable object of the kind; a damaged one is as if it were not there.
    pub fn load(&self, kind: &str) -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(self.dir.join(kind)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let mut bytes = std::fs::read(entry.path()).ok()?;
                if SEALED.contains(&kind) {
                    if bytes.len() < NONCE_LEN {
                        return None;
                    }
                    let mut sealed = bytes.split_off(NONCE_LEN);
                    let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
                    let plain = self.key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
                    bytes = plain.to_vec();
                }
                Some(bytes)
            })
            .collect()
    }
}

/// Pods change several times while they start or end; each file is written once.
fn write_behind(queue: &mpsc::Receiver<Change>) {
    let mut latest: BTreeMap<PathBuf, Option<Vec<u8>>> = BTreeMap::new();
    while let Ok(first) = queue.recv() {
        let until = Instant::now() + GATHER;
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Change::Put(path, bytes) => latest.insert(path, Some(bytes)),
                Change::Remove(path) => latest.insert(path, None),
            };
            next = match latest.len() {
                GATHERED_MAX.. => None,
                _ => queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
            };
        }
        for (path, bytes) in std::mem::take(&mut latest) {
            let outcome = match bytes {
                Some(bytes) => write_atomically(&path, &bytes, 0o600),
                None => std::fs::remove_file(&path),
            };
            if let Err(error) = outcome
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "cannot keep the node's copy");
            }
        }
    }
}

pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}
