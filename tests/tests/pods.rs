//! What a pod sees and what `kubectl` sees of it: volumes, environment, security,
//! logs, exec, attach. One cluster, one line of checks.

use anyhow::{Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pods.yaml");
const IMAGE: &str = "--image=skiff.local/web:0.1.0";
const LONG: Duration = Duration::from_secs(30);
/// Changes travel by events, so they are there long before this.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn what_pods_see_and_what_is_seen_of_them() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 209 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.kubectl(&["apply", "-f", PODS])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/volumes", "--timeout=30s"])?;
    environment_and_files(&cluster)?;
    changes_arrive(&cluster)?;
    failures_are_told(&cluster)?;
    logs(&cluster)?;
    short_processes_are_heard(&cluster)?;
    streams(&cluster)?;
    nothing_is_left(&cluster)
}

fn inside(cluster: &Cluster, container: &str, script: &str) -> Result<String> {
    cluster.kubectl(&["exec", "volumes", "-c", container, "--", "sh", "-c", script])
}

fn check(cluster: &Cluster, container: &str, script: &str, expected: &str) -> Result<()> {
    let got = inside(cluster, container, script)?;
    ensure!(
        got.trim_end() == expected,
        "{script}: got {got:?}, expected {expected:?}"
    );
    Ok(())
}

/// A failing command's standard error.
fn refused(cluster: &Cluster, arguments: &[&str], wanted: &str) -> Result<()> {
    match cluster.kubectl(arguments) {
        Err(error) if error.to_string().contains(wanted) => Ok(()),
        other => anyhow::bail!("kubectl {arguments:?}: {other:?}, not {wanted:?}"),
    }
}

fn environment_and_files(cluster: &Cluster) -> Result<()> {
    for (container, script, expected) in [
        ("c", "echo $B $CPU $user", "1-red-$(A)-$(NO) 250 admin"),
        ("c", "id -u; id -G", "1000\n0 2000"),
        ("c", "hostname -f", "myhost.sub.default.svc.cluster.local"),
        ("c", "tail -1 /etc/hosts", "1.2.3.4\tfoo\tbar"),
        ("c", "stat -c '%a %g' /shared /memory", "2777 2000\n2777 2000"),
        (
            "c",
            "stat -Lc '%a %u %g' /settings/colour /projected/token",
            "440 0 2000\n640 1000 2000",
        ),
        (
            "c",
            "dd if=/dev/zero of=/memory/x bs=1M count=2 2>/dev/null || echo full; rm /memory/x",
            "full",
        ),
        ("c", "echo told > /shared/note; touch /sub/y; ls /shared", "note\nx-1"),
        (
            "d",
            "cat /shared/note; touch /x 2>/dev/null || echo sealed",
            "told\nsealed",
        ),
        (
            "d",
            "grep -E 'CapBnd|NoNewPrivs' /proc/self/status",
            "CapBnd:\t0000000000000000\nNoNewPrivs:\t1",
        ),
        (
            "d",
            "grep -q kubepods/burstable/pod /proc/self/cgroup && echo grouped",
            "grouped",
        ),
    ] {
        check(cluster, container, script, expected)?;
    }
    Ok(())
}

fn changes_arrive(cluster: &Cluster) -> Result<()> {
    let token = inside(cluster, "c", "md5sum /projected/token")?;
    cluster.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--type=merge",
        "-p",
        r#"{"data":{"colour":"blue"}}"#,
    ])?;
    cluster.kubectl(&["label", "pod", "volumes", "new=label"])?;
    until(SOON, "config map and labels reach the files", || {
        let seen = inside(cluster, "c", "cat /settings/colour; echo; cat /projected/labels")?;
        let there = seen.contains("blue") && seen.contains("new=\"label\"");
        Ok(if there { Ok(()) } else { Err(seen) })
    })?;
    check(cluster, "c", "md5sum /projected/token", token.trim_end())?;
    check(cluster, "c", "cat /shared/note", "told")
}

fn failures_are_told(cluster: &Cluster) -> Result<()> {
    for wanted in [
        "MountVolume.SetUp failed for volume \"m\" : configmap \"later\" not found",
        "failed to prepare subPath for volumeMount \"e\" of container \"c\"",
        "container has runAsNonRoot and image will run as root",
    ] {
        until(LONG, wanted, || {
            let events = cluster.kubectl(&["get", "events"])?;
            Ok(if events.contains(wanted) { Ok(()) } else { Err(events) })
        })?;
    }
    let waiting = "container \"c\" in pod \"late\" is waiting to start: ContainerCreating";
    refused(cluster, &["logs", "late"], waiting)?;
    let previous = "previous terminated container \"c\" in pod \"late\" not found";
    refused(cluster, &["logs", "late", "--previous"], previous)?;
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=x=1"])?;
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/late", "--timeout=10s"])
        .map(|_| ())
}

fn logs(cluster: &Cluster) -> Result<()> {
    until(LONG, "the container runs again", || {
        let now = cluster.kubectl(&["logs", "restarts"])?;
        Ok(if now == "second\n" { Ok(()) } else { Err(now) })
    })?;
    for (arguments, expected) in [
        (vec!["logs", "restarts", "--previous"], "first\n"),
        (vec!["logs", "restarts", "--limit-bytes=3"], "sec"),
        (vec!["logs", "restarts", "--tail=0"], ""),
        (
            vec!["logs", "volumes", "--all-containers"],
            "web: myhost listens on port 8080\n",
        ),
    ] {
        let got = cluster.kubectl(&arguments)?;
        ensure!(got == expected, "kubectl {arguments:?} printed {got:?}");
    }
    Ok(())
}

/// The process prints and ends just while kubectl attaches.
fn short_processes_are_heard(cluster: &Cluster) -> Result<()> {
    for (number, websockets) in ["true", "false"].iter().cycle().take(8).enumerate() {
        let name = format!("short{number}");
        let arguments = [
            "run",
            &name,
            "--rm",
            "-i",
            "--restart=Never",
            IMAGE,
            "--",
            "echo",
            "heard",
        ];
        let mut command = cluster.kubectl_command(&arguments);
        command.stdin(std::process::Stdio::null());
        let output = command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            said.matches("heard").count() == 1,
            "run {number} (WebSocket {websockets}): {output:?}"
        );
    }
    Ok(())
}

fn streams(cluster: &Cluster) -> Result<()> {
    for websockets in ["true", "false"] {
        let script = "head -c 10000000 /dev/zero | tr '\\0' x";
        let mut command = cluster.kubectl_command(&["exec", "volumes", "-c", "c", "--", "sh", "-c", script]);
        let output = command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output()?;
        ensure!(
            output.stdout.len() == 10_000_000,
            "{} bytes came (WebSocket {websockets})",
            output.stdout.len()
        );
        let mut command = cluster.kubectl_command(&["exec", "late", "--", "sh", "-c", "exit 42"]);
        let output = command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output()?;
        ensure!(output.status.code() == Some(42), "{output:?}");
    }
    let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary"])?;
    ensure!(
        summary.contains("\"workingSetBytes\"") && summary.contains("\"name\":\"volumes\""),
        "{summary}"
    );
    Ok(())
}

fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "pods", "--all", "--now"])?;
    let host = &cluster.hosts[0];
    until(LONG, "mounts, files and copies are gone", || {
        let mounts = host.command("cat").arg("/proc/mounts").output()?;
        let mounts = String::from_utf8_lossy(&mounts.stdout).into_owned();
        let copies = host.data_dir().join("agent/copy");
        let count = |kind: &str| std::fs::read_dir(copies.join(kind)).map_or(0, Iterator::count);
        let kept = ["configmaps", "secrets", "tokens"].map(count);
        let pods = std::fs::read_dir(host.data_dir().join("agent/pods")).map_or(0, Iterator::count);
        let left = mounts
            .lines()
            .filter(|line| line.contains("/volumes/") || line.contains("volume-subpaths"));
        let left: Vec<&str> = left.collect();
        Ok(if left.is_empty() && kept == [0, 0, 0] && pods == 0 {
            Ok(())
        } else {
            Err(format!("mounts {left:?}, copies {kept:?}, {pods} pod directories"))
        })
    })
}
