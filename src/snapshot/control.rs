//! How the command asks the running server: a line of JSON there and one back, over a
//! socket in the data directory, which only root can reach.

use super::{Place, SUFFIX, free_name, schedule, secret_files, snapshot_key, told};
use crate::{files, paths};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use skiff_store::RaftStore;
use skiff_store::backup::About;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// A question is a line; a longer one is none.
const QUESTION_MAX: u64 = 4096;

/// How long one may take to ask.
const ASK_MAX: Duration = Duration::from_secs(10);

/// What taking snapshots needs.
#[derive(Debug, Clone)]
pub(super) struct Taker {
    pub data_dir: PathBuf,
    pub place: Place,
}

impl Taker {
    /// Takes one, and says where it is.
    pub async fn take(&self, store: &RaftStore, what: &str) -> Result<(PathBuf, About)> {
        let dir = self.place.dir(&self.data_dir);
        files::private_directory(&dir)?;
        schedule::remove_leftovers(&dir);
        let path = free_name(&dir, what)?;
        let sealed = (
            secret_files(&self.data_dir)?,
            snapshot_key(&self.place.key(&self.data_dir))?,
        );
        let about = store.back_up(&path, Some(sealed), crate::VERSION).await?;
        tracing::info!(path = %path.display(), bytes = about.bytes, revision = about.revision, "took a snapshot");
        Ok((path, about))
    }
}

/// Listens until told to stop.
pub async fn serve(data_dir: PathBuf, place: Place, store: Arc<RaftStore>, shutdown: CancellationToken) -> Result<()> {
    let path = data_dir.join(paths::CONTROL);
    let _ = std::fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            // A data directory with a very long name, say: everything else works without.
            tracing::warn!(%error, path = %path.display(), "`skiff snapshot save` cannot reach this server");
            shutdown.cancelled().await;
            return Ok(());
        }
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let taker = Taker { data_dir, place };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One after the other: each reads and writes all there is.
        if let Err(error) = answer(stream, &taker, &store).await {
            tracing::debug!(%error, "an asker went away");
        }
    }
    let _ = std::fs::remove_file(&path);
    Ok(())
}

async fn answer(mut stream: UnixStream, taker: &Taker, store: &RaftStore) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(QUESTION_MAX));
    tokio::time::timeout(ASK_MAX, reader.read_line(&mut line)).await??;
    let asked: Value = serde_json::from_str(&line)?;
    let said = match asked["save"].as_str() {
        None => json!({"error": "the server does not know this question: its release is another"}),
        Some(what) => match taker.take(store, what).await {
            Ok((path, about)) => json!({"path": path, "told": told(&about), "bytes": about.bytes}),
            Err(error) => json!({"error": format!("{error:#}")}),
        },
    };
    writer.write_all(format!("{said}\n").as_bytes()).await?;
    Ok(())
}

pub(super) async fn ask(data_dir: &Path, what: &str) -> Result<()> {
    let path = data_dir.join(paths::CONTROL);
    let connected = UnixStream::connect(&path).await;
    let mut stream = connected.with_context(|| {
        format!(
            "no server runs on {} (cannot reach {})",
            data_dir.display(),
            path.display()
        )
    })?;
    stream
        .write_all(format!("{}\n", json!({"save": what})).as_bytes())
        .await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    if line.is_empty() {
        bail!(
            "the server ended before the snapshot was taken; what it had begun is no snapshot and goes with the next one"
        );
    }
    let said: Value = serde_json::from_str(&line)?;
    if let Some(error) = said["error"].as_str() {
        bail!("{error}");
    }
    let shown = said["path"].as_str().unwrap_or_default();
    println!("{shown}: {}", said["told"].as_str().unwrap_or_default());
    if shown.ends_with(SUFFIX) {
        println!("To restore it on another machine you need the snapshot key too: keep a copy of it elsewhere.");
    }
    Ok(())
}
