//! Servers of both kinds as child processes: started, asked for their costs, killed.

use crate::Plan;
use crate::link::{Bare, Link};
use anyhow::{Context, Result, bail};
use skiff_proto::etcd::etcdserverpb as pb;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Skiff,
}

/// Where one server listens.
#[derive(Debug, Clone)]
pub struct Place {
    pub id: u64,
    pub clients: String,
    pub peers: String,
}

/// What a server has used up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub cpu_s: f64,
    pub syncs: f64,
    pub rss_mib: f64,
    /// Without what is backed by files.
    pub anonymous_mib: f64,
}

pub struct Server {
    pub kind: Kind,
    pub place: Place,
    child: Child,
    talk: Mutex<Option<(ChildStdin, Lines<BufReader<ChildStdout>>)>>,
    pub dir: TempDir,
    others: Vec<Place>,
}

/// Ports of this run: other programs' are not met, since each is tried.
static PORT: AtomicU16 = AtomicU16::new(21_000);

fn free_address() -> Result<String> {
    for _ in 0..1000 {
        let address = format!("127.0.0.1:{}", PORT.fetch_add(1, Ordering::Relaxed));
        if std::net::TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free")
}

pub fn place(id: u64) -> Result<Place> {
    Ok(Place {
        id,
        clients: free_address()?,
        peers: free_address()?,
    })
}

impl Server {
    /// One that is alone.
    pub async fn start(plan: &Plan, kind: Kind) -> Result<Server> {
        let alone = place(1)?;
        Server::start_among(plan, kind, alone.clone(), vec![alone]).await
    }

    /// One of several; etcd's begin together, ours are added to the first.
    pub async fn start_among(plan: &Plan, kind: Kind, place: Place, all: Vec<Place>) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("store-bench").tempdir_in(&plan.dir)?;
        let child = spawn(plan, kind, &place, &all, dir.path(), false)?;
        let mut server = Server {
            kind,
            place,
            child,
            talk: Mutex::new(None),
            dir,
            others: all,
        };
        server.take_pipes();
        Ok(server)
    }

    fn take_pipes(&mut self) {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        self.talk = Mutex::new(pipes.map(|(input, output)| (input, BufReader::new(output).lines())));
    }

    pub fn kill(&mut self) -> Result<()> {
        self.child.start_kill().context("killing a server")
    }

    /// After a kill.
    pub async fn start_again(&mut self, plan: &Plan) -> Result<()> {
        self.child.wait().await?;
        self.child = spawn(plan, self.kind, &self.place, &self.others, self.dir.path(), true)?;
        self.take_pipes();
        Ok(())
    }

    /// Says a line to one of ours, and hears one.
    pub async fn tell(&self, line: &str) -> Result<String> {
        let mut talk = self.talk.lock().await;
        let (input, output) = talk.as_mut().context("it does not listen")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        output.next_line().await?.context("it ended")
    }

    /// Waits until it answers a linearizable read.
    pub async fn ready(&self) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if let Ok(mut client) = pb::kv_client::KvClient::connect(format!("http://{}", self.place.clients)).await {
                let asked = pb::RangeRequest {
                    key: "ready".into(),
                    ..Default::default()
                };
                let answered = tokio::time::timeout(Duration::from_secs(2), client.range(asked)).await;
                if matches!(answered, Ok(Ok(_))) {
                    return Ok(begun.elapsed());
                }
            }
            if begun.elapsed() > Duration::from_secs(120) {
                bail!("{:?} does not answer", self.kind);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// So many connections of their own.
    pub async fn links(&self, count: usize) -> Result<Vec<Link>> {
        let made = (0..count).map(|_| Link::to(&self.place.clients));
        futures::future::try_join_all(made).await
    }

    /// The same for single requests.
    pub async fn bare_links(&self, count: usize) -> Result<Vec<Bare>> {
        let made = (0..count).map(|_| Bare::to(&self.place.clients));
        futures::future::try_join_all(made).await
    }

    pub async fn cost(&self) -> Result<Cost> {
        let pid = self.child.id().context("it ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mib = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok())
                .unwrap_or(0.0)
                / 1024.0
        };
        let syncs = match self.kind {
            Kind::Etcd => metric(&self.place.clients).await?,
            Kind::Skiff => self
                .tell("stats")
                .await?
                .split(' ')
                .nth(1)
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
        };
        Ok(Cost {
            cpu_s: cpu_s(pid)?,
            syncs,
            rss_mib: mib("VmRSS:"),
            anonymous_mib: mib("RssAnon:"),
        })
    }
}

/// What a process has used of the processors.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / 100.0)
}

fn spawn(plan: &Plan, kind: Kind, place: &Place, all: &[Place], dir: &std::path::Path, again: bool) -> Result<Child> {
    let mut command = match kind {
        Kind::Etcd => {
            let mut command = Command::new(&plan.etcd);
            let name = |place: &Place| format!("s{}", place.id);
            let cluster: Vec<String> = all.iter().map(|p| format!("{}=http://{}", name(p), p.peers)).collect();
            command.arg("--data-dir").arg(dir.join("data"));
            let (clients, peers) = (format!("http://{}", place.clients), format!("http://{}", place.peers));
            let flags = [
                ("--name", name(place)),
                ("--listen-client-urls", clients.clone()),
                ("--advertise-client-urls", clients),
                ("--listen-peer-urls", peers.clone()),
                ("--initial-advertise-peer-urls", peers),
                ("--initial-cluster", cluster.join(",")),
                ("--quota-backend-bytes", (8_u64 << 30).to_string()),
                ("--log-level", "error".into()),
            ];
            flags.into_iter().for_each(|(flag, value)| {
                command.arg(flag).arg(value);
            });
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
        }
        Kind::Skiff => {
            let mut command = Command::new(std::env::current_exe()?);
            let id = place.id.to_string();
            command.arg("serve").arg(dir.join("data"));
            command.args([&id, &place.clients, &place.peers]);
            if place.id > 1 || again && all.len() > 1 {
                command.arg("join");
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        }
    };
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    command.stderr(log).kill_on_drop(true);
    command
        .spawn()
        .with_context(|| format!("starting {:?}", command.as_std().get_program()))
}

/// How often etcd has synced its log and its database.
async fn metric(address: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let names = [
        "etcd_disk_wal_fsync_duration_seconds_count ",
        "etcd_disk_backend_commit_duration_seconds_count ",
    ];
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok())
    };
    Ok(names.into_iter().filter_map(value).sum())
}
