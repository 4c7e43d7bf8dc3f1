//! Kernel settings the dataplane needs, and their way back.
//!
//! Values found before the first change are kept in `<data_dir>/sysctls.json`.
//! In a child namespace some files may be read-only: that is logged and tolerated.

use crate::error::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys/net";

/// `route_localnet` lets 127.0.0.1:NodePort be translated to a pod; the `input`
/// chain keeps strangers from reaching loopback listeners through it, so the
/// rules must stand before this is called.
const WANTED: [(&str, &str); 2] = [("ipv4/ip_forward", "1"), ("ipv4/conf/all/route_localnet", "1")];
const WANTED_V6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "1")];

fn record(data_dir: &Path) -> PathBuf {
    data_dir.join("sysctls.json")
}

pub fn set(data_dir: &Path, v6: bool) {
    let path = record(data_dir);
    let mut before: BTreeMap<String, String> = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let known = before.len();
    let wanted = WANTED.iter().chain(WANTED_V6.iter().filter(|_| v6));
    let mut changes = Vec::new();
    for (key, value) in wanted {
        match std::fs::read_to_string(format!("{ROOT}/{key}")) {
            Ok(found) if found.trim() == *value => {}
            Ok(found) => {
                before
                    .entry((*key).to_owned())
                    .or_insert_with(|| found.trim().to_owned());
                changes.push((*key, *value));
            }
            Err(error) => tracing::warn!(key, %error, "sysctl cannot be read"),
        }
    }
    if before.len() > known {
        let text = serde_json::to_vec(&before).unwrap_or_default();
        if let Err(error) = std::fs::write(&path, text) {
            tracing::warn!(path = %path.display(), %error, "values of sysctls before us are not recorded");
        }
    }
    for (key, value) in changes {
        if let Err(error) = std::fs::write(format!("{ROOT}/{key}"), value) {
            tracing::warn!(key, value, %error, "sysctl cannot be set; set it on the host");
        }
    }
}

pub fn restore(data_dir: &Path) -> Result<(), Error> {
    let path = record(data_dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::File {
                action: "read",
                path,
                source,
            });
        }
    };
    let before: BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap_or_default();
    for (key, value) in before {
        if let Err(error) = std::fs::write(format!("{ROOT}/{key}"), &value) {
            tracing::warn!(key, value, %error, "sysctl cannot be set back");
        }
    }
    std::fs::remove_file(&path).map_err(|source| Error::File {
        action: "remove",
        path,
        source,
    })
}
