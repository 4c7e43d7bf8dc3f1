//! Where leases are kept: `<dataDir>/<network>/leases.json`, changed under a
//! lock on `lock` beside it by writing a new file, syncing it and renaming it
//! over the old. A crash at any point leaves the old leases or the new ones.
//!
//! The directory is not synced, which would double the time of an ADD: losing
//! power may bring back the leases of some seconds ago. Then no sandbox is left
//! either, so no address can be in use twice; a pod whose lease was that young
//! may come back with another address.

use crate::error::Error;
use crate::ipam::Leases;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's format. Raise it when an older plugin would misread the file.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    #[serde(flatten)]
    leases: Leases,
}

pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub fn open(data_dir: &Path, network: &str) -> Result<Store, Error> {
        let dir = data_dir.join(network);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(io("create", &dir))?;
        Ok(Store { dir })
    }

    pub fn read(&self) -> Result<Leases, Error> {
        let path = self.dir.join("leases.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Leases::default()),
            Err(error) => return Err(io("read", &path)(error)),
        };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| io("decode", &path)(std::io::Error::other(error)))?;
        if document.format != FORMAT {
            let problem = format!("format {} is not {FORMAT}; upgrade the plugin", document.format);
            return Err(io("decode", &path)(std::io::Error::other(problem)));
        }
        Ok(document.leases)
    }

    /// Runs `change` on the leases while nobody else can, and puts the outcome
    /// in the old one's place before returning. Nothing is written when nothing changed.
    pub fn change<T>(&self, change: impl FnOnce(&Leases) -> Result<(Leases, T), Error>) -> Result<T, Error> {
        let path = self.dir.join("lock");
        let file = open(OpenOptions::new().create(true).append(true), &path)?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io("lock", &path)(errno.into()))?;
        let before = self.read()?;
        let (after, outcome) = change(&before)?;
        if after != before {
            self.write(after)?;
        }
        Ok(outcome)
    }

    fn write(&self, leases: Leases) -> Result<(), Error> {
        let (path, fresh) = (self.dir.join("leases.json"), self.dir.join("leases.json.new"));
        let bytes = serde_json::to_vec(&Document { format: FORMAT, leases })
            .map_err(|error| io("encode", &path)(std::io::Error::other(error)))?;
        let mut file = open(OpenOptions::new().create(true).write(true).truncate(true), &fresh)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .map_err(io("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(io("replace", &path))
    }
}

fn open(options: &mut OpenOptions, path: &Path) -> Result<File, Error> {
    options.mode(0o600).open(path).map_err(io("open", path))
}

fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let action = format!("{verb} {}", path.display());
    move |source| Error::Io { action, source }
}
