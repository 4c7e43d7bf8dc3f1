//! Files that only root may read, written by rename so that none is ever half.

use anyhow::{Context, Result};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub fn private_directory(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the directory {}", path.display()))
}

pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // What an earlier run left behind may have other rights.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The key in the file, 64 hexadecimal digits; made if there is none.
pub fn key(path: &Path) -> Result<[u8; 32]> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes: [u8; 32] = rand::random();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write_private(path, &text)?;
            text
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read the key {}", path.display())),
    };
    let digits = text.trim();
    let mut key = [0; 32];
    anyhow::ensure!(
        digits.len() == 64 && digits.is_ascii(),
        "{} holds no key of 64 hexadecimal digits: restore it from a backup",
        path.display()
    );
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).with_context(|| {
            format!(
                "{} holds no key of 64 hexadecimal digits: restore it from a backup",
                path.display()
            )
        })?;
    }
    Ok(key)
}

/// Written while the process runs, so that scripts can find it.
pub struct PidFile(std::path::PathBuf);

impl PidFile {
    pub fn write(path: &Path) -> Result<Self> {
        write_private(path, &format!("{}\n", std::process::id()))?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Left behind it does no harm: readers check that the process lives.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.key");
        let made = key(&path).expect("made");
        assert_eq!(key(&path).expect("read"), made);
        std::fs::write(&path, "short").expect("written");
        assert!(
            key(&path)
                .expect_err("no key")
                .to_string()
                .contains("restore it from a backup")
        );
    }

    #[test]
    fn only_the_owner_may_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.kubeconfig");
        std::fs::write(path.with_extension("new"), "left behind, readable by all").expect("written");
        write_private(&path, "secret").expect("written");
        let meta = std::fs::metadata(&path).expect("a file");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "secret");
    }
}
