//! `skiff check`: looks whether this machine can run Skiff. Each finding says
//! what is wrong and how to mend it. A server and an agent make the same checks
//! at start and refuse to go on only where going on cannot work.

use crate::paths;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

/// Oldest kernel whose nf_tables, overlayfs and cgroups do what we need.
const KERNEL_MIN: (u32, u32) = (5, 4);
/// Below this the image store and the log have no room to start.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;
/// Certificates made before this moment would be dated before Skiff existed.
const CLOCK_UNIX_S_MIN: u64 = 1_767_225_600; // 2026-01-01

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Good(String),
    /// Works, but not as well as it could.
    Weak {
        what: String,
        mend: String,
    },
    Bad {
        what: String,
        mend: String,
    },
}

/// What the checks look at.
#[derive(Debug, Clone)]
pub struct Plan {
    pub data_dir: PathBuf,
    pub containerd: Option<PathBuf>,
    /// Ports that must be free, and the flag that changes each.
    pub ports: Vec<(u16, &'static str)>,
    /// Whether this machine is to run pods.
    pub node: bool,
    /// Try kernel features too, which takes longer than a start should.
    pub thorough: bool,
}

/// Prints every finding; true if nothing is bad.
pub fn print(plan: &Plan) -> bool {
    let findings = run(plan);
    for finding in &findings {
        match finding {
            Finding::Good(what) => println!("ok    {what}"),
            Finding::Weak { what, mend } => println!("weak  {what}\n      {mend}"),
            Finding::Bad { what, mend } => println!("BAD   {what}\n      {mend}"),
        }
    }
    let bad = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Bad { .. }))
        .count();
    if bad == 0 {
        println!("\nThis machine can run Skiff.");
    } else {
        println!(
            "\nThis machine cannot run Skiff yet: {bad} of {} checks failed.",
            findings.len()
        );
    }
    bad == 0
}

/// The bad ones as lines, for a start that must fail.
pub fn obstacles(plan: &Plan) -> Vec<String> {
    run(plan)
        .into_iter()
        .filter_map(|finding| match finding {
            Finding::Bad { what, mend } => Some(format!("{what}: {mend}")),
            _ => None,
        })
        .collect()
}

pub fn run(plan: &Plan) -> Vec<Finding> {
    let mut findings = vec![root(nix::unistd::geteuid().is_root()), clock(), disk(&plan.data_dir)];
    findings.extend(plan.ports.iter().map(|(port, flag)| free_port(*port, flag)));
    if plan.node {
        findings.push(kernel(
            &std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        ));
        findings.push(cgroups());
        if plan.thorough {
            findings.push(overlay());
            findings.extend(["veth", "vxlan", "nf_tables"].map(kernel_module));
        }
        let containerd = plan.containerd.clone().unwrap_or_else(|| PathBuf::from("containerd"));
        for (binary, package) in [
            (containerd, "containerd"),
            (PathBuf::from("containerd-shim-runc-v2"), "containerd"),
            (PathBuf::from("runc"), "runc"),
            (PathBuf::from("nft"), "nftables"),
        ] {
            findings.push(executable(&binary, package));
        }
    }
    findings
}

fn root(is_root: bool) -> Finding {
    if is_root {
        return Finding::Good("runs as root".into());
    }
    Finding::Bad {
        what: "not running as root".into(),
        mend: "run it with sudo".into(),
    }
}

fn clock() -> Finding {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    if now >= CLOCK_UNIX_S_MIN {
        return Finding::Good("the clock is plausible".into());
    }
    Finding::Bad {
        what: "the clock is set to a time in the past, so certificates would not be valid".into(),
        mend: "set the clock (timedatectl set-ntp true)".into(),
    }
}

fn kernel(release: &str) -> Finding {
    let release = release.trim();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_MIN => Finding::Good(format!("kernel {release}")),
        _ => Finding::Bad {
            what: format!("kernel {release:?} is too old"),
            mend: format!("use Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1),
        },
    }
}

fn cgroups() -> Finding {
    let mend = "mount cgroups: boot with systemd, or mount -t cgroup2 none /sys/fs/cgroup".to_string();
    if let Ok(text) = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        let missing = missing_from(&text.split_whitespace().collect::<Vec<_>>());
        return if missing.is_empty() {
            Finding::Good("cgroups v2 with cpu, memory, pids".into())
        } else {
            Finding::Bad {
                what: format!("cgroups v2 without {}", missing.join(", ")),
                mend: "enable them with the kernel arguments cgroup_enable=memory,cpu,pids".into(),
            }
        };
    }
    let mounted: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists())
        .collect();
    let missing = missing_from(&mounted);
    if missing.is_empty() {
        Finding::Good("cgroups v1 with cpu, memory, pids".into())
    } else {
        Finding::Bad {
            what: format!("no cgroup controllers for {}", missing.join(", ")),
            mend,
        }
    }
}

fn missing_from(have: &[&str]) -> Vec<&'static str> {
    ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !have.contains(name))
        .collect()
}

fn overlay() -> Finding {
    let known = |text: &str| text.lines().any(|line| line.ends_with("overlay"));
    let mut listed = known(&std::fs::read_to_string("/proc/filesystems").unwrap_or_default());
    if !listed {
        load("overlay");
        listed = known(&std::fs::read_to_string("/proc/filesystems").unwrap_or_default());
    }
    if listed {
        return Finding::Good("overlay file system".into());
    }
    Finding::Bad {
        what: "the kernel has no overlay file system".into(),
        mend: "modprobe overlay, or use a kernel that has it".into(),
    }
}

/// A module counts as there when it is loaded, built in, or can be loaded.
fn kernel_module(name: &str) -> Finding {
    let loaded = || Path::new("/sys/module").join(name).exists() || built_in(name);
    if loaded()
        || {
            load(name);
            loaded()
        }
        || works(name)
    {
        return Finding::Good(format!("kernel feature {name}"));
    }
    let what = format!("the kernel feature {name} was not found");
    let mend = format!("modprobe {name}, or use a kernel that has it");
    if name == "vxlan" {
        return Finding::Weak {
            what,
            mend: format!("{mend}; only nodes on one network segment can be joined without it"),
        };
    }
    Finding::Bad { what, mend }
}

fn built_in(name: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let file = format!("/lib/modules/{}/modules.builtin", release.trim());
    std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.ends_with(&format!("/{name}.ko"))))
}

/// For kernels that keep no record of what is built in: try it.
fn works(name: &str) -> bool {
    let quiet = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    match name {
        "nf_tables" => quiet("nft", &["list", "tables"]),
        "veth" | "vxlan" => {
            let link = format!("skchk{}", std::process::id() % 100_000);
            let mut add = vec!["link", "add", link.as_str(), "type", name];
            if name == "vxlan" {
                add.extend(["id", "4097", "dstport", "4790"]);
            }
            let made = quiet("ip", &add);
            made && quiet("ip", &["link", "del", &link])
        }
        _ => false,
    }
}

fn load(name: &str) {
    // A failure shows in what is looked at next.
    let _ = std::process::Command::new("modprobe")
        .arg("-q")
        .arg(name)
        .stderr(std::process::Stdio::null())
        .status();
}

fn executable(program: &Path, package: &str) -> Finding {
    let found = if program.components().count() > 1 {
        program.is_file().then(|| program.to_path_buf())
    } else {
        let path = std::env::var("PATH").unwrap_or_default();
        let standard = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ];
        path.split(':')
            .chain(standard)
            .map(|dir| Path::new(dir).join(program))
            .find(|candidate| candidate.is_file())
    };
    match found {
        Some(path) => Finding::Good(format!("{} at {}", program.display(), path.display())),
        None => Finding::Bad {
            what: format!("{} is not installed", program.display()),
            mend: format!("apt-get install {package} (or your distribution's package of that name)"),
        },
    }
}

fn free_port(port: u16, flag: &str) -> Finding {
    let result = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
    match result {
        Ok(_) => Finding::Good(format!("port {port} is free")),
        Err(error) => Finding::Bad {
            what: format!("port {port} cannot be listened on: {error}"),
            mend: format!("stop what uses it (ss -ltnp 'sport = :{port}'), or choose another with {flag}"),
        },
    }
}

/// Nothing begins on a disk that is nearly full; what has lived there goes on, for it can
/// still answer, and may be what it takes to delete something.
fn room(free: u64, data_dir: &Path, lived_here: bool) -> Finding {
    if free >= DISK_FREE_BYTES_MIN {
        return Finding::Good(format!("{} GiB free for {}", free >> 30, data_dir.display()));
    }
    let what = format!("only {} MiB free for {}", free >> 20, data_dir.display());
    match lived_here {
        true => Finding::Weak {
            what,
            mend: "free at least 1 GiB: writes are refused and pods are evicted when it is full".into(),
        },
        false => Finding::Bad {
            what,
            mend: "free at least 1 GiB, or choose another disk with --data-dir".into(),
        },
    }
}

fn disk(data_dir: &Path) -> Finding {
    let Some(existing) = data_dir.ancestors().find(|dir| dir.is_dir()) else {
        return Finding::Bad {
            what: format!("{} has no existing parent", data_dir.display()),
            mend: "choose another --data-dir".into(),
        };
    };
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let lived_here = [paths::SERVER_STORE, paths::AGENT]
                .iter()
                .any(|part| data_dir.join(part).is_dir());
            room(stat.blocks_available() * stat.fragment_size(), data_dir, lived_here)
        }
        Err(error) => Finding::Bad {
            what: format!("cannot look at {}: {error}", existing.display()),
            mend: "check the file system".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        assert!(matches!(kernel("5.10.0-30-amd64\n"), Finding::Good(_)));
        assert!(matches!(kernel("6.1.0"), Finding::Good(_)));
        assert!(matches!(kernel("4.19.0"), Finding::Bad { .. }));
        assert!(matches!(kernel(""), Finding::Bad { .. }));
    }

    #[test]
    fn a_full_disk_keeps_a_new_server_from_starting_and_no_other() {
        let dir = Path::new("/var/lib/skiff");
        assert!(matches!(room(2 << 30, dir, false), Finding::Good(_)));
        assert!(matches!(room(900 << 20, dir, false), Finding::Bad { .. }));
        assert!(matches!(room(0, dir, true), Finding::Weak { .. }));
    }

    #[test]
    fn a_taken_port_is_told_with_the_flag_that_changes_it() {
        let taken = TcpListener::bind(("::", 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let Finding::Bad { what, mend } = free_port(port, "--kubelet-port") else {
            panic!("the port is taken")
        };
        assert!(
            what.starts_with(&format!("port {port} cannot be listened on")),
            "{what}"
        );
        assert!(mend.ends_with("choose another with --kubelet-port"), "{mend}");
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let Finding::Bad { what, mend } = executable(Path::new("/no/such/containerd"), "containerd") else {
            panic!("missing")
        };
        assert_eq!(what, "/no/such/containerd is not installed");
        assert!(mend.starts_with("apt-get install containerd"));
    }

    #[test]
    fn lack_of_root_is_told() {
        assert_eq!(
            root(false),
            Finding::Bad {
                what: "not running as root".into(),
                mend: "run it with sudo".into()
            }
        );
    }
}
