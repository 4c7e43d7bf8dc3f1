//! Taking a backup of the running store: of all that was committed when it was asked for,
//! without stopping anybody.

use super::RaftStore;
use crate::backup::{self, About, BackupError, SecretFile, SecretKey};
use crate::contract::{Store, StoreError};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

impl RaftStore {
    /// A backup without sealed files, to be read from the beginning; its name is gone already.
    pub async fn back_up_stream(&self, made_by: &str) -> Result<(File, About), BackupError> {
        let number = super::random_number()?;
        // As what is left of snapshots, what is left of it goes with the next start.
        let path = self.snapshots.dir().join(format!("stream-{number:016x}.partial"));
        let about = self.back_up(&path, None, made_by).await?;
        let opened = crate::host::blocking(move || {
            let file = File::open(&path).map_err(backup::io("opening", &path));
            let _ = std::fs::remove_file(&path);
            file
        });
        let opened = opened.await;
        let file = opened.map_err(|e| StoreError::Internal(format!("taking a backup: {e}")))??;
        Ok((file, about))
    }

    /// Writes a snapshot of the present and lets go of the log before it.
    pub async fn defragment(&self) -> Result<(), StoreError> {
        self.check_open()?;
        self.snapshot_and_purge(&self.seal).await.map(|_| ())
    }

    /// Writes a backup to `path`, which must not be there. `files` are sealed into it.
    pub async fn back_up(
        &self,
        path: &Path,
        files: Option<(Vec<SecretFile>, SecretKey)>,
        made_by: &str,
    ) -> Result<About, BackupError> {
        self.snapshot_linearizable().await?;
        let (point, seal, server) = (self.snapshots.point(), self.seal.clone(), self.id());
        let (path, made_by): (PathBuf, String) = (path.into(), made_by.into());
        let disk = self.config.disk.clone();
        let written = crate::host::blocking(move || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let files = files.as_ref().map(|(files, key)| (&files[..], key));
            let source = backup::Source {
                point: &point,
                seal: &*seal,
                files,
                server,
                created_ms: now.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(0)),
                made_by: &made_by,
            };
            backup::write(&*disk, &path, &source)
        });
        let written = written.await;
        written.map_err(|e| StoreError::Internal(format!("taking a backup: {e}")))?
    }
}
