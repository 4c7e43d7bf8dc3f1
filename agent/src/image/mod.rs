//! Images: pulled as pods ask for them, from where and as whom the node's and the
//! pods' owners say, and removed when the disk fills up.
//!
//! ```text
//! pod::image (policy, words) --> pull --> attempts --> containerd (CRI)
//!                                 |---- credentials (pull secrets)
//! registries.yaml --watch--> registries --> certs.d (containerd reads it at each pull)
//! disk usage --gc--> collect --> containerd
//! ```

pub mod arrivals;
pub mod attempts;
pub mod collect;
pub mod credentials;
pub mod gc;
mod locks;
pub mod pull;
pub mod records;
pub mod reference;
pub mod registries;
pub mod watch;

pub use reference::Reference;

use crate::error::Error;
use collect::{Seen, Thresholds};
use locks::Locks;
use records::Records;
use registries::Registries;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the node's owner may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Mirrors, private CAs and logins; need not exist.
    pub registries_file: PathBuf,
    pub thresholds: Thresholds,
    /// More would only share the same line and disk; one that hangs leaves the others.
    pub pulls_at_once_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registries_file: PathBuf::from("/etc/skiff/registries.yaml"),
            thresholds: Thresholds::default(),
            pulls_at_once_max: 10,
        }
    }
}

/// What the node remembers of images.
#[derive(Debug)]
pub struct Images {
    pub settings: Settings,
    /// containerd's directory of hosts.
    certs: PathBuf,
    registries: Mutex<Arc<Registries>>,
    /// The text that was read last, good or bad.
    registries_text: Mutex<Option<String>>,
    records_path: PathBuf,
    records: Mutex<Records>,
    slots: Semaphore,
    locks: Locks,
    seen: Mutex<BTreeMap<String, Seen>>,
    /// One collection at a time.
    collecting: tokio::sync::Mutex<()>,
}

impl Images {
    /// Reads what an earlier run has kept.
    pub fn open(settings: Settings, certs: PathBuf, root: &Path) -> Result<Self, Error> {
        let records_path = root.join("image-pulls.json");
        let kept = std::fs::read(&records_path).ok();
        let records = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let records = match records {
            Some(records) => records,
            None => {
                let mut salt = [0_u8; 16];
                let filled = SystemRandom::new().fill(&mut salt);
                filled.map_err(|_| Error::Copy("no randomness for the record of pulls".into()))?;
                Records::new(salt.iter().map(|b| format!("{b:02x}")).collect())
            }
        };
        Ok(Self {
            slots: Semaphore::new(settings.pulls_at_once_max.max(1)),
            settings,
            certs,
            registries: Mutex::default(),
            registries_text: Mutex::default(),
            records_path,
            records: Mutex::new(records),
            locks: Locks::default(),
            seen: Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
        })
    }

    pub fn registries(&self) -> Arc<Registries> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its turn with something that must not be done twice at once.
    pub async fn alone(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.locks.lock(what).await
    }

    /// Changes the records, and keeps them where they have changed.
    fn with_records<T>(&self, change: impl FnOnce(&mut Records) -> T) -> T {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let before = records.clone();
        let result = change(&mut records);
        if *records != before
            && let Ok(bytes) = serde_json::to_vec(&*records)
            && let Err(error) = crate::cache::disk::write_atomically(&self.records_path, &bytes, 0o600)
        {
            tracing::warn!(%error, "cannot keep who has pulled which image");
        }
        result
    }

    fn must_pull(&self, image: &Reference, id: &str, secrets: &[credentials::Found]) -> bool {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.must_pull(&image.full(), &image.name(), id, secrets)
    }
}

/// As Go prints a duration that was cut to milliseconds: `20ms`, `1.2s`, `1m2.05s`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let seconds = match fraction {
        "" => format!("{}s", rest / 1_000),
        some => format!("{}.{some}s", rest / 1_000),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (millis, expected) in [
            (0, "0s"),
            (7, "7ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_200, "1.2s"),
            (1_234, "1.234s"),
            (62_050, "1m2.05s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}
