//! Reads a log file in chunks, from the last N lines on if asked, and follows
//! it through rotation until the container has ended.

use super::line::{LogOptions, Selection};
use super::notice::{Notices, Watch};
use crate::runtime::Runtime;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
const FIRST_BYTES: usize = 4 * 1024;
/// containerd splits lines at 16 KiB: what is longer is no log.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How long a log that is not there may be in the middle of its rotation.
const ROTATION_LOOKS: u32 = 10;
const ROTATION_PAUSE: Duration = Duration::from_millis(20);

/// Whose log it is.
pub struct Followed {
    pub runtime: Arc<dyn Runtime>,
    pub notices: Arc<Notices>,
    /// Id of the container.
    pub container: String,
    pub path: PathBuf,
}

/// Sends the log to `out` until it ends or the receiver is gone. Dropping the
/// receiver stops it.
pub async fn stream(
    followed: Followed,
    options: LogOptions,
    now: jiff::Timestamp,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
) {
    let result = tokio::select! {
        result = run(&followed, &options, now, &out) => result,
        () = out.closed() => return,
    };
    if let Err(error) = result {
        // The receiver may be gone; then nobody wants to know.
        let _ = out.send(Err(error)).await;
    }
}

async fn run(
    followed: &Followed,
    options: &LogOptions,
    now: jiff::Timestamp,
    out: &mpsc::Sender<Result<Bytes, io::Error>>,
) -> io::Result<()> {
    let path = followed.path.as_path();
    let mut selection = Selection::new(options, now);
    // Watched before it is read, so that no write in between is missed.
    let watch = match options.follow {
        true => Some(followed.notices.watch(path.parent().unwrap_or(Path::new("/")))?),
        false => None,
    };
    let Some(file) = open(path).await? else { return Ok(()) };
    let mut current = Source::new(file);
    if let Some(lines) = options.tail_lines {
        let offset = tail_offset(&current.file, lines)?;
        current.file.seek(SeekFrom::Start(offset))?;
    }
    let mut old: Option<Source> = None;
    let mut end = std::pin::pin!(followed.runtime.ended(&followed.container));
    // Known before the log is read, so that nothing written before the end is missed.
    let mut ended = watch.is_none();
    loop {
        let news = watch.as_ref().map(Watch::news);
        // Its writer may have gone on for a moment after the new file was there.
        if let Some(old) = &mut old
            && !old.drain(&mut selection, out).await?
        {
            return Ok(());
        }
        if !current.drain(&mut selection, out).await? {
            return Ok(());
        }
        if watch.is_some() {
            match File::open(path) {
                Ok(new) if new.metadata()?.ino() != current.file.metadata()?.ino() => {
                    old = Some(std::mem::replace(&mut current, Source::new(new)));
                    continue;
                }
                _ => {}
            }
        }
        let (false, Some(news)) = (ended, news) else {
            return Ok(());
        };
        tokio::select! {
            () = news => {}
            () = &mut end => ended = true,
        }
    }
}

/// `None`: never written. One that is being rotated is there again in a moment.
async fn open(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..ROTATION_LOOKS {
        match File::open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(ROTATION_PAUSE).await;
    }
    Ok(None)
}

/// A log file that is being read.
struct Source {
    file: File,
    /// Of a line whose end has not been written yet.
    rest: Vec<u8>,
}

impl Source {
    fn new(file: File) -> Self {
        Self { file, rest: Vec::new() }
    }

    /// Sends all there is; false when no more is wanted.
    async fn drain(
        &mut self,
        selection: &mut Selection,
        out: &mpsc::Sender<Result<Bytes, io::Error>>,
    ) -> io::Result<bool> {
        // Most wake-ups find a line or nothing: the buffer grows with what is found.
        let mut buffer = vec![0; FIRST_BYTES];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&buffer[..count]);
            if count == buffer.len() {
                buffer.resize(CHUNK_BYTES, 0);
            }
            let mut answer = Vec::with_capacity(self.rest.len());
            let mut begin = 0;
            while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
                selection.take(&self.rest[begin..begin + length], &mut answer);
                begin += length + 1;
            }
            self.rest.drain(..begin);
            if self.rest.len() > LINE_BYTES_MAX {
                self.rest.clear();
            }
            if !answer.is_empty() && out.send(Ok(Bytes::from(answer))).await.is_err() {
                return Ok(false);
            }
            if selection.is_full() {
                return Ok(false);
            }
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

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
