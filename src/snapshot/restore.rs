//! Putting a snapshot back: keys and certificates first, the store last. A mark says that
//! it is under way, so that a server does not start on half of it.

use super::told;
use crate::{files, paths};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use skiff_store::Encryption;
use skiff_store::backup::{self, SecretFile};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// The bodies that are encrypted in the store and so in snapshots.
fn encryption(data_dir: &Path) -> Result<Encryption> {
    Ok(Encryption {
        key: files::key(&data_dir.join(paths::STORE_KEY))?,
        prefixes: vec![Bytes::from_static(b"/registry/core/secrets/")],
    })
}

/// A server must not begin a new cluster with the keys of one that is half restored.
pub fn refuse_half_restored(data_dir: &Path) -> Result<()> {
    let mark = data_dir.join(paths::RESTORING);
    ensure!(
        !mark.exists(),
        "a restore of {} was interrupted: run `skiff snapshot restore` again",
        data_dir.display()
    );
    Ok(())
}

/// Held while the data directory is worked on; fails while a server runs there.
fn lock(data_dir: &Path) -> Result<Option<File>> {
    let path = data_dir.join(paths::SERVER_STORE).join("lock");
    let file = match File::options().write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(_) => bail!("a server runs on {}: stop it first", data_dir.display()),
    }
}

pub async fn run(data_dir: &Path, snapshot: &Path, key: &Path, force: bool) -> Result<()> {
    let about = backup::check(snapshot)?;
    let _lock = lock(data_dir)?;
    let store = data_dir.join(paths::SERVER_STORE);
    let mark = data_dir.join(paths::RESTORING);
    // What one that was interrupted has left here is nobody's, and goes aside as well.
    let force = force || mark.exists();
    let filled = std::fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !filled || force,
        "{} holds a store: --force puts it aside (nothing of it is deleted)",
        store.display()
    );
    let sealed = secrets(data_dir, snapshot, about.sealed_files, key)?;
    let missing = missing_files(data_dir, &sealed, force)?;
    files::private_directory(&data_dir.join(paths::SERVER_TLS))?;
    // From here on a server does not start until all is done: what is refused is refused above.
    files::write_private(&mark, &format!("{}\n", snapshot.display()))?;
    if let Some(dir) = mark.parent() {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.with_context(|| format!("cannot sync {}", dir.display()))?;
    }
    for (path, text) in missing {
        if let Some(folder) = path.parent() {
            files::private_directory(folder)?;
        }
        files::write_private(&path, text)?;
    }
    if filled {
        let aside = store.with_extension(format!("before-{}", Timestamp::now().as_second()));
        std::fs::rename(&store, &aside).with_context(|| format!("cannot put {} aside", store.display()))?;
        println!("The store that was there is now {}", aside.display());
    }
    // What is restored is the first server of its cluster, whichever this one was of the old.
    match std::fs::remove_file(data_dir.join(paths::SERVER_IDENTITY)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("cannot forget which server this was");
        }
        _ => {}
    }
    let restored = backup::restore(snapshot, &store, Some(&encryption(data_dir)?), 1, "").await?;
    std::fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))?;
    println!("Restored {}: {}", snapshot.display(), told(&about));
    println!(
        "`skiff server` goes on from it as a cluster of one, at revision {}. Other servers join it anew, with an empty data directory.",
        restored.revision
    );
    Ok(())
}

/// The cluster's keys, out of the snapshot or as they lie here already.
fn secrets(data_dir: &Path, snapshot: &Path, sealed: u64, key: &Path) -> Result<Vec<SecretFile>> {
    let here = data_dir.join(paths::STORE_KEY).exists();
    if sealed == 0 {
        ensure!(
            here,
            "{} has no keys in it (it was taken through etcd's API), and without {} its Secrets cannot be read: put the cluster's {} there first",
            snapshot.display(),
            paths::STORE_KEY,
            paths::SERVER_TLS
        );
        return Ok(Vec::new());
    }
    if !key.exists() {
        bail!(
            "the cluster's keys in {} are sealed, and the snapshot key {} is not there: name it with --snapshot-key, or put the copy there that was kept",
            snapshot.display(),
            key.display()
        );
    }
    Ok(backup::open_files(snapshot, &files::key(key)?)?)
}

/// Files of the snapshot that are not there, or not as they should be.
fn missing_files<'a>(data_dir: &Path, sealed: &'a [SecretFile], force: bool) -> Result<Vec<(PathBuf, &'a str)>> {
    let mut missing = Vec::new();
    for file in sealed {
        let path = Path::new(&file.path);
        let inside =
            path.starts_with(paths::SERVER_TLS) && path.components().all(|c| matches!(c, Component::Normal(_)));
        ensure!(inside, "the snapshot has a file where none belongs: {:?}", file.path);
        let (path, text) = (data_dir.join(path), std::str::from_utf8(&file.bytes)?);
        match std::fs::read(&path) {
            Ok(kept) if kept == file.bytes => continue,
            // What is issued anew from time to time may differ; the cluster's own keys may not.
            Ok(_) if !force && path.extension().is_some_and(|e| e == "key") && is_root(&path) => bail!(
                "{} is another cluster's than the snapshot's: --force overwrites it",
                path.display()
            ),
            _ => missing.push((path, text)),
        }
    }
    Ok(missing)
}

/// Keys that make the cluster what it is, as against certificates that are issued by them.
fn is_root(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.ends_with("ca") || name.contains("encryption") || name.contains("service-account")
}
