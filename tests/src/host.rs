//! One test host: made, entered, cut off, joined again, removed.

use crate::network::{Network, ip, run};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Making the namespaces takes milliseconds.
const READY_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const STATE: &str = "host.json";

/// What is kept of a host, so that another process can enter it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub network: u8,
    pub index: u8,
    /// Everything of this host; its data directory is `<dir>/data`.
    pub dir: PathBuf,
    /// Process 1 of the host, as seen from outside.
    pub pid: i32,
    /// Its start time: the number alone may be given to another process.
    pub started: u64,
}

impl Host {
    /// Makes the host and its link. `program` is the test-host program, which
    /// becomes process 1.
    pub fn create(program: &Path, dir: &Path, name: &str, network: Network, index: u8) -> Result<Self> {
        ensure!((2..=254).contains(&index), "a host's index is between 2 and 254");
        network.up()?;
        std::fs::create_dir_all(dir.join("data"))?;
        let ready = dir.join("ready");
        let _ = std::fs::remove_file(&ready);
        let cgroup = cgroup_name(network, index);
        join_cgroups(&cgroup)?;
        // The child inherits the cgroup, which becomes the root of its namespace.
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--uts",
                "--pid",
                "--cgroup",
                "--fork",
                "--kill-child",
                "--",
            ])
            .arg(program)
            .arg("init")
            .arg(name)
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("init.log")).context("cannot create init.log")?)
            .spawn()
            .context("cannot run unshare")?;
        leave_cgroups();
        let deadline = Instant::now() + READY_MAX;
        while !ready.exists() {
            ensure!(
                Instant::now() < deadline,
                "the host {name} was not ready in time: {}",
                std::fs::read_to_string(dir.join("init.log")).unwrap_or_default().trim()
            );
            std::thread::sleep(LOOK_EVERY);
        }
        let pid = only_child(child.id()).context("the host's process 1 is gone")?;
        let host = Self {
            name: name.to_string(),
            network: network.id,
            index,
            dir: dir.to_path_buf(),
            pid,
            started: start_time(pid).context("the host's process 1 is gone")?,
        };
        std::fs::write(dir.join(STATE), serde_json::to_vec_pretty(&host)?)?;
        host.link(network)?;
        Ok(host)
    }

    /// The host made before, if it still runs.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let Ok(text) = std::fs::read(dir.join(STATE)) else {
            return Ok(None);
        };
        let host: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is broken", dir.join(STATE).display()))?;
        Ok((start_time(host.pid) == Some(host.started)).then_some(host))
    }

    pub fn network(&self) -> Network {
        Network { id: self.network }
    }

    pub fn address(&self) -> std::net::Ipv4Addr {
        self.network().address(self.index)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What a script says on the host, without the blank around it; it has to succeed.
    pub fn shell(&self, script: &str) -> Result<String> {
        let output = self.command("sh").args(["-c", script]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{script}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text.trim().to_owned())
    }

    /// CPU time of all that ever ran on the host, pods too.
    pub fn cpu(&self) -> Result<Duration> {
        let name = cgroup_name(self.network(), self.index);
        for hierarchy in hierarchies() {
            let group = hierarchy.join(&name);
            if let Ok(ns) = std::fs::read_to_string(group.join("cpuacct.usage")) {
                return Ok(Duration::from_nanos(ns.trim().parse()?));
            }
            let stat = std::fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
            if let Some(us) = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
                return Ok(Duration::from_micros(us.trim().parse()?));
            }
        }
        bail!("no cgroup tells the CPU time of {}", self.name)
    }

    fn link(&self, network: Network) -> Result<()> {
        let (outside, pid) = (self.outside(), self.pid.to_string());
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ])?;
        ip(&["link", "set", &outside, "master", &network.bridge(), "up"])?;
        let address = format!("{}/24", self.address());
        let gateway = network.address(1).to_string();
        for arguments in [
            vec!["link", "set", "lo", "up"],
            vec!["address", "add", &address, "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["route", "add", "default", "via", &gateway],
        ] {
            run(self.command("ip").args(arguments))?;
        }
        Ok(())
    }

    fn outside(&self) -> String {
        format!("skt{}n{}", self.network, self.index)
    }

    /// A command that runs on the host.
    pub fn command(&self, program: &str) -> Command {
        // The namespace alone would leave the process in this machine's groups.
        let groups: Vec<String> = hierarchies()
            .iter()
            .map(|hierarchy| {
                hierarchy
                    .join(cgroup_name(self.network(), self.index))
                    .join("cgroup.procs")
                    .display()
                    .to_string()
            })
            .collect();
        let enter = format!(
            "for group in {}; do echo $$ >$group; done; exec nsenter \"$@\"",
            groups.join(" ")
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &enter, "sh"])
            .args([
                "--target",
                &self.pid.to_string(),
                "--mount",
                "--net",
                "--uts",
                "--pid",
                "--cgroup",
                "--",
            ])
            .arg(program);
        command
    }

    /// Nothing passes the host's link until it is healed.
    pub fn cut(&self) -> Result<()> {
        ip(&["link", "set", &self.outside(), "down"])
    }

    pub fn heal(&self) -> Result<()> {
        ip(&["link", "set", &self.outside(), "up"])
    }

    /// Ends every process of the host and removes all but its directory.
    pub fn destroy(&self) -> Result<()> {
        if start_time(self.pid) == Some(self.started) {
            kill(Pid::from_raw(self.pid), Signal::SIGKILL).context("cannot end the host")?;
        }
        let deadline = Instant::now() + READY_MAX;
        while start_time(self.pid) == Some(self.started) {
            ensure!(Instant::now() < deadline, "the host {} does not end", self.name);
            std::thread::sleep(LOOK_EVERY);
        }
        // The kernel takes the link away with the namespace, a moment later.
        let outside = Path::new("/sys/class/net").join(self.outside());
        while outside.exists() {
            if Instant::now() >= deadline {
                ip(&["link", "delete", &self.outside()])?;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        remove_cgroups(&cgroup_name(self.network(), self.index))?;
        let _ = std::fs::remove_file(self.dir.join(STATE));
        Ok(())
    }
}

fn cgroup_name(network: Network, index: u8) -> String {
    format!("skiff-testhost-{}-{index}", network.id)
}

/// Roots of the mounted cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split(' ').collect();
            (columns.len() > 2 && columns[2] == "cgroup").then(|| PathBuf::from(columns[1]))
        })
        .collect()
}

fn join_cgroups(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        std::fs::create_dir_all(&group).with_context(|| format!("cannot create {}", group.display()))?;
        // cpuset groups take nobody until they have been given processors.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read_to_string(hierarchy.join(file)) {
                let _ = std::fs::write(group.join(file), all.trim());
            }
        }
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot enter {}", group.display()))?;
    }
    Ok(())
}

fn leave_cgroups() {
    for hierarchy in hierarchies() {
        // Back to the root: staying would only keep the group from being removed.
        let _ = std::fs::write(hierarchy.join("cgroup.procs"), std::process::id().to_string());
    }
}

fn remove_cgroups(name: &str) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        while group.exists() && remove_tree(&group).is_err() {
            if Instant::now() >= deadline {
                bail!("the cgroup {} cannot be removed", group.display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

/// Groups are removed leaves first; their files go with them.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}

/// Start time of a process in clock ticks; `None` when it is gone or a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    let columns: Vec<&str> = after.split(' ').collect();
    (columns.first() != Some(&"Z"))
        .then(|| columns.get(19)?.parse().ok())
        .flatten()
}

fn only_child(parent: u32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
