//! A node's agent, its containerd and its shims are killed at any moment of a pod's
//! life; after that each pod is there once, wholly, and nothing is left of the others.
//! One server and one node; one check after another. `SKIFF_TEST_SEED` repeats a run,
//! `SKIFF_TEST_ROUNDS` kills things so often, `SKIFF_TEST_CHURN` lets so many pods through,
//! `SKIFF_TEST_NETWORK` is for a run beside others.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skiff_tests::node::{self, holds_exactly, things};
use skiff_tests::{Cluster, Host, Network, Programs, until};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Of a machine that does ten other things, and longer than the longest back-off (300 s) of a container
/// that was killed again and again; nothing waits for longer than it has to.
const LONG: Duration = Duration::from_secs(480);
/// Longer than a client keeps an idle connection.
const LEAKS_AFTER: Duration = Duration::from_secs(150);
const NODE: usize = 1;
const IMAGE: &str = "skiff.local/web:0.1.0";

/// Small and repeatable: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn whatever_is_killed_each_pod_is_there_once() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let id = u8::try_from(number("SKIFF_TEST_NETWORK", 214))?;
    let mut cluster = Cluster::new(programs, Network { id })?;
    cluster.add_host()?;
    cluster.add_host()?;
    cluster.start_server(&["--disable-agent"])?;
    until(LONG, "the server gives tokens", || {
        Ok(cluster
            .skiff(&["token", "list"])
            .map(drop)
            .map_err(|e| format!("{e:#}")))
    })?;
    cluster.start_agent(NODE)?;
    cluster.wait_ready(1)?;
    stuck_pods(&cluster).context("stuck pods")?;
    churn(&cluster).context("churn")?;
    if std::env::var_os("SKIFF_TEST_ROUNDS").is_none() {
        eprintln!("kills, leftovers, reboot and reset: only with SKIFF_TEST_ROUNDS, as `make test-long` runs them");
        return Ok(());
    }
    kills(&cluster).context("kills")?;
    leftovers(&cluster).context("leftovers")?;
    reboot_without_a_server(&cluster).context("reboot")?;
    reset_after_a_crash(&cluster).context("reset")
}

fn pod(name: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"kind": name.split('-').next()}},
        "spec": {
            "restartPolicy": policy, "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "first", "image": IMAGE, "command": ["true"]}],
            "containers": [{"name": "web", "image": IMAGE, "volumeMounts": [{"name": "here", "mountPath": "/here"}]}],
            "volumes": [{"name": "here", "emptyDir": {}}],
        },
    })
}

fn apply(cluster: &Cluster, items: Vec<Value>) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.kubectl_with_input(&["create", "-f", "-"], &list.to_string())?;
    Ok(())
}

/// The pods, by name.
fn pods(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", "pods", "-o", "json"])?)?;
    let items = list["items"].as_array().context("a list has items")?.clone();
    Ok(items
        .into_iter()
        .map(|pod| (text(&pod["metadata"]["name"]), pod))
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// All pods of these names are Ready, no other pod is there, and the node holds exactly them.
fn converged(cluster: &Cluster, names: &BTreeSet<String>) -> Result<BTreeMap<String, Value>> {
    let mut last = BTreeMap::new();
    until(LONG, &format!("{} pods, each once", names.len()), || {
        last = pods(cluster)?;
        if last.keys().ne(names.iter()) {
            let strange: Vec<_> = last.keys().filter(|name| !names.contains(*name)).collect();
            return Ok(Err(format!("{} pods are there, also {strange:?}", last.len())));
        }
        if let Some((name, pod)) = last.iter().find(|(_, pod)| !is_ready(pod)) {
            return Ok(Err(format!("{name} is not ready: {}", pod["status"])));
        }
        let uids = last.values().map(|pod| text(&pod["metadata"]["uid"])).collect();
        Ok(holds_exactly(&things(&cluster.hosts[NODE])?, &uids, uids.len()))
    })?;
    Ok(last)
}

/// Which container of a pod runs, and how often it was restarted.
fn container(pod: &Value) -> (String, i64) {
    let status = &pod["status"]["containerStatuses"][0];
    (
        text(&status["containerID"]),
        status["restartCount"].as_i64().unwrap_or(-1),
    )
}

fn shell(host: &Host, script: &str) -> Result<String> {
    let output = host.command("sh").args(["-c", script]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The process of a shim whose sandbox is of the pod `name`.
fn shim_of(host: &Host, name: &str) -> Result<String> {
    let state = host
        .data_dir()
        .join("agent/run/containerd/io.containerd.runtime.v2.task/k8s.io");
    shell(
        host,
        &format!(
            "for bundle in {}/*; do grep -q '\"io.kubernetes.cri.sandbox-name\":\"{name}\"' $bundle/config.json && \
             pgrep -f -- \"-id ${{bundle##*/}}\"; done 2>/dev/null | head -n 1",
            state.display()
        ),
    )
}

fn kills(cluster: &Cluster) -> Result<()> {
    let seed = number("SKIFF_TEST_SEED", 11);
    let rounds = number("SKIFF_TEST_ROUNDS", 9);
    eprintln!("seed {seed}, {rounds} rounds");
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let host = &cluster.hosts[NODE];
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut first = Vec::new();
    for name in ["steady-0", "steady-1", "victim-0", "victim-1"] {
        first.push(pod(name, "Always"));
        names.insert(name.to_string());
    }
    apply(cluster, first)?;
    let before = converged(cluster, &names)?;
    for round in 0..rounds {
        let mut items = Vec::new();
        for at in 0..3 {
            let name = format!("moves-{round}-{at}");
            items.push(pod(&name, "Always"));
            names.insert(name);
        }
        let moving: Vec<String> = names.iter().filter(|name| name.starts_with("moves")).cloned().collect();
        apply(cluster, items)?;
        std::thread::sleep(Duration::from_millis(chance.below(600)));
        for _ in 0..2 {
            let at = usize::try_from(chance.below(moving.len() as u64))?;
            if names.remove(&moving[at]) {
                cluster.kubectl(&["delete", "pod", &moving[at], "--wait=false"])?;
            }
        }
        std::thread::sleep(Duration::from_millis(chance.below(400)));
        match round % 3 {
            0 => {
                cluster.stop(NODE, "-9")?;
                std::thread::sleep(Duration::from_millis(chance.below(500)));
                cluster.start_joined_agent(NODE)?;
            }
            1 => drop(shell(host, "kill -9 $(pgrep -x containerd)")?),
            _ => {
                let victim = shim_of(host, &format!("victim-{}", chance.below(2)))?;
                let anyone = shell(host, "pgrep -f containerd-shim-runc-v2 | shuf -n 1")?;
                ensure!(!victim.is_empty(), "a victim has a shim");
                let steady = [shim_of(host, "steady-0")?, shim_of(host, "steady-1")?];
                let more = if steady.contains(&anyone) { "" } else { &anyone };
                shell(host, &format!("kill -9 {victim} {more}"))?;
            }
        }
    }
    let after = converged(cluster, &names).with_context(|| format!("seed {seed}"))?;
    for name in ["steady-0", "steady-1"] {
        ensure!(
            container(&before[name]) == container(&after[name]),
            "{name} was restarted: {:?}, then {:?}",
            container(&before[name]),
            container(&after[name])
        );
    }
    let restarts: i64 = ["victim-0", "victim-1"]
        .iter()
        .map(|name| container(&after[*name]).1)
        .sum();
    ensure!(restarts >= 1, "pods whose shim was killed were not restarted");
    let flapped = cluster.kubectl(&["get", "events", "-A", "--field-selector", "reason=NodeNotReady"])?;
    ensure!(!flapped.contains("node2"), "the node flapped: {flapped}");
    cluster.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    converged(cluster, &BTreeSet::new()).map(drop)
}

/// A pod that was deleted by force while no agent ran, and what was left of older lives.
fn leftovers(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[NODE];
    apply(cluster, vec![pod("lost", "Always"), pod("kept", "Always")])?;
    let names = |all: &[&str]| all.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let before = converged(cluster, &names(&["lost", "kept"]))?;
    cluster.stop(NODE, "-9")?;
    cluster.kubectl(&["delete", "pod", "lost", "--grace-period=0", "--force", "--wait=false"])?;
    let uid = "0d1e2f30-0000-4000-8000-00000000dead";
    shell(
        host,
        &format!(
            "volume={}/agent/pods/{uid}/volumes/kubernetes.io~empty-dir/v; mkdir -p $volume /var/log/pods/default_old_{uid}/c; \
             mount -t tmpfs old $volume; touch $volume/file /var/log/pods/default_old_{uid}/c/0.log; \
             for root in /sys/fs/cgroup /sys/fs/cgroup/*/; do [ -d $root/kubepods ] && mkdir -p $root/kubepods/besteffort/pod{uid}; done",
            host.data_dir().display()
        ),
    )?;
    let old = holds_exactly(&things(host)?, &names(&[]), 0);
    ensure!(old.is_err(), "what is to be removed is not there");
    cluster.start_joined_agent(NODE)?;
    let after = converged(cluster, &names(&["kept"]))?;
    ensure!(
        container(&before["kept"]) == container(&after["kept"]),
        "the other pod was restarted"
    );
    cluster.kubectl(&["delete", "pod", "kept", "--wait=false"])?;
    converged(cluster, &BTreeSet::new()).map(drop)
}

/// Pods that hang in every way a pod can; another one comes and goes beside them.
fn stuck_pods(cluster: &Cluster) -> Result<()> {
    let nowhere = cluster.network.address(250);
    let mut items = Vec::new();
    for at in 0..4 {
        let stuck = |name: &str, change: &dyn Fn(&mut Value)| {
            let mut pod = pod(&format!("stuck-{name}-{at}"), "Always");
            pod["spec"]["terminationGracePeriodSeconds"] = json!(100_000);
            change(&mut pod["spec"]);
            pod
        };
        let deaf = json!(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done"]);
        let sleeps = json!({"exec": {"command": ["sleep", "100000"]}});
        items.push(stuck("pull", &|spec| {
            spec["containers"][0]["image"] = json!(format!("{nowhere}:5000/none:1"));
        }));
        items.push(stuck("volume", &|spec| {
            spec["volumes"][0] = json!({"name": "here", "configMap": {"name": "none"}});
        }));
        items.push(stuck("probe", &|spec| {
            spec["containers"][0]["livenessProbe"] =
                json!({"exec": {"command": ["sleep", "100000"]}, "timeoutSeconds": 100_000});
        }));
        items.push(stuck("hook", &|spec| {
            spec["containers"][0]["lifecycle"] = json!({"postStart": sleeps})
        }));
        items.push(stuck("end", &|spec| {
            spec["containers"][0]["lifecycle"] = json!({"preStop": sleeps})
        }));
        items.push(stuck("deaf", &|spec| spec["containers"][0]["command"] = deaf.clone()));
    }
    apply(cluster, items)?;
    let runs = |kind: &str| {
        until(LONG, &format!("{kind} is stuck"), || {
            let seen = pods(cluster)?;
            let mut all = seen
                .iter()
                .filter(|(name, _)| name.starts_with(&format!("stuck-{kind}")));
            Ok(
                match all.find(|(_, pod)| pod["status"]["containerStatuses"][0]["state"]["running"].is_null()) {
                    Some((name, pod)) => Err(format!("{name}: {}", pod["status"])),
                    None => Ok(()),
                },
            )
        })
    };
    runs("end")?;
    runs("deaf")?;
    for at in 0..4 {
        for kind in ["end", "deaf"] {
            cluster.kubectl(&["delete", "pod", &format!("stuck-{kind}-{at}"), "--wait=false"])?;
        }
    }
    apply(cluster, vec![pod("free", "Always")])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/free", "--timeout=30s"])?;
    cluster.kubectl(&["exec", "free", "--", "true"])?;
    cluster.kubectl(&["delete", "pod", "free", "--timeout=30s"])?;
    let stuck = pods(cluster)?;
    ensure!(stuck.len() == 24, "all the others hang: {:?}", stuck.keys());
    cluster.kubectl(&["delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false"])?;
    converged(cluster, &BTreeSet::new()).map(drop)
}

/// Many pods come and go; nothing becomes more.
fn churn(cluster: &Cluster) -> Result<()> {
    const AT_ONCE: u64 = 25;
    let host = &cluster.hosts[NODE];
    let all = number("SKIFF_TEST_CHURN", 50);
    let rounds = all.div_ceil(AT_ONCE);
    let (mut before, mut took) = (None, Vec::new());
    for round in 0..rounds {
        let begun = Instant::now();
        let name = |at: u64| format!("churn-{round}-{at}");
        apply(cluster, (0..AT_ONCE).map(|at| pod(&name(at), "Always")).collect())?;
        // One client that watches: asking again and again would take the node's processors.
        let limit = format!("--timeout={}s", LONG.as_secs());
        cluster.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", &limit])?;
        cluster.kubectl(&["delete", "pods", "--all", &limit])?;
        converged(cluster, &BTreeSet::new())?;
        took.push(begun.elapsed().as_secs());
        if round % 10 == 9 {
            eprintln!("{} pods; seconds for each {AT_ONCE}: {took:?}", (round + 1) * AT_ONCE);
            took.clear();
        }
        // The first round fills what is kept for the next ones.
        if before.is_none() {
            before = Some(held(host)?);
            eprintln!("{before:?} after the first round");
        }
    }
    let before = before.context("there was a round")?;
    // Connections that nobody uses any more are kept for a while; what leaks stays.
    until(LEAKS_AFTER, "what was taken is given back", || {
        let after = held(host)?;
        eprintln!("{after:?} after {all} pods");
        Ok(more_than(&before, &after).map_or(Ok(()), Err))
    })
}

/// What there is more of than rest and chance explain.
fn more_than(before: &Held, after: &Held) -> Option<String> {
    let difference = node::difference(&before.things, &after.things);
    if !difference.is_empty() {
        return Some(difference);
    }
    let grown = |what: &str, before: node::Process, after: node::Process| {
        let more = after.files > before.files + 8 || after.memory_kib > before.memory_kib + 24_576;
        more.then(|| format!("{what} has become larger: {before:?}, {after:?}"))
    };
    grown("the agent", before.agent, after.agent).or_else(|| grown("containerd", before.containerd, after.containerd))
}

/// What a node and its programs hold.
struct Held {
    things: node::Things,
    agent: node::Process,
    containerd: node::Process,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "agent {:?}, containerd {:?}", self.agent, self.containerd)
    }
}

fn held(host: &Host) -> Result<Held> {
    Ok(Held {
        things: things(host)?,
        agent: node::process(host, "skiff.pid")?,
        containerd: node::process(host, "agent/run/containerd.pid")?,
    })
}

/// Every process is gone, and with them the mounts, the cgroups and what is in `/run`.
fn power_cut(host: &Host) -> Result<()> {
    let data = host.data_dir().display().to_string();
    let script = format!(
        r"sed -n 's|^[^ ]* \({data}[^ ]*\) .*|\1|p; s|^[^ ]* \(/run/[^ ]*\) .*|\1|p' /proc/mounts | sort -r | xargs -r umount -l
        rm -rf /run/* {data}/agent/run/*
        for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
            [ ${{root##*/}} = unified ] || ! [ -d $root/kubepods ] || find $root/kubepods -depth -type d -exec rmdir {{}} +
        done 2>/dev/null
        find /sys/fs/cgroup -name unified -prune -o -name kubepods -print"
    );
    shell(host, "kill -9 -1")?;
    until(LONG, "nothing is left of before", || {
        let left = shell(host, &script)?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
}

/// A power cut, while the server is away.
fn reboot_without_a_server(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[NODE];
    let names: BTreeSet<String> = (0..4).map(|at| format!("again-{at}")).collect();
    apply(cluster, names.iter().map(|name| pod(name, "Always")).collect())?;
    let before = converged(cluster, &names)?;
    cluster.stop(0, "-TERM")?;
    power_cut(host)?;
    cluster.start_joined_agent(NODE)?;
    let uids: BTreeSet<String> = before.values().map(|pod| text(&pod["metadata"]["uid"])).collect();
    until(LONG, "the node runs what it ran", || {
        Ok(holds_exactly(&things(host)?, &uids, uids.len()))
    })?;
    cluster.start_server(&["--disable-agent"])?;
    // Until the node has told it of the restarts, the server knows the pods as they were.
    until(LONG, "the server knows that they were restarted", || {
        let seen = pods(cluster)?;
        Ok(match seen.iter().find(|(_, pod)| container(pod).1 == 0) {
            Some((name, pod)) => Err(format!("{name}: {}", pod["status"])),
            None => Ok(()),
        })
    })?;
    let after = converged(cluster, &names)?;
    for (name, pod) in &after {
        ensure!(
            pod["metadata"]["uid"] == before[name]["metadata"]["uid"] && container(pod).1 == 1,
            "{name} is the same pod, restarted once: {:?}",
            container(pod)
        );
        ensure!(
            pod["status"]["podIP"] == before[name]["status"]["podIP"],
            "{name} has lost its address"
        );
    }
    Ok(())
}

/// Nothing stays that a reset is to take away, even when nobody lives who knows it.
fn reset_after_a_crash(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[NODE];
    cluster.stop(NODE, "-9")?;
    shell(host, "kill -9 $(pgrep -x containerd)")?;
    let data = host.data_dir();
    let output = host
        .command(&cluster.programs.skiff.to_string_lossy())
        .args(["reset", "--yes", "--data-dir", &data.to_string_lossy()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    until(LONG, "nothing is left", || {
        let things = things(host)?;
        let left = node::difference(&node::Things::new(), &things);
        if !left.is_empty() {
            return Ok(Err(left));
        }
        let processes = shell(
            host,
            "ps -eo args --no-headers | grep -vE '^(ps|sh|grep|.*testhost)' || true",
        )?;
        let tables = shell(host, "nft list tables | grep -i skiff || true")?;
        let mounts = shell(host, &format!("grep {} /proc/mounts || true", data.display()))?;
        let all = format!("{processes}{tables}{mounts}");
        Ok(if all.is_empty() { Ok(()) } else { Err(all) })
    })?;
    ensure!(!data.exists(), "{} is still there", data.display());
    Ok(())
}
