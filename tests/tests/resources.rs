//! What pods may use: the cgroups that bound them, resizes while they run, what the node
//! says it has, and who goes when something runs out.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resources.yaml");
/// The node looks at what pods hold every ten seconds, and less often on a busy machine.
const LONG: Duration = Duration::from_secs(90);

#[test]
fn pods_get_what_they_may_have() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 224 })?;
    cluster.add_host()?;
    cluster.start_server(&["--system-reserved=cpu=100m", "--pod-max-pids=200"])?;
    cluster.wait_ready(1)?;
    cluster.kubectl(&["apply", "-f", PODS])?;
    for pod in ["guaranteed", "burstable", "besteffort", "within"] {
        let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
        waited.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    }
    cgroups(&cluster)?;
    resizes(&cluster)?;
    what_does_not_fit(&cluster)?;
    extended_resources(&cluster)?;
    who_must_go(&cluster)
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    cluster.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
}

fn eventually(cluster: &Cluster, object: &str, path: &str, expected: &str) -> Result<()> {
    until(LONG, &format!("{object} {path} is {expected:?}"), || {
        let got = field(cluster, object, path)?;
        Ok(if got == expected { Ok(()) } else { Err(got) })
    })
}

/// CPU request in thousandths, quota in microseconds, memory in bytes.
type Limits = (i64, Option<i64>, Option<i64>);

/// `path` below the hierarchy's root. A request that nobody can tell from another by the
/// kernel's values counts as equal.
fn check_cgroup(cluster: &Cluster, path: &str, (milli, quota, memory): Limits) -> Result<()> {
    let v2 = cluster.hosts[0].shell("test -e /sys/fs/cgroup/cgroup.controllers && echo yes || echo no")? == "yes";
    let shares = (milli * 1_024 / 1_000).max(2);
    let (script, expected) = if v2 {
        let log = f64::from(i32::try_from(shares)?).log2();
        let weight = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
        let weight = if shares <= 2 { 1.0 } else { weight };
        let quota = quota.map_or("max".to_owned(), |q| q.to_string());
        let memory = memory.map_or("max".to_owned(), |m| m.to_string());
        let script = format!("cd /sys/fs/cgroup/{path} && cat cpu.weight cpu.max memory.max");
        (script, format!("{weight}\n{quota} 100000\n{memory}"))
    } else {
        // Without a limit the kernel shows the most that it can count.
        let memory = memory.map_or("9223372036854771712".to_owned(), |m| m.to_string());
        let script = format!(
            "cd /sys/fs/cgroup && cat cpu/{path}/cpu.shares cpu/{path}/cpu.cfs_quota_us memory/{path}/memory.limit_in_bytes"
        );
        (script, format!("{shares}\n{}\n{memory}", quota.unwrap_or(-1)))
    };
    let got = cluster.hosts[0].shell(&script)?;
    ensure!(got == expected, "{path}: got {got:?}, expected {expected:?}");
    Ok(())
}

fn uid(cluster: &Cluster, pod: &str) -> Result<String> {
    field(cluster, &format!("pod/{pod}"), "{.metadata.uid}")
}

fn cgroups(cluster: &Cluster) -> Result<()> {
    const MIB: i64 = 1 << 20;
    let guaranteed = format!("kubepods/pod{}", uid(cluster, "guaranteed")?);
    check_cgroup(cluster, &guaranteed, (300, Some(30_000), Some(128 * MIB)))?;
    // A sidecar runs beside the others, so its limits are added.
    let burstable = format!("kubepods/burstable/pod{}", uid(cluster, "burstable")?);
    check_cgroup(cluster, &burstable, (200, Some(40_000), Some(96 * MIB)))?;
    let besteffort = format!("kubepods/besteffort/pod{}", uid(cluster, "besteffort")?);
    check_cgroup(cluster, &besteffort, (0, None, None))?;
    let id = field(cluster, "pod/burstable", "{.status.containerStatuses[0].containerID}")?;
    let id = id.trim_start_matches("containerd://").to_owned();
    // `greedy` asks for no CPU.
    for (class, milli) in [("burstable", 200), ("besteffort", 0)] {
        check_cgroup(cluster, &format!("kubepods/{class}"), (milli, None, None))?;
    }
    let pids =
        format!("cat /sys/fs/cgroup/pids/{burstable}/pids.max /sys/fs/cgroup/{burstable}/pids.max 2>/dev/null || true");
    ensure!(
        cluster.hosts[0].shell(&pids)? == "200",
        "the pod's processes are not limited"
    );
    let own = format!("{burstable}/{id}/cgroup.procs");
    let procs = format!("$(ls /sys/fs/cgroup/memory/{own} /sys/fs/cgroup/{own} 2>/dev/null | head -1)");
    let script = format!("cat /proc/$(head -1 {procs})/oom_score_adj");
    let score: i64 = cluster.hosts[0].shell(&script)?.parse()?;
    ensure!(
        (3..1_000).contains(&score),
        "oom_score_adj of a Burstable container is {score}"
    );
    Ok(())
}

fn resize(cluster: &Cluster, pod: &str, container: &str, limits: &str) -> Result<()> {
    let resources = format!("{{\"requests\":{limits},\"limits\":{limits}}}");
    let patch = format!("{{\"spec\":{{\"containers\":[{{\"name\":\"{container}\",\"resources\":{resources}}}]}}}}");
    cluster.kubectl(&["patch", "pod", pod, "--subresource", "resize", "--patch", &patch])?;
    Ok(())
}

fn of_container(container: &str, path: &str) -> String {
    format!("{{.status.containerStatuses[?(@.name==\"{container}\")]{path}}}")
}

const PENDING: &str = "{.status.conditions[?(@.type==\"PodResizePending\")]['reason']}";
const RESIZES: &str = "{.status.conditions[?(@.type==\"PodResizeInProgress\")].status}{.status.conditions[?(@.type==\"PodResizePending\")].status}";

fn resizes(cluster: &Cluster) -> Result<()> {
    const MIB: i64 = 1 << 20;
    let path = format!("kubepods/pod{}", uid(cluster, "guaranteed")?);
    let id = |container: &str| field(cluster, "pod/guaranteed", &of_container(container, ".containerID"));
    let before = id("stays")?;
    resize(cluster, "guaranteed", "stays", "{\"cpu\":\"300m\",\"memory\":\"96Mi\"}")?;
    eventually(
        cluster,
        "pod/guaranteed",
        &of_container("stays", ".resources.limits.memory"),
        "96Mi",
    )?;
    eventually(cluster, "pod/guaranteed", RESIZES, "")?;
    ensure!(
        id("stays")? == before,
        "a container that need not restart was restarted"
    );
    let own = format!("{path}/{}", before.trim_start_matches("containerd://"));
    check_cgroup(cluster, &own, (300, Some(30_000), Some(96 * MIB)))?;
    check_cgroup(cluster, &path, (400, Some(40_000), Some(160 * MIB)))?;
    // Smaller, and with a policy that asks for a restart.
    resize(cluster, "guaranteed", "anew", "{\"cpu\":\"50m\",\"memory\":\"32Mi\"}")?;
    eventually(cluster, "pod/guaranteed", &of_container("anew", ".restartCount"), "1")?;
    eventually(cluster, "pod/guaranteed", &of_container("anew", ".ready"), "true")?;
    eventually(cluster, "pod/guaranteed", RESIZES, "")?;
    let own = format!("{path}/{}", id("anew")?.trim_start_matches("containerd://"));
    check_cgroup(cluster, &own, (50, Some(5_000), Some(32 * MIB)))?;
    check_cgroup(cluster, &path, (350, Some(35_000), Some(128 * MIB)))?;
    ensure!(id("stays")? == before, "the other container was restarted");
    Ok(())
}

fn what_does_not_fit(cluster: &Cluster) -> Result<()> {
    // More than the node has is refused at once.
    let beyond = resize(cluster, "guaranteed", "stays", "{\"cpu\":\"1000\",\"memory\":\"96Mi\"}");
    let refusal = beyond.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        refusal.contains("node didn't have enough allocatable resources: cpu, requested: 1000050, allocatable: "),
        "{refusal}"
    );
    // All that is free but for what the others hold: it waits until one of them goes.
    let allocatable = field(cluster, "node/node1", "{.status.allocatable.cpu}")?;
    let milli: i64 = match allocatable.strip_suffix('m') {
        Some(milli) => milli.parse()?,
        None => allocatable.parse::<i64>()? * 1_000,
    };
    let capacity: i64 = field(cluster, "node/node1", "{.status.capacity.cpu}")?.parse()?;
    ensure!(
        milli == capacity * 1_000 - 100,
        "what is reserved is allocatable: {allocatable}"
    );
    let wanted = milli - 150;
    resize(
        cluster,
        "guaranteed",
        "stays",
        &format!("{{\"cpu\":\"{wanted}m\",\"memory\":\"96Mi\"}}"),
    )?;
    eventually(cluster, "pod/guaranteed", PENDING, "Deferred")?;
    let limit = of_container("stays", ".resources.limits.cpu");
    ensure!(
        field(cluster, "pod/guaranteed", &limit)? == "300m",
        "it was resized although there is no room"
    );
    cluster.kubectl(&["delete", "pod", "burstable"])?;
    eventually(cluster, "pod/guaranteed", PENDING, "")?;
    eventually(cluster, "pod/guaranteed", RESIZES, "")?;
    let told = field(cluster, "pod/guaranteed", &limit)?;
    ensure!(told != "300m", "room was given and not taken: {told}");
    Ok(())
}

fn extended_resources(cluster: &Cluster) -> Result<()> {
    let patch = "{\"status\":{\"capacity\":{\"example.com/thing\":\"3\"}}}";
    cluster.kubectl(&["patch", "node", "node1", "--subresource", "status", "--patch", patch])?;
    eventually(cluster, "node/node1", "{.status.allocatable.example\\.com/thing}", "3")?;
    eventually(cluster, "node/node1", "{.status.capacity.example\\.com/thing}", "3")
}

fn who_must_go(cluster: &Cluster) -> Result<()> {
    let of = |pod: &str, path: &str, expected: &str| eventually(cluster, &format!("pod/{pod}"), path, expected);
    of("greedy", "{.status.phase}", "Failed")?;
    let told = field(
        cluster,
        "pod/greedy",
        "{.status.containerStatuses[0].state.terminated['reason','exitCode']}",
    )?;
    ensure!(told == "OOMKilled 137", "got {told}");
    of("overfull", "{.status.reason}", "Evicted")?;
    of("overfull", "{.status.phase}", "Failed")?;
    let message = field(cluster, "pod/overfull", "{.status.message}")?;
    ensure!(
        message == "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ",
        "{message}"
    );
    of("within", "{.status.phase}", "Running")?;
    of("besteffort", "{.status.containerStatuses[0].restartCount}", "0")
}
