//! `/logs/`: the system's logs, directories as lists of links, files as they are.
//! What a symbolic link leads out of the folder to is not shown.

use crate::error::EndpointError;
use bytes::{Bytes, BytesMut};
use std::io;
use std::path::{Component, Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS_MAX: usize = 4;

#[derive(Debug)]
pub enum Shown {
    /// A page of links.
    Folder(String),
    File(mpsc::Receiver<io::Result<Bytes>>),
}

pub async fn show(root: &Path, asked: &str) -> Result<Shown, EndpointError> {
    let missing = || EndpointError::NotFound("404 page not found".into());
    let path = below(root, asked).ok_or_else(missing)?;
    let (root, path) = (root.to_owned(), path);
    let found = tokio::task::spawn_blocking(move || {
        let (root, real) = (std::fs::canonicalize(root)?, std::fs::canonicalize(path)?);
        if !real.starts_with(root) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let metadata = std::fs::metadata(&real)?;
        if metadata.is_dir() {
            return folder(&real).map(|page| (real, Some(page)));
        }
        if !metadata.is_file() {
            // Reading a pipe or a device might never end.
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok((real, None))
    });
    let (real, page) = match found.await {
        Ok(Ok(found)) => found,
        _ => return Err(missing()),
    };
    if let Some(page) = page {
        return Ok(Shown::Folder(page));
    }
    let mut file = tokio::fs::File::open(&real).await.map_err(|_| missing())?;
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        loop {
            let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
            let chunk = match file.read_buf(&mut buffer).await {
                Ok(0) => return,
                Ok(_) => Ok(buffer.freeze()),
                Err(error) => Err(error),
            };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    Ok(Shown::File(receiver))
}

/// Pure. `None`: the path names something above.
fn below(root: &Path, asked: &str) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in Path::new(asked.trim_start_matches('/')).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

fn folder(path: &Path) -> io::Result<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)?
        .flatten()
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let lines: String = names.iter().map(|name| link(name)).collect();
    Ok(format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n"
    ))
}

fn link(name: &str) -> String {
    let text = name
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;");
    let target = percent_encoding::utf8_percent_encode(name, percent_encoding::CONTROLS).to_string();
    let target = target
        .replace('&', "%26")
        .replace('"', "%22")
        .replace('<', "%3C")
        .replace(' ', "%20");
    format!("<a href=\"{target}\">{text}</a>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        let root = Path::new("/var/log");
        assert_eq!(below(root, "/pods/a"), Some("/var/log/pods/a".into()));
        assert_eq!(below(root, ""), Some("/var/log".into()));
        assert_eq!(below(root, "/../etc/shadow"), None);
        assert_eq!(below(root, "/a/../../etc"), None);
    }

    #[tokio::test]
    async fn folders_files_and_nothing_outside() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("sub")).expect("made");
        std::fs::write(root.join("a<b"), "text").expect("written");
        std::fs::write(dir.path().join("secret"), "no").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).expect("linked");
        let Ok(Shown::Folder(page)) = show(&root, "").await else {
            panic!("no folder")
        };
        assert!(
            page.contains("<a href=\"a%3Cb\">a&lt;b</a>\n") && page.contains("<a href=\"sub/\">sub/</a>\n"),
            "{page}"
        );
        let Ok(Shown::File(mut chunks)) = show(&root, "/a<b").await else {
            panic!("no file")
        };
        let chunk = chunks.recv().await.expect("a chunk").expect("read");
        assert_eq!(&chunk[..], b"text");
        assert!(chunks.recv().await.is_none());
        for nothing in ["/link", "/none", "/../secret"] {
            assert!(show(&root, nothing).await.is_err(), "{nothing}");
        }
    }
}
