//! Reads a log file in chunks, from the last N lines on if asked, and follows
//! it through rotation until the container has ended.

use super::line::{LogOptions, Selection};
use crate::runtime::Runtime;
use bytes::Bytes;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Read at once; also the longest line kept whole (containerd splits at 16 KiB).
const CHUNK_BYTES: usize = 64 * 1024;
/// While following a silent log: how often to look whether the container ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A log that has just fallen silent may have ended with its container.
const LOOK_SOON: Duration = Duration::from_millis(100);

/// Sends the log to `out` until it ends or the receiver is gone. Dropping the
/// receiver stops it.
pub async fn stream(
    runtime: Arc<dyn Runtime>,
    container: String,
    path: PathBuf,
    options: LogOptions,
    now: jiff::Timestamp,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
) {
    let result = tokio::select! {
        result = run(runtime, container, &path, &options, now, &out) => result,
        () = out.closed() => return,
    };
    if let Err(error) = result {
        // The receiver may be gone; then nobody wants to know.
        let _ = out.send(Err(error)).await;
    }
}

async fn run(
    runtime: Arc<dyn Runtime>,
    container: String,
    path: &Path,
    options: &LogOptions,
    now: jiff::Timestamp,
    out: &mpsc::Sender<Result<Bytes, io::Error>>,
) -> io::Result<()> {
    let mut selection = Selection::new(options, now);
    // Watched before it is read, so that no write in between is missed.
    let watch = if options.follow { Some(Watch::new(path)?) } else { None };
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Rotated away or never written: an empty log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(lines) = options.tail_lines {
        let offset = tail_offset(&file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
    }
    let mut rest = Vec::new();
    // Asked before the log is read, so that nothing written before the end is missed,
    // but not with every line of a busy log.
    let mut look = true;
    loop {
        let ended = match &watch {
            Some(_) => look && !runtime.is_running(&container).await,
            None => true,
        };
        if !drain(&mut file, &mut rest, &mut selection, out).await? {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
        let Some(watch) = &watch else { return Ok(()) };
        match File::open(path) {
            // Rotated: the rest of the old file has been read, go on in the new one.
            Ok(new) if new.metadata()?.ino() != file.metadata()?.ino() => {
                drain(&mut file, &mut rest, &mut selection, out).await?;
                file = new;
                continue;
            }
            _ => {}
        }
        tokio::select! {
            changed = watch.changed() => {
                changed?;
                look = false;
            }
            () = tokio::time::sleep(if look { LOOK_EVERY } else { LOOK_SOON }) => look = true,
        }
    }
}

/// Sends all there is; false when no more is wanted.
async fn drain(
    file: &mut File,
    rest: &mut Vec<u8>,
    selection: &mut Selection,
    out: &mpsc::Sender<Result<Bytes, io::Error>>,
) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(true);
        }
        rest.extend_from_slice(&buffer[..count]);
        let mut answer = Vec::with_capacity(count);
        let mut begin = 0;
        while let Some(length) = rest[begin..].iter().position(|byte| *byte == b'\n') {
            selection.take(&rest[begin..begin + length], &mut answer);
            begin += length + 1;
        }
        rest.drain(..begin);
        if !answer.is_empty() && out.send(Ok(Bytes::from(answer))).await.is_err() {
            return Ok(false);
        }
        if selection.is_full() {
            return Ok(false);
        }
    }
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut seen = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK_BYTES as u64);
        let size = usize::try_from(end - begin).unwrap_or(CHUNK_BYTES);
        file.read_exact_at(&mut buffer[..size], begin)?;
        for at in (0..size).rev() {
            let position = begin + at as u64;
            // The last line's own end does not count.
            if buffer[at] == b'\n' && position + 1 < length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

/// Tells of writes to the file and of files that appear beside it.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY,
        )?;
        // SAFETY: the descriptor is owned by the AsyncFd and closed only with it.
        let registered = unsafe { AsyncFd::register(OwnedFd::from(inotify)) };
        Ok(Self(registered?))
    }

    async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        // Which file it was does not matter: what is there is read anyway.
        let mut events = [0; 4096];
        while nix::unistd::read(ready.get_inner(), &mut events).is_ok_and(|count| count > 0) {}
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
