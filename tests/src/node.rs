//! What a node holds of pods, wherever the kernel and the runtime show it.

use crate::Host;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

/// Prints a line for each thing that a pod leaves on its node: what it is, and which.
const LOOK: &str = r#"
data=$1
uid='s/.*\([0-9a-f]\{8\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{12\}\).*/\1/'
ls "$data/agent/pods" 2>/dev/null | sed 's/^/directory /'
ls /var/log/pods 2>/dev/null | sed "$uid" | sed 's/^/logs /'
find /var/log/containers -type l 2>/dev/null | sed 's|.*/|log-link |'
find /var/log/containers -xtype l 2>/dev/null | sed 's|.*/|broken-log-link |'
find /sys/fs/cgroup -name unified -prune -o -type d -name 'pod????????-*' -print 2>/dev/null | sed "$uid" | sort -u | sed 's/^/cgroup /'
find /sys/fs/cgroup -name unified -prune -o -type d -path '*/pod????????-*/*' -print 2>/dev/null | sed 's|.*/||' | sort -u | sed 's/^/container-cgroup /'
ls /run/netns "$data/agent/run/containerd/io.containerd.grpc.v1.cri/netns" 2>/dev/null | grep '^cni-' | sed 's/^/netns /'
ip -o link | sed -n 's/^[0-9]*: \(skv[0-9a-f]*\).*/link \1/p'
ip route | sed -n 's/^\([0-9.]*\) dev skv.*/route \1/p'
sed -n "s|^[^ ]* \($data[^ ]*\) .*|\1|p" /proc/mounts | grep -v '/images/' | sed -n 's|.*/pods/\([^/]*\)/.*|volume \1|p; s|.*/k8s.io/\([^/]*\)/rootfs.*|rootfs \1|p; s|.*/sandboxes/\([^/]*\)/shm.*|shm \1|p' | sort -u
ps -eo args | sed -n 's|^[^ ]*containerd-shim-runc-v2 .*-id \([^ ]*\).*|shim \1|p'
ls /run/containerd/s 2>/dev/null | sed 's/^/shim-socket /'
ls "$data/agent/run/containerd/io.containerd.runtime.v2.task/k8s.io" 2>/dev/null | sed 's/^/bundle /'
ls /run/containerd/runc/k8s.io 2>/dev/null | sed 's/^/runc /'
"#;

/// Of each kind of thing, which there are.
pub type Things = BTreeMap<String, BTreeSet<String>>;

pub fn things(host: &Host) -> Result<Things> {
    let output = host
        .command("sh")
        .args(["-c", LOOK, "look"])
        .arg(host.data_dir())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot look at the host")?;
    let mut things = Things::new();
    things.insert("lease".to_string(), leases(host)?);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (kind, which) = line.split_once(' ').context("a line is a kind and a name")?;
        things.entry(kind.to_string()).or_default().insert(which.to_string());
    }
    Ok(things)
}

/// UIDs of pods that hold an address; those that once did are remembered in the same file.
fn leases(host: &Host) -> Result<BTreeSet<String>> {
    let Ok(text) = std::fs::read(host.data_dir().join("agent/cni/skiff/leases.json")) else {
        return Ok(BTreeSet::new());
    };
    let document: serde_json::Value = serde_json::from_slice(&text).context("the leases are broken")?;
    let held = document["leases"].as_object().into_iter().flatten();
    Ok(held
        .filter(|(_, lease)| lease["released"].is_null())
        .filter_map(|(owner, _)| Some(owner.split('/').nth(1)?.to_string()))
        .collect())
}

/// What differs, told by kind; nothing when they are the same.
pub fn difference(before: &Things, after: &Things) -> String {
    let kinds: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let none = BTreeSet::new();
    let mut told = Vec::new();
    for kind in kinds {
        let (old, new) = (before.get(kind).unwrap_or(&none), after.get(kind).unwrap_or(&none));
        let more: Vec<_> = new.difference(old).take(3).cloned().collect();
        let less: Vec<_> = old.difference(new).take(3).cloned().collect();
        if !more.is_empty() || !less.is_empty() {
            told.push(format!(
                "{kind}: {} were, {} are, new {more:?}, gone {less:?}",
                old.len(),
                new.len()
            ));
        }
    }
    told.join("; ")
}

/// The pods with these UIDs, each with one sandbox and `containers` containers, and
/// nothing else, are what the node holds.
pub fn holds_exactly(things: &Things, uids: &BTreeSet<String>, containers: usize) -> std::result::Result<(), String> {
    let none = BTreeSet::new();
    let of = |kind: &str| things.get(kind).unwrap_or(&none);
    for kind in ["directory", "logs", "cgroup", "lease", "volume"] {
        if of(kind) != uids {
            let strange: Vec<_> = of(kind).symmetric_difference(uids).take(3).collect();
            return Err(format!(
                "{kind}: {} for {} pods: {strange:?}",
                of(kind).len(),
                uids.len()
            ));
        }
    }
    for kind in ["netns", "link", "route", "shm", "shim"] {
        if of(kind).len() != uids.len() {
            return Err(format!("{kind}: {} for {} pods", of(kind).len(), uids.len()));
        }
    }
    // That of a shim that was killed stays as long as the runtime knows the sandbox.
    if of("shim-socket").len() < uids.len() || (uids.is_empty() && !of("shim-socket").is_empty()) {
        return Err(format!(
            "shim-socket: {} for {} pods",
            of("shim-socket").len(),
            uids.len()
        ));
    }
    // One to the log of each container that runs, some to those of ended ones.
    let links = of("log-link").len();
    if links < containers || (uids.is_empty() && links > 0) || !of("broken-log-link").is_empty() {
        let broken = of("broken-log-link").len();
        return Err(format!(
            "log-link: {links} for {containers} containers, {broken} broken"
        ));
    }
    for kind in ["rootfs", "bundle", "runc", "container-cgroup"] {
        let wanted = uids.len() + containers;
        if of(kind).len() != wanted {
            return Err(format!(
                "{kind}: {} for {wanted} containers and sandboxes",
                of(kind).len()
            ));
        }
    }
    Ok(())
}

/// What a process of the host takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub files: u64,
    /// Its heap and stacks.
    pub memory_kib: u64,
}

/// The process whose number is in this file of the host.
pub fn process(host: &Host, pid_file: &str) -> Result<Process> {
    let script = format!(
        "pid=$(cat {}/{pid_file}); ls /proc/$pid/fd | wc -l; sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$pid/status",
        host.data_dir().display()
    );
    let output = host.command("sh").args(["-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.lines().map(|line| line.trim().parse());
    let mut next = || {
        numbers
            .next()
            .with_context(|| format!("the process of {pid_file} does not run: {text}"))
    };
    let (files, memory_kib) = (next()??, next()??);
    Ok(Process { files, memory_kib })
}
