//! `skiff snapshot`, and the snapshots that a server takes by itself.
//!
//! A snapshot is one file with all that the store has and, sealed with the snapshot key, the
//! cluster's keys and certificates. `control` lets the command ask the running server for
//! one · `schedule` takes them by the clock · `restore` puts one back.

mod control;
mod restore;
mod schedule;

pub use control::serve;
pub use restore::refuse_half_restored;
pub use schedule::{Scheduled, keep};

use crate::{files, paths};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use skiff_store::backup::{self, About, SecretFile, SecretKey};
use std::path::{Path, PathBuf};

/// How snapshots' names end.
const SUFFIX: &str = ".skiff";

/// More in the folder of keys is not ours.
const SECRET_FILES_MAX: usize = 256;
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Where snapshots are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory of the snapshots [default: <data-dir>/server/snapshots]
    #[arg(
        long,
        alias = "etcd-snapshot-dir",
        env = "SKIFF_SNAPSHOT_DIR",
        global = true,
        value_name = "DIR"
    )]
    pub snapshot_dir: Option<PathBuf>,
    /// File with the key that seals the cluster's keys in snapshots; keep a copy of it elsewhere [default:
    /// <data-dir>/server/snapshot.key]
    #[arg(long, env = "SKIFF_SNAPSHOT_KEY", global = true, value_name = "FILE")]
    pub snapshot_key: Option<PathBuf>,
}

impl Place {
    fn dir(&self, data_dir: &Path) -> PathBuf {
        self.snapshot_dir
            .clone()
            .unwrap_or_else(|| data_dir.join(paths::SNAPSHOTS))
    }

    fn key(&self, data_dir: &Path) -> PathBuf {
        self.snapshot_key
            .clone()
            .unwrap_or_else(|| data_dir.join(paths::SNAPSHOT_KEY))
    }
}

#[derive(Debug, Clone, Args)]
pub struct SnapshotArgs {
    /// Directory of everything that Skiff keeps
    #[arg(
        long,
        global = true,
        env = "SKIFF_DATA_DIR",
        default_value = "/var/lib/skiff",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub action: SnapshotAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotAction {
    /// Let the running server take one
    Save {
        /// What its name begins with
        #[arg(long, default_value = "on-demand")]
        name: String,
    },
    /// List the snapshots in the directory
    #[command(alias = "ls")]
    List,
    /// Delete snapshots by name
    #[command(alias = "rm")]
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Read a whole snapshot and see that nothing of it is missing or damaged
    Check {
        /// Name or path
        snapshot: String,
    },
    /// Make a cluster of one server of a snapshot, on a machine where no server runs
    Restore {
        /// Name or path
        snapshot: String,
        /// Put the store that is there aside
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(args: SnapshotArgs) -> Result<()> {
    let (data_dir, place) = (&args.data_dir, &args.place);
    let dir = place.dir(data_dir);
    match args.action {
        SnapshotAction::Save { name } => control::ask(data_dir, &name).await,
        SnapshotAction::List => list(&dir),
        SnapshotAction::Delete { names } => delete(&dir, &names),
        SnapshotAction::Check { snapshot } => {
            let path = find(&dir, &snapshot)?;
            let about = backup::check(&path)?;
            println!("{} is whole: {}", path.display(), told(&about));
            Ok(())
        }
        SnapshotAction::Restore { snapshot, force } => {
            restore::run(data_dir, &find(&dir, &snapshot)?, &place.key(data_dir), force).await
        }
    }
}

fn told(about: &About) -> String {
    let sealed = match about.sealed_files {
        0 => "without the cluster's keys".to_owned(),
        n => format!("with {n} files of keys and certificates, sealed"),
    };
    format!(
        "{} keys at revision {}, taken {} by server {} ({}), {sealed}",
        about.keys,
        about.revision,
        time(about.created_ms),
        about.server,
        about.made_by
    )
}

fn time(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(
        || "at an unknown time".into(),
        |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// A name is looked for in the directory; what has a slash is a path.
fn find(dir: &Path, snapshot: &str) -> Result<PathBuf> {
    let path = match snapshot.contains('/') {
        true => PathBuf::from(snapshot),
        false => dir.join(snapshot),
    };
    let with_suffix = PathBuf::from(format!("{}{SUFFIX}", path.display()));
    match [&path, &with_suffix].into_iter().find(|p| p.is_file()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "there is no snapshot {}; `skiff snapshot list` shows those there are",
            path.display()
        ),
    }
}

/// Finished snapshots of a directory, by name.
fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(SUFFIX));
    found.sort();
    Ok(found)
}

fn list(dir: &Path) -> Result<()> {
    println!(
        "{:<48} {:<20} {:>12} {:>12} {:>9}",
        "NAME", "CREATED", "SIZE", "REVISION", "KEYS"
    );
    for path in all(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match backup::describe(&path) {
            Ok(about) => println!(
                "{name:<48} {:<20} {:>12} {:>12} {:>9}",
                time(about.created_ms),
                about.bytes,
                about.revision,
                about.keys
            ),
            Err(error) => println!("{name:<48} {error}"),
        }
    }
    Ok(())
}

fn delete(dir: &Path, names: &[String]) -> Result<()> {
    for name in names {
        ensure!(
            !name.contains('/'),
            "{name:?} is no name of a snapshot in {}",
            dir.display()
        );
        let path = find(dir, name)?;
        std::fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        println!("snapshot {} deleted", path.display());
    }
    Ok(())
}

/// `<what>-<node>-<seconds since 1970>`, and a number where that is taken.
fn free_name(dir: &Path, what: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        !what.is_empty() && what.len() <= 100 && what.chars().all(plain) && !what.starts_with('.'),
        "{what:?} is no name: letters, digits, `-`, `_` and `.` make one"
    );
    let host = crate::address::host_name().unwrap_or_else(|_| "server".into());
    let base = format!("{what}-{host}-{}", Timestamp::now().as_second());
    let numbered = |n: usize| match n {
        0 => format!("{base}{SUFFIX}"),
        n => format!("{base}-{n}{SUFFIX}"),
    };
    let free = (0..100).map(|n| dir.join(numbered(n))).find(|path| !path.exists());
    free.with_context(|| format!("too many snapshots are called {base}"))
}

/// The keys and certificates without which the store's content is of no use.
fn secret_files(data_dir: &Path) -> Result<Vec<SecretFile>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(paths::SERVER_TLS)]);
    while let Some(folder) = folders.pop() {
        let shown = data_dir.join(&folder);
        let entries = std::fs::read_dir(&shown).with_context(|| format!("cannot read {}", shown.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let meta = entry.metadata()?;
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() && path.extension().is_none_or(|e| e != "new") {
                ensure!(
                    found.len() < SECRET_FILES_MAX && meta.len() <= SECRET_BYTES_MAX,
                    "{} is more than keys and certificates: {}",
                    data_dir.join(paths::SERVER_TLS).display(),
                    path.display()
                );
                let bytes = std::fs::read(data_dir.join(&path))?;
                let path = path.to_str().context("a file's name is no text")?.to_owned();
                found.push(SecretFile { path, bytes });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The key that seals, made when it is first needed.
fn snapshot_key(path: &Path) -> Result<SecretKey> {
    files::key(path)
}
