//! Keeps the node's own containerd alive.
//!
//! containerd outlives the agent: it is its own session leader, its output goes
//! to a file, and the next agent finds it by socket and pid file. Stopping the
//! agent therefore never touches a container; `reset` is what ends containerd.

use super::config::{self, Layout, Options};
use crate::config::Config;
use crate::error::Error;
use crate::leftovers;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixStream;

/// containerd takes 0.1 to 0.5 s; a slow disk after a crash (bolt recovery) takes more.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(4);
const RETRY_LATE: Duration = Duration::from_millis(250);

/// Writes the configuration and makes sure that a containerd runs. Does not wait
/// until it answers.
pub fn ensure_started(config: &Config, layout: &Layout) -> Result<(), Error> {
    for dir in [&layout.root, &layout.state, &layout.cni_bin, &layout.cni_conf] {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    if running_pid(layout).is_some() {
        return Ok(());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let text = config::render(&Options {
        layout,
        pause_image: &config.pause_image,
        runc: config.runc_binary.as_deref(),
        restrict_oom_score_adj: !config::has_sys_resource(&status),
        apparmor: Path::new("/sys/kernel/security/apparmor").exists(),
    });
    std::fs::write(&layout.config, text).map_err(Error::io("write", &layout.config))?;
    leftovers::network::note(layout)?;
    // A socket that nobody serves would make the wait below believe too early.
    let _ = std::fs::remove_file(&layout.socket);
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&layout.log)
        .map_err(Error::io("open", &layout.log))?;
    let log_too = log.try_clone().map_err(Error::io("open", &layout.log))?;
    let mut command = std::process::Command::new(&config.containerd_binary);
    command
        .arg("--config")
        .arg(&layout.config)
        .args(["--log-level", "warn"])
        // A shim asks its parent's socket by this directory; the default may be another containerd's.
        .current_dir(&layout.root)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        .process_group(0);
    let spawned = with_huge_pages(|| command.spawn());
    let mut child = spawned.map_err(|source| Error::ContainerdStart {
        binary: config.containerd_binary.clone(),
        source,
    })?;
    std::fs::write(&layout.pid, child.id().to_string()).map_err(Error::io("write", &layout.pid))?;
    tracing::info!(pid = child.id(), socket = %layout.socket.display(), "started containerd");
    // Reaped as soon as it ends, so that a dead containerd is no zombie that looks alive.
    std::thread::Builder::new()
        .name("containerd-wait".into())
        .stack_size(64 << 10)
        .spawn(move || {
            let outcome = child.wait();
            tracing::warn!(?outcome, "containerd ended");
        })
        .map_err(Error::io("start a thread for", &layout.pid))?;
    Ok(())
}

/// Starts a program for which huge pages are as the system has them. This process may do
/// without (its heap is better off so), and a child inherits that: containerd would hand
/// it on to every container. The flag is the process's, thus set back at once.
fn with_huge_pages<T>(start: impl FnOnce() -> T) -> T {
    use nix::sys::prctl;
    let disabled = prctl::get_thp_disable().unwrap_or(false) && prctl::set_thp_disable(false).is_ok();
    let started = start();
    if disabled {
        let _ = prctl::set_thp_disable(true);
    }
    started
}

/// Waits until the socket accepts: as long as containerd is alive, however slow the machine is,
/// and at least for a while.
pub async fn wait_until_served(layout: &Layout) -> Result<(), Error> {
    let mut told = tokio::time::Instant::now();
    let mut retry = RETRY;
    loop {
        if UnixStream::connect(&layout.socket).await.is_ok() {
            return Ok(());
        }
        if told.elapsed() > START_TIME_MAX {
            let Some(pid) = running_pid(layout) else {
                return Err(Error::ContainerdSilent {
                    socket: layout.socket.clone(),
                    log: layout.log.clone(),
                });
            };
            tracing::warn!(pid, log = %layout.log.display(), "containerd runs but does not answer yet; waiting for it");
            (told, retry) = (tokio::time::Instant::now(), RETRY_LATE);
        }
        tokio::time::sleep(retry).await;
    }
}

/// The pid of our containerd when it is alive: the pid file and the kernel must
/// agree, for pids are reused.
pub fn running_pid(layout: &Layout) -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(&layout.pid).ok()?.trim().parse().ok()?;
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = layout.config.display().to_string();
    cmdline
        .split(|byte| *byte == 0)
        .any(|arg| arg == ours.as_bytes())
        .then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::{Layout, START_TIME_MAX};
    use crate::error::Error;
    use nix::sys::prctl;

    #[test]
    fn containerd_is_not_kept_from_huge_pages() {
        let status = || {
            let output = std::process::Command::new("cat").arg("/proc/self/status").output();
            let text = String::from_utf8(output.expect("cat").stdout).expect("text");
            text.lines()
                .find_map(|line| line.strip_prefix("THP_enabled:").map(|on| on.trim() == "1"))
        };
        prctl::set_thp_disable(true).expect("prctl");
        assert_ne!(status(), Some(true), "a child inherits the flag");
        assert_ne!(super::with_huge_pages(status), Some(false));
        assert!(prctl::get_thp_disable().expect("prctl"));
        prctl::set_thp_disable(false).expect("prctl");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_containerd_is_waited_for_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().expect("directory");
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.pid.parent().expect("a parent")).expect("directory");
        let silent = super::wait_until_served(&layout).await;
        assert!(matches!(silent, Err(Error::ContainerdSilent { .. })), "{silent:?}");
        // Any process that was started with our configuration is ours.
        let mut alive = std::process::Command::new("sh")
            .args(["-c", "read line"])
            .arg(&layout.config)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        std::fs::write(&layout.pid, alive.id().to_string()).expect("pid file");
        let waited = tokio::time::timeout(10 * START_TIME_MAX, super::wait_until_served(&layout)).await;
        assert!(waited.is_err(), "gave up on it: {waited:?}");
        let _socket = tokio::net::UnixListener::bind(&layout.socket).expect("socket");
        super::wait_until_served(&layout).await.expect("it serves");
        drop(alive.stdin.take());
        alive.wait().expect("it ends");
    }
}
