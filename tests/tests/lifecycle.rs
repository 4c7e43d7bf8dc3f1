//! The life of pods on one real node, from their first container to their last,
//! as `kubectl` shows it. One cluster, one check after another.

use anyhow::{Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(40);
const PODS: &str = include_str!("lifecycle.yaml");

/// Waits until the pods, as this template shows them, contain all of these.
fn shows(cluster: &Cluster, name: &str, path: &str, wanted: &[&str]) -> Result<()> {
    let path = format!("jsonpath={path}");
    until(LONG, &format!("{name} shows {wanted:?}"), || {
        let seen = cluster.kubectl(&["get", "pod", name, "-o", &path])?;
        Ok(if wanted.iter().all(|part| seen.contains(part)) {
            Ok(())
        } else {
            Err(seen)
        })
    })
}

const PHASE: &str = "{.status.phase} {.status.reason}";
const STATE: &str = "{.status.containerStatuses[0].state} {.status.containerStatuses[0].lastState} restarts={.status.containerStatuses[0].restartCount}";
const IDS: &str = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID}{\"\\n\"}{end}";

#[test]
fn pods_live_and_end_as_on_kubernetes() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 206 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.kubectl_with_input(&["apply", "-f", "-"], PODS)?;
    ends_and_waits(&cluster)?;
    probes(&cluster)?;
    deletions(&cluster)?;
    debugging(&cluster)?;
    runtime_and_agent_die(&cluster)
}

fn ends_and_waits(cluster: &Cluster) -> Result<()> {
    for (name, path, wanted) in [
        ("once", PHASE, &["Succeeded"][..]),
        ("once", STATE, &["\"message\":\"bye\\n\"", "Completed", "restarts=0"]),
        ("fails", PHASE, &["Failed"]),
        ("fails", STATE, &["\"exitCode\":4", "\"reason\":\"Error\""]),
        ("again", PHASE, &["Succeeded"]),
        ("again", STATE, &["\"exitCode\":0", "restarts=1"]),
        (
            "crashes",
            STATE,
            &[
                "CrashLoopBackOff",
                "\"message\":\"last words\\n\"",
                "back-off 10s restarting failed container=c",
            ],
        ),
        (
            "no-program",
            STATE,
            &["CrashLoopBackOff", "StartError", "\"exitCode\":128", "restarts=1"],
        ),
        (
            "no-config",
            STATE,
            &["CreateContainerConfigError", "configmap \\\"none\\\" not found"],
        ),
        ("no-name", STATE, &["InvalidImageName"]),
        ("no-image", STATE, &["ErrImageNeverPull"]),
        ("deadline", PHASE, &["Failed DeadlineExceeded"]),
        ("greedy", STATE, &["OOMKilled", "\"exitCode\":137"]),
        ("init-fails", PHASE, &["Failed"]),
        ("init-fails", STATE, &["PodInitializing"]),
        ("host", "{.status.podIP} {.status.phase}", &["172.30.206.2 Running"]),
    ] {
        shows(cluster, name, path, wanted)?;
    }
    Ok(())
}

fn fetch(cluster: &Cluster, pod: &str, path: &str) -> Result<()> {
    cluster.kubectl(&[
        "exec",
        pod,
        "-c",
        "c",
        "--",
        "wget",
        "-qO-",
        &format!("http://127.0.0.1:8080{path}"),
    ])?;
    Ok(())
}

fn probes(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/alive",
        "pod/ready",
        "--timeout=40s",
    ])?;
    fetch(cluster, "ready", "/fail")?;
    let ready = "{.status.conditions[?(@.type==\"Ready\")]}";
    shows(cluster, "ready", ready, &["\"status\":\"False\"", "ContainersNotReady"])?;
    fetch(cluster, "ready", "/heal")?;
    shows(cluster, "ready", ready, &["\"status\":\"True\""])?;
    let healed = cluster.kubectl(&["get", "pod", "ready", "-o", &format!("jsonpath={ready}")])?;
    ensure!(!healed.contains("reason"), "the old reason is still there: {healed}");
    fetch(cluster, "alive", "/fail")?;
    shows(cluster, "alive", STATE, &["restarts=1", "running"])?;
    // What somebody else writes into the status is set right again.
    let wrong = r#"{"status":{"conditions":[{"type":"Ready","status":"False","reason":"NodeNotReady"}]}}"#;
    cluster.kubectl(&["patch", "pod", "ready", "--subresource=status", "-p", wrong])?;
    shows(cluster, "ready", ready, &["\"status\":\"True\""])
}

fn deletions(cluster: &Cluster) -> Result<()> {
    let deaf = cluster.kubectl(&["get", "pods", "-l", "deaf", "-o", "name"])?;
    ensure!(deaf.lines().count() == 2, "{deaf}");
    let timed = |arguments: &[&str]| -> Result<f64> {
        let started = Instant::now();
        cluster.kubectl(arguments)?;
        Ok(started.elapsed().as_secs_f64())
    };
    let took = timed(&["delete", "pod", "deaf", "--grace-period=3"])?;
    ensure!((2.9..6.0).contains(&took), "TERM, three seconds, KILL took {took} s");
    let took = timed(&["delete", "pod", "hooked"])?;
    ensure!(
        (1.9..6.0).contains(&took),
        "a preStop hook of two seconds took {took} s"
    );
    // By force, while its sixty seconds are running.
    cluster.kubectl(&["delete", "pod", "forced", "--wait=false"])?;
    cluster.kubectl(&["delete", "pod", "forced", "--grace-period=0", "--force"])?;
    until(Duration::from_secs(10), "the forced one's process is gone", || {
        let output = cluster.hosts[0].command("ps").args(["-eo", "args"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(if text.contains("marker-of-forced") {
            Err(text)
        } else {
            Ok(())
        })
    })?;
    // Sidecars end after the app, the last one first.
    cluster.kubectl(&["delete", "pod", "crew"])?;
    let order = std::fs::read_to_string("/tmp/skiff-test-206/order/ends")?;
    ensure!(order == "app\nsecond\nfirst\n", "ended in the order {order:?}");
    Ok(())
}

fn debugging(cluster: &Cluster) -> Result<()> {
    let image = "--image=skiff.local/web:0.1.0";
    cluster.kubectl(&[
        "debug",
        "ready",
        image,
        "--target=c",
        "-c",
        "look",
        "--profile=general",
        "--",
        "sh",
        "-c",
        "ps; sleep 1000",
    ])?;
    until(LONG, "the debug container sees its target's processes", || {
        let seen = cluster.kubectl(&["logs", "ready", "-c", "look"])?;
        Ok(if seen.contains("/web") { Ok(()) } else { Err(seen) })
    })
}

fn runtime_and_agent_die(cluster: &Cluster) -> Result<()> {
    let running = ["get", "pods", "-l", "stays", "-o", IDS];
    let before = cluster.kubectl(&running)?;
    let pid = || -> Result<String> {
        let output = cluster.hosts[0].command("pgrep").args(["-x", "containerd"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let first = pid()?;
    cluster.hosts[0].command("kill").args(["-9", &first]).status()?;
    until(LONG, "containerd runs again", || {
        let now = pid()?;
        Ok(if !now.is_empty() && now != first {
            Ok(())
        } else {
            Err(now)
        })
    })?;
    cluster.stop(0, "-9")?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.kubectl_with_input(&["create", "-f", "-"], LATER)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/later", "--timeout=40s"])?;
    let after = cluster.kubectl(&running)?;
    ensure!(before == after, "before:\n{before}after:\n{after}");
    let node = cluster.kubectl(&["get", "events", "-A", "--field-selector", "reason=NodeNotReady"])?;
    ensure!(
        node.trim().is_empty() || !node.contains("node1"),
        "the node flapped: {node}"
    );
    Ok(())
}

const LATER: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "later"},
    "spec": {"containers": [{"name": "c", "image": "skiff.local/web:0.1.0"}], "terminationGracePeriodSeconds": 1}}"#;
