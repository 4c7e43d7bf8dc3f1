//! Backups: one file with all that the store has and, sealed, the keys without which a
//! cluster cannot be put back on another machine. FORMAT.md has the layout.
//!
//! `file` reads and writes them · `restore` makes a store's directory of one. Taking one
//! of a running store is `RaftStore::back_up`.

mod file;
mod restore;

pub use file::{About, SecretFile, SecretKey, check, check_on, describe, open_files};
pub(crate) use file::{Source, write};
pub use restore::{REVISION_STEP, Restored, restore, restore_on};

/// Why a backup cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0} is no snapshot of Skiff's")]
    Foreign(String),
    #[error(
        "{file} has format {found}; this release reads {}: use the release that wrote it, or newer",
        file::VERSION
    )]
    Version { file: String, found: u32 },
    #[error("{file} is cut short or damaged: {why}; use another snapshot")]
    Damaged { file: String, why: String },
    #[error("the key given is not the one that {0} was sealed with")]
    WrongKey(String),
    #[error("{0} is there already")]
    Exists(String),
    #[error("{action} failed")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] crate::contract::StoreError),
}

pub(crate) fn io(action: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let action = format!("{action} {}", path.display());
    move |source| BackupError::Io { action, source }
}
