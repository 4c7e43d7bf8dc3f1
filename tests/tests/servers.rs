//! Several servers: they join, one after the other is lost, and their clients go on.

use anyhow::{Context, Result, bail, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const NETWORK: u8 = 198;

/// Long enough for a slow machine; another leader takes less than a second.
const LONG: Duration = Duration::from_secs(90);

const SERVERS: usize = 3;
/// The host of a node that is no server.
const AGENT: usize = 3;

/// What `skiff server list` says: name, role, whether it answers.
fn list(cluster: &Cluster, at: usize) -> Result<Vec<(String, String, bool)>> {
    let text = cluster.skiff_at(at, &["server", "list"])?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _, role, answers, ..] = words[..] else {
            bail!("cannot read {line:?}")
        };
        Ok((name.to_owned(), role.to_owned(), answers == "yes"))
    };
    text.lines().skip(1).map(line).collect()
}

fn wait_until_whole(cluster: &Cluster) -> Result<()> {
    for at in 0..SERVERS {
        until(LONG, "all servers answer and one leads", || {
            let seen = list(cluster, at)?;
            let leaders = seen.iter().filter(|(_, role, _)| role == "leader").count();
            let all = seen.len() == SERVERS && seen.iter().all(|(_, role, answers)| *answers && role != "learner");
            Ok(if all && leaders == 1 {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            })
        })?;
    }
    Ok(())
}

fn leader(cluster: &Cluster, asked: usize) -> Result<usize> {
    let seen = list(cluster, asked)?;
    let (name, ..) = seen
        .iter()
        .find(|(_, role, _)| role == "leader")
        .context("nobody leads")?;
    let at = cluster.hosts.iter().position(|host| host.name == *name);
    at.with_context(|| format!("{name} is no host"))
}

/// Creates objects through every server that answers, and remembers those that were acknowledged.
struct Writers<'c> {
    cluster: &'c Cluster,
    stop: AtomicBool,
    /// Not asked: it is cut off, paused or dead. SERVERS: none.
    away: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
}

impl Writers<'_> {
    fn write(&self, through: usize) {
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.away.load(Ordering::Relaxed) == through {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let name = format!("kept-{through}-{n}");
            let made = self
                .cluster
                .kubectl_at(through, &["create", "configmap", &name, "--request-timeout=20s"]);
            if made.is_ok() {
                self.acknowledged.lock().expect("names").insert(name);
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("names").len()
    }

    /// Others take writes while this one is away.
    fn others_go_on(&self) -> Result<()> {
        let before = self.count();
        until(LONG, "writes go on", || {
            let now = self.count();
            Ok(if now >= before + 4 {
                Ok(())
            } else {
                Err(format!("{before}, then {now}"))
            })
        })
    }
}

#[test]
fn a_minority_of_servers_is_not_missed() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: NETWORK })?;
    for _ in 0..=AGENT {
        cluster.add_host()?;
    }
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    mistakes(&cluster)?;
    cluster.join_server(1, 0)?;
    cluster.wait_ready(2)?;
    cluster.join_server(2, 1)?;
    cluster.wait_ready(3)?;
    cluster.start_agent(AGENT)?;
    cluster.wait_ready(4)?;
    wait_until_whole(&cluster)?;
    endpoints_are(&cluster, 0, &[0, 1, 2])?;
    let through_another = ["--context=kubernetes-admin@skiff-node3", "get", "nodes", "-o", "name"];
    until(LONG, "the kubeconfig knows the other servers", || {
        cluster.kubectl_at(1, &through_another).map(|_| Ok(()))
    })?;

    let writers = Writers {
        cluster: &cluster,
        stop: AtomicBool::new(false),
        away: AtomicUsize::new(SERVERS),
        acknowledged: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for through in 0..SERVERS {
            let writers = &writers;
            scope.spawn(move || writers.write(through));
        }
        let done = disturb(&cluster, &writers);
        writers.stop.store(true, Ordering::Relaxed);
        done
    })?;
    for at in 0..SERVERS {
        let there = cluster.kubectl_at(at, &["get", "configmaps", "-o", "name"])?;
        let there: BTreeSet<&str> = there
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
            .collect();
        let acknowledged = writers.acknowledged.lock().expect("names");
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .collect();
        ensure!(lost.is_empty(), "{} lost {lost:?}", cluster.hosts[at].name);
    }
    for_good(&cluster)
}

/// A server that cannot join says why, and changes nothing.
fn mistakes(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[1];
    let attempt = |token: &str, flags: &[&str]| -> Result<String> {
        let server = format!("https://{}:6443", cluster.hosts[0].address());
        let output = host
            .command(&cluster.programs.skiff.to_string_lossy())
            .args([
                "server",
                "--join",
                &server,
                "--token",
                token,
                "--node-ip",
                &host.address().to_string(),
            ])
            .args(["--data-dir", &host.data_dir().to_string_lossy()])
            .args(flags)
            .output()?;
        ensure!(!output.status.success(), "it joined with {flags:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let nodes_token = cluster.skiff(&["token", "create"])?;
    let servers_token = cluster.skiff(&["token", "create", "--server"])?;
    let told = attempt(nodes_token.trim(), &[])?;
    ensure!(told.contains("this token is for nodes, not for servers"), "{told}");
    let told = attempt(servers_token.trim(), &["--cluster-domain", "edge.local"])?;
    ensure!(told.contains("give --cluster-domain cluster.local"), "{told}");
    ensure!(
        !host.data_dir().join("server/tls/ca.key").exists(),
        "keys were handed out"
    );
    let alone = list(cluster, 0)?;
    ensure!(alone.len() == 1, "{alone:?}");
    let refused = cluster
        .skiff(&["server", "remove", "node1"])
        .expect_err("the only one stays")
        .to_string();
    ensure!(refused.contains("is the only server"), "{refused}");
    let refused = cluster
        .skiff(&["server", "remove", "nobody"])
        .expect_err("unknown")
        .to_string();
    ensure!(refused.contains("there is no server \"nobody\""), "{refused}");
    Ok(())
}

fn endpoints_are(cluster: &Cluster, asked: usize, servers: &[usize]) -> Result<()> {
    let mut wanted: Vec<String> = servers
        .iter()
        .map(|at| cluster.hosts[*at].address().to_string())
        .collect();
    wanted.sort();
    let wanted = wanted.join(" ");
    until(
        LONG,
        "the endpoints of `kubernetes` are the servers that answer",
        || {
            let path = "jsonpath={.items[*].endpoints[*].addresses[*]}";
            let label = "-lkubernetes.io/service-name=kubernetes";
            let seen = cluster.kubectl_at(asked, &["get", "endpointslices", label, "-o", path])?;
            Ok(if seen == wanted {
                Ok(())
            } else {
                Err(format!("{seen}, not {wanted}"))
            })
        },
    )
}

/// The leader is killed, paused, cut off and stopped, while clients write.
fn disturb(cluster: &Cluster, writers: &Writers) -> Result<()> {
    for fault in ["kill", "pause", "cut", "stop"] {
        let at = leader(cluster, 0)?;
        let other = (at + 1) % SERVERS;
        writers.away.store(at, Ordering::Relaxed);
        match fault {
            "kill" => cluster.stop(at, "-9")?,
            "pause" => drop(cluster.signal(at, "-STOP")?),
            "cut" => cluster.hosts[at].cut()?,
            _ => cluster.stop(at, "-TERM")?,
        }
        writers.others_go_on().with_context(|| format!("{fault} {at}"))?;
        until(LONG, "another leads", || {
            let now = leader(cluster, other)?;
            Ok(if now != at { Ok(()) } else { Err(format!("{now}")) })
        })?;
        if fault == "kill" {
            let rest: Vec<usize> = (0..SERVERS).filter(|server| *server != at).collect();
            endpoints_are(cluster, other, &rest)?;
        }
        match fault {
            "pause" => drop(cluster.signal(at, "-CONT")?),
            "cut" => cluster.hosts[at].heal()?,
            _ => cluster.restart_server(at)?,
        }
        wait_until_whole(cluster).with_context(|| format!("after {fault} {at}"))?;
        writers.away.store(SERVERS, Ordering::Relaxed);
        writers.others_go_on().with_context(|| format!("after {fault} {at}"))?;
    }
    Ok(())
}

/// The server that the node joined with goes for good: the node, and the others, go on.
fn for_good(cluster: &Cluster) -> Result<()> {
    cluster.stop(0, "-9")?;
    let node = &cluster.hosts[AGENT].name;
    let renewed = || {
        cluster.kubectl_at(
            1,
            &[
                "get",
                "lease",
                "-n",
                "kube-node-lease",
                node,
                "-o",
                "jsonpath={.spec.renewTime}",
            ],
        )
    };
    let before = renewed()?;
    until(LONG, "the node that is no server reports to another one", || {
        let now = renewed()?;
        Ok(if now != before { Ok(()) } else { Err(now) })
    })?;
    let overrides = format!("{{\"spec\":{{\"nodeName\":\"{node}\"}}}}");
    cluster.kubectl_at(
        1,
        &[
            "run",
            "late",
            "--image=skiff.local/web:0.1.0",
            "--overrides",
            &overrides,
        ],
    )?;
    cluster.kubectl_at(1, &["wait", "pod/late", "--for=condition=Ready", "--timeout=90s"])?;
    let told = cluster.skiff_at(1, &["server", "remove", "node1"])?;
    ensure!(told.contains("server node1 removed"), "{told}");
    let left = list(cluster, 2)?;
    ensure!(
        left.len() == 2 && left.iter().all(|(_, _, answers)| *answers),
        "{left:?}"
    );
    // One of two cannot be spared while the other is away.
    cluster.signal(2, "-STOP")?;
    let refused = cluster.skiff_at(1, &["server", "remove", "node2"]);
    cluster.signal(2, "-CONT")?;
    let refused = refused.expect_err("no majority would be left").to_string();
    ensure!(refused.contains("node3"), "{refused}");
    Ok(())
}
