//! Process 1 of a test host: makes the mounts that a machine of its own would
//! have, then reaps orphans until it is killed, which ends the host.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::path::Path;

/// Called in new namespaces. `dir` is the host's directory.
pub fn run(name: &str, dir: &Path) -> Result<()> {
    // Blocked, so that one that comes between reaping and waiting is not lost.
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block().context("cannot block SIGCHLD")?;
    nix::unistd::sethostname(name).context("cannot set the host name")?;
    mounts(dir)?;
    // Told to whoever waits for the host.
    std::fs::write(dir.join("ready"), "").context("cannot tell that the host is ready")?;
    // Orphans become children of process 1: each end is signalled, and waited for.
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot reap"),
            }
        }
        ended.wait().context("cannot wait for a signal")?;
    }
}

fn mounts(dir: &Path) -> Result<()> {
    let none = None::<&str>;
    let flags = |at: &str, flags: MsFlags| {
        mount(none, at, none, flags, none).with_context(|| format!("cannot set propagation of {at}"))
    };
    // Nothing gets out; inside, pods' mounts must reach each other.
    flags("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    flags("/", MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("cannot mount /proc")?;
    // containerd's shims put their sockets at a fixed path below /run.
    let run = dir.join("run");
    std::fs::create_dir_all(&run)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("cannot mount /run")?;
    // Not the folders of pods' logs by themselves: who removes those of the machine (a reset does, when they
    // are empty) takes what is mounted there away from every host.
    for (own, place) in [("log", "/var/log"), ("kubelet", "/var/lib/kubelet")] {
        let own = dir.join(own);
        std::fs::create_dir_all(&own)?;
        std::fs::create_dir_all(place)?;
        mount(Some(&own), place, none, MsFlags::MS_BIND, none).with_context(|| format!("cannot mount {place}"))?;
    }
    cgroups()
}

/// Mounts the hierarchies anew, so that the host's own cgroup is their root.
fn cgroups() -> Result<()> {
    let none = None::<&str>;
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        umount2(root, MntFlags::MNT_DETACH).context("cannot unmount the cgroups")?;
        return mount(Some("cgroup2"), root, Some("cgroup2"), MsFlags::empty(), none)
            .context("cannot mount the cgroups");
    }
    let mut controllers = Vec::new();
    for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
        let columns: Vec<&str> = line.split(' ').collect();
        if columns.len() > 3 && columns[2] == "cgroup" && columns[1].starts_with("/sys/fs/cgroup/") {
            let kept: Vec<&str> = columns[3]
                .split(',')
                .filter(|option| !["rw", "nosuid", "nodev", "noexec", "relatime"].contains(option))
                .collect();
            controllers.push((columns[1].to_string(), kept.join(",")));
        }
    }
    for (at, options) in controllers {
        let options = if options.contains("name=") && !options.contains("none") {
            format!("none,{options}")
        } else {
            options
        };
        umount2(at.as_str(), MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {at}"))?;
        mount(
            Some("cgroup"),
            at.as_str(),
            Some("cgroup"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("cannot mount {at} ({options})"))?;
    }
    Ok(())
}
