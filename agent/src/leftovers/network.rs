//! What is left of the network of sandboxes that nobody knows. A runtime makes a sandbox's
//! network before it writes down that there is a sandbox: killed in between, it leaves a
//! namespace with a link in it, and an address that is held for ever.
//!
//! An address is given back with its pod. A namespace is known to be nobody's when it was there
//! before the runtime started and no sandbox that this one has read is in it; so the names of all
//! are written down just before a start (`note`) and looked at when the runtime answers (`sweep`).

use crate::config::Config;
use crate::error::Error;
use crate::runtime::Runtime;
use crate::runtime::config::Layout;
use nix::mount::{MntFlags, umount2};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What of the plugin's file is looked at; leases by owner, which is `uid/UID/INTERFACE`.
#[derive(Deserialize)]
struct Book {
    leases: BTreeMap<String, Lease>,
}

#[derive(Debug, Deserialize)]
struct Lease {
    container: String,
    ifname: String,
    #[serde(default)]
    released: Option<IgnoredAny>,
}

/// By pod UID, the attachments that hold an address.
fn held(config: &Config) -> Vec<(String, Lease)> {
    let Ok(text) = std::fs::read(config.data_dir.join("cni/skiff/leases.json")) else {
        return Vec::new();
    };
    held_in(&text)
}

fn held_in(text: &[u8]) -> Vec<(String, Lease)> {
    let book = serde_json::from_slice(text).unwrap_or(Book {
        leases: BTreeMap::new(),
    });
    let held = book.leases.into_iter().filter(|(_, lease)| lease.released.is_none());
    held.filter_map(|(owner, lease)| Some((owner.split('/').nth(1)?.to_owned(), lease)))
        .collect()
}

/// UIDs of the pods that hold an address.
pub fn holders(config: &Config) -> impl Iterator<Item = String> {
    held(config).into_iter().map(|(uid, _)| uid)
}

/// Blocks: gives back what a pod, whose sandboxes are gone, still holds.
pub fn release(config: &Config, uid: &str) {
    for (_, lease) in held(config).into_iter().filter(|(holder, _)| holder == uid) {
        tracing::info!(uid, sandbox = lease.container, "giving back an address that was left");
        if let Err(error) = detach(&Layout::new(&config.data_dir), &lease) {
            tracing::warn!(error = error.chain(), uid, "cannot give an address back");
        }
    }
}

/// The plugin's DEL, as the runtime would have called it.
fn detach(layout: &Layout, lease: &Lease) -> Result<(), Error> {
    let list = layout.cni_conf.join("10-skiff.conflist");
    let text = std::fs::read(&list).map_err(Error::io("read", &list))?;
    let configuration = plugin_configuration(&text)
        .ok_or_else(|| Error::io("decode", &list)(std::io::Error::other("it has no plugin")))?;
    let plugin = layout.cni_bin.join("skiff-cni");
    let failed = Error::io("run", &plugin);
    let run = || {
        let mut child = Command::new(&plugin)
            .env_clear()
            .env("CNI_COMMAND", "DEL")
            .env("CNI_CONTAINERID", &lease.container)
            .env("CNI_IFNAME", &lease.ifname)
            .env("CNI_PATH", &layout.cni_bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(configuration.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Err(Error::io("run", &plugin)(std::io::Error::other(said)))
}

/// A list's only plugin as the plugin wants it: with the list's own name and version.
fn plugin_configuration(list: &[u8]) -> Option<String> {
    let list: Value = serde_json::from_slice(list).ok()?;
    let mut plugin = list["plugins"].get(0)?.clone();
    for member in ["name", "cniVersion"] {
        plugin.as_object_mut()?.insert(member.to_owned(), list[member].clone());
    }
    Some(plugin.to_string())
}

/// To be called when no runtime runs and one is about to.
pub fn note(layout: &Layout) -> Result<(), Error> {
    let names = super::names(&layout.namespaces).join("\n");
    std::fs::write(&layout.former, names).map_err(Error::io("write", &layout.former))
}

/// Removes the noted namespaces in which no sandbox is.
pub async fn sweep(runtime: Runtime, layout: Layout, shutdown: CancellationToken) {
    const RETRY: Duration = Duration::from_millis(500);
    /// A runtime that does not tell by then never will, or is started once more.
    const TRIES: u32 = 60;
    for at in 1..=TRIES {
        let Err(error) = sweep_once(&runtime, &layout).await else {
            return;
        };
        if at == TRIES {
            tracing::warn!(
                error = error.chain(),
                "it is not known which network namespaces are nobody's"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// An error: the runtime does not tell yet.
async fn sweep_once(runtime: &Runtime, layout: &Layout) -> Result<(), Error> {
    let Ok(noted) = std::fs::read_to_string(&layout.former) else {
        return Ok(());
    };
    let mut used = BTreeSet::new();
    for sandbox in runtime.sandboxes().await? {
        used.extend(runtime.network_namespace(&sandbox.id).await?);
    }
    for path in unused(&layout.namespaces, &noted, &used) {
        tracing::info!(path = %path.display(), "removing a network namespace of no sandbox");
        // With its last reference go the namespace and its links.
        let _ = umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let _ = std::fs::remove_file(&path);
    }
    // Another start may have noted others meanwhile.
    if std::fs::read_to_string(&layout.former).is_ok_and(|now| now == noted) {
        let _ = std::fs::remove_file(&layout.former);
    }
    Ok(())
}

fn unused(dir: &Path, noted: &str, used: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let all = noted.lines().filter(|name| !name.is_empty()).map(|name| dir.join(name));
    all.filter(|path| !used.contains(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_an_address_is_read_from_the_plugins_book() {
        let text = br#"{"format": 1, "clock": 4, "cursors": {"10.42.0.0/24": "10.42.0.3"}, "leases": {
            "uid/0d1e/eth0": {"container": "c1", "ifname": "eth0", "addresses": ["10.42.0.2"]},
            "uid/0d2e/eth0": {"container": "c2", "ifname": "eth0", "addresses": ["10.42.0.3"], "released": 4}}}"#;
        let held = held_in(text);
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!((held[0].0.as_str(), held[0].1.container.as_str()), ("0d1e", "c1"));
        assert!(held_in(b"{").is_empty());
    }

    #[test]
    fn the_plugin_is_told_what_the_runtime_would_tell_it() {
        let list = skiff_network::cni_config(&[], Path::new("/d"), 0);
        let text = plugin_configuration(list.as_bytes()).expect("one plugin");
        let plugin: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&plugin["name"], &plugin["cniVersion"]),
            (&"skiff".into(), &"1.0.0".into())
        );
        assert_eq!(
            (&plugin["type"], &plugin["dataDir"]),
            (&"skiff-cni".into(), &"/d".into())
        );
        assert_eq!(plugin_configuration(b"{}"), None);
    }

    #[test]
    fn only_noted_namespaces_of_nobody_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(&layout.namespaces).expect("made");
        for name in ["cni-1", "cni-2"] {
            std::fs::write(layout.namespaces.join(name), "").expect("written");
        }
        note(&layout).expect("noted");
        // Made since, so its sandbox may not be known yet.
        std::fs::write(layout.namespaces.join("cni-3"), "").expect("written");
        let noted = std::fs::read_to_string(&layout.former).expect("noted");
        let used = BTreeSet::from([layout.namespaces.join("cni-1")]);
        assert_eq!(
            unused(&layout.namespaces, &noted, &used),
            [layout.namespaces.join("cni-2")]
        );
        assert!(unused(&layout.namespaces, "", &used).is_empty());
    }
}
