//! A cluster of test hosts: the first runs a server, the others join it.

use crate::host::Host;
use crate::network::Network;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the programs under test lie.
#[derive(Debug, Clone)]
pub struct Programs {
    pub skiff: PathBuf,
    pub testhost: PathBuf,
    /// Directory of `pause.tar` and `web.tar`.
    pub images: PathBuf,
}

impl Programs {
    /// Those that were built with this one: `target/<profile>`.
    pub fn beside(program: &Path) -> Result<Self> {
        let mut dir = program.parent().context("a program lies in a directory")?;
        if dir.ends_with("deps") {
            dir = dir.parent().context("deps lies in a directory")?;
        }
        let programs = Self {
            skiff: dir.join("skiff"),
            testhost: dir.join("testhost"),
            images: dir
                .parent()
                .context("the profile's directory lies in target")?
                .join("images"),
        };
        for needed in [
            &programs.skiff,
            &programs.testhost,
            &dir.join("skiff-cni"),
            &programs.images.join("web.tar"),
        ] {
            ensure!(
                needed.exists(),
                "{} is missing: run this with `make test` or `make bench`",
                needed.display()
            );
        }
        Ok(programs)
    }
}

/// Ends with everything it started when dropped.
pub struct Cluster {
    pub programs: Programs,
    pub network: Network,
    pub dir: PathBuf,
    pub hosts: Vec<Host>,
    keep: bool,
}

impl Cluster {
    /// A segment of its own, nothing running yet. `SKIFF_TEST_KEEP` leaves
    /// everything in place for a look.
    pub fn new(programs: Programs, network: Network) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("skiff-test-{}", network.id));
        let mut cluster = Self {
            programs,
            network,
            dir,
            hosts: Vec::new(),
            keep: std::env::var_os("SKIFF_TEST_KEEP").is_some(),
        };
        cluster.clear().context("cannot clear what an earlier run left")?;
        std::fs::create_dir_all(&cluster.dir)?;
        Ok(cluster)
    }

    fn clear(&mut self) -> Result<()> {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if let Some(host) = Host::open(&entry.path())? {
                host.destroy()?;
            }
        }
        self.network.down()?;
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// One more machine, on which nothing runs.
    pub fn add_host(&mut self) -> Result<&Host> {
        let index = u8::try_from(self.hosts.len() + 2).context("at most 253 hosts")?;
        let name = format!("node{}", self.hosts.len() + 1);
        let host = Host::create(
            &self.programs.testhost,
            &self.dir.join(&name),
            &name,
            self.network,
            index,
        )?;
        let images = host.data_dir().join("images");
        std::fs::create_dir_all(&images)?;
        for entry in std::fs::read_dir(&self.programs.images)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "tar") {
                std::fs::copy(entry.path(), images.join(entry.file_name()))?;
            }
        }
        self.hosts.push(host);
        self.hosts.last().context("it was just added")
    }

    /// Starts the server on the first host, or starts it again.
    pub fn start_server(&self, flags: &[&str]) -> Result<()> {
        self.start(0, &[&["server"], flags].concat())
    }

    /// Joins host `at` with a new token, or starts its agent again.
    pub fn start_agent(&self, at: usize) -> Result<()> {
        let token = self.skiff(&["token", "create", "--ttl", "1h"])?;
        let server = format!("https://{}:6443", self.hosts[0].address());
        self.start(at, &["agent", "--server", &server, "--token", token.trim()])
    }

    /// Makes host `at` one more server, by asking that of host `of`.
    pub fn join_server(&self, at: usize, of: usize) -> Result<()> {
        let token = self.skiff_at(of, &["token", "create", "--server", "--ttl", "1h"])?;
        let server = format!("https://{}:6443", self.hosts[of].address());
        self.start(at, &["server", "--join", &server, "--token", token.trim()])
    }

    /// Starts the server of host `at` with what it keeps.
    pub fn restart_server(&self, at: usize) -> Result<()> {
        self.start(at, &["server"])
    }

    /// Starts the agent of host `at` with what it keeps: nobody else need be there.
    pub fn start_joined_agent(&self, at: usize) -> Result<()> {
        self.start(at, &["agent"])
    }

    fn start(&self, at: usize, arguments: &[&str]) -> Result<()> {
        let host = &self.hosts[at];
        let log = File::options()
            .create(true)
            .append(true)
            .open(host.dir.join("skiff.log"))?;
        host.command(&self.programs.skiff.to_string_lossy())
            .args(arguments)
            .args([
                "--data-dir",
                &host.data_dir().to_string_lossy(),
                "--node-ip",
                &host.address().to_string(),
            ])
            .env(
                "SKIFF_LOG_LEVEL",
                std::env::var("SKIFF_LOG_LEVEL").unwrap_or_else(|_| "info".into()),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start skiff")?;
        Ok(())
    }

    /// Signals the skiff process of host `at`; says which it is.
    pub fn signal(&self, at: usize, signal: &str) -> Result<String> {
        let host = &self.hosts[at];
        let pid = std::fs::read_to_string(host.data_dir().join("skiff.pid")).context("skiff does not run there")?;
        let pid = pid.trim();
        let sent = host.command("kill").args([signal, pid]).status()?;
        ensure!(sent.success(), "cannot signal skiff on {}", host.name);
        if signal == "-CONT" {
            continue_what_stopped_with_it(&host.data_dir())?;
        }
        Ok(pid.to_owned())
    }

    /// Signals the skiff process of host `at` and waits until it has ended.
    pub fn stop(&self, at: usize, signal: &str) -> Result<()> {
        let pid = &self.signal(at, signal)?;
        let host = &self.hosts[at];
        until(Duration::from_secs(20), "skiff has ended", || {
            let alive = host
                .command("kill")
                .args(["-0", pid])
                .stderr(Stdio::null())
                .status()?
                .success();
            let zombie = || -> Result<bool> {
                let status = host
                    .command("cat")
                    .arg(format!("/proc/{pid}/status"))
                    .stderr(Stdio::null())
                    .output()?;
                Ok(String::from_utf8_lossy(&status.stdout).contains("State:\tZ"))
            };
            Ok(if !alive || zombie()? {
                Ok(())
            } else {
                Err(format!("process {pid} lives"))
            })
        })
    }

    /// `skiff` with these arguments on the server's host.
    pub fn skiff(&self, arguments: &[&str]) -> Result<String> {
        self.skiff_at(0, arguments)
    }

    /// The same on another host that runs a server.
    pub fn skiff_at(&self, at: usize, arguments: &[&str]) -> Result<String> {
        let host = &self.hosts[at];
        let output = host
            .command(&self.programs.skiff.to_string_lossy())
            .args(arguments)
            .args([
                "--data-dir",
                &host.data_dir().to_string_lossy(),
                "--kubeconfig",
                &host.data_dir().join("admin.kubeconfig").to_string_lossy(),
            ])
            .output()?;
        text_of(output, || format!("skiff {arguments:?}"))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.hosts[0].data_dir().join("admin.kubeconfig")
    }

    pub fn wait_ready(&self, nodes: usize) -> Result<()> {
        self.skiff(&["status", "--wait", "60s", "--nodes", &nodes.to_string()])
            .map(|_| ())
            .with_context(|| self.logs())
    }

    /// `kubectl` on the server's host.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl_command_at(0, arguments)
    }

    /// The same on another host that runs a server.
    pub fn kubectl_command_at(&self, at: usize, arguments: &[&str]) -> Command {
        let host = &self.hosts[at];
        let mut command = host.command("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", host.data_dir().join("admin.kubeconfig"));
        command
    }

    pub fn kubectl_at(&self, at: usize, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_command_at(at, arguments).stdin(Stdio::null()).output()?;
        text_of(output, || format!("kubectl {arguments:?} on {}", self.hosts[at].name))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_command(arguments).stdin(Stdio::null()).output()?;
        text_of(output, || format!("kubectl {arguments:?}"))
    }

    /// The same with something on standard input.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
        text_of(child.wait_with_output()?, || format!("kubectl {arguments:?}"))
    }

    /// Last lines of every host's log, for a failure's message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let log = std::fs::read_to_string(host.dir.join("skiff.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!(
                "--- {}\n{}\n",
                host.name,
                lines[lines.len().saturating_sub(25)..].join("\n")
            );
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept: {}", self.dir.display());
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        if let Err(error) = self.clear() {
            eprintln!("not everything could be removed: {error:#}");
        }
    }
}

/// nsenter stops when the program below it does; stopped, it would keep the host from ending.
fn continue_what_stopped_with_it(data_dir: &Path) -> Result<()> {
    let data_dir = data_dir.to_string_lossy();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.starts_with("nsenter ") && command.contains(&*data_dir) {
            let pid = process.file_name();
            Command::new("kill").arg("-CONT").arg(pid).status()?;
        }
    }
    Ok(())
}

fn text_of(output: Output, what: impl Fn() -> String) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{} failed: {}{}",
            what(),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Looks until it is so; in the end says what was seen last.
pub fn until(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Result<(), String>>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = match look() {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}; seen last: {seen}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
