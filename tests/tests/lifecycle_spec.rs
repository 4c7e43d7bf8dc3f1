//! What a node makes of a pod's specification: whom it lets in, how pods are named,
//! probed, restarted and ended, and the pods of its own. One cluster, many checks.

use anyhow::{Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lifecycle_spec.yaml");
const LONG: Duration = Duration::from_secs(60);
const STATIC: &str = "own-node1";

#[test]
fn a_pods_specification_is_followed() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 219 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.kubectl(&["apply", "-f", PODS])?;
    who_is_let_in(&cluster)?;
    names(&cluster)?;
    probes(&cluster)?;
    ends(&cluster)?;
    all_containers_restart(&cluster)?;
    sidecars_end_last(&cluster)?;
    the_nodes_own_pods(&cluster)
}

/// Waits until this of the pod reads so.
fn shows(cluster: &Cluster, pod: &str, path: &str, expected: &str) -> Result<()> {
    until(LONG, &format!("{pod} {path} is {expected:?}"), || {
        let path = format!("-o=jsonpath={path}");
        let seen = cluster.kubectl(&["get", "pod", pod, "--ignore-not-found", &path])?;
        Ok(if seen == expected { Ok(()) } else { Err(seen) })
    })
}

fn told(cluster: &Cluster, pod: &str, expected: &str) -> Result<()> {
    let about = format!("--field-selector=involvedObject.name={pod}");
    until(LONG, &format!("the event {expected:?}"), || {
        let events = cluster.kubectl(&["get", "events", &about, "-o=jsonpath={.items[*].message}"])?;
        Ok(if events.contains(expected) { Ok(()) } else { Err(events) })
    })
}

fn inside(cluster: &Cluster, pod: &str, script: &str, expected: &str) -> Result<()> {
    let got = cluster.kubectl(&["exec", pod, "--", "sh", "-c", script])?;
    ensure!(
        got.trim_end() == expected,
        "{script}: got {got:?}, expected {expected:?}"
    );
    Ok(())
}

fn who_is_let_in(cluster: &Cluster) -> Result<()> {
    let all = "{.status.phase} {.status.reason} {.status.message}";
    for (pod, expected) in [
        (
            "unsafe",
            "Failed SysctlForbidden Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
        ),
        (
            "elsewhere",
            "Failed NodeAffinity Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
             affinity/selector",
        ),
        (
            "windows",
            "Failed PodOSNotSupported Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
        ),
    ] {
        shows(cluster, pod, all, expected)?;
    }
    shows(
        cluster,
        "too-big",
        "{.status.phase} {.status.reason}",
        "Failed OutOfcpu",
    )?;
    let none = "{.status.containerStatuses}{.status.podIP}";
    shows(cluster, "too-big", none, "")
}

fn names(cluster: &Cluster) -> Result<()> {
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/named",
        "pod/overridden",
        "--timeout=60s",
    ];
    cluster.kubectl(&ready)?;
    inside(
        cluster,
        "named",
        "hostname; id -g",
        "named.sub.default.svc.cluster.local\n5",
    )?;
    inside(
        cluster,
        "named",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "80",
    )?;
    inside(
        cluster,
        "overridden",
        "hostname; tail -1 /etc/hosts | cut -f2",
        "over.example\nover.example",
    )?;
    told(
        cluster,
        "too-long",
        "is too long (64 characters is the max, 80 characters requested)",
    )
}

fn probes(cluster: &Cluster) -> Result<()> {
    for expected in [
        "Liveness probe failed: dial tcp 10.",
        "Container tcp failed liveness probe, will be restarted",
        "Readiness probe failed: nope",
        "Readiness probe failed: command \"sleep 5\" timed out",
        "Back-off restarting failed container tcp in pod probed_default(",
    ] {
        told(cluster, "probed", expected)?;
    }
    for expected in [
        "Startup probe failed: timeout: failed to connect service",
        "Container grpc failed startup probe, will be restarted",
    ] {
        told(cluster, "started", expected)?;
    }
    shows(cluster, "named", "{.status.containerStatuses[0].restartCount}", "0")?;
    let gate = r#"{"status":{"conditions":[{"type":"skiff.test/gate","status":"True"}]}}"#;
    cluster.kubectl(&["patch", "pod", "probed", "--subresource=status", "-p", gate])?;
    let kept = "{.status.conditions[?(@.type=='skiff.test/gate')].status}";
    shows(cluster, "probed", kept, "True")?;
    cluster
        .kubectl(&["delete", "pod", "probed", "started", "--now"])
        .map(drop)
}

fn ends(cluster: &Cluster) -> Result<()> {
    told(cluster, "hooked", "PostStartHook failed")?;
    shows(cluster, "hooked", "{.status.phase}", "Failed")?;
    shows(cluster, "ruled", "{.status.phase}", "Failed")?;
    let status = "{.status.containerStatuses[0]['restartCount','state.terminated.exitCode']}";
    shows(cluster, "ruled", status, "1 7")?;
    shows(
        cluster,
        "ruled",
        "{.status.containerStatuses[0].lastState.terminated.exitCode}",
        "42",
    )?;
    let words = "{.status.containerStatuses[0].state.terminated.message}";
    shows(cluster, "ruled", words, "last words\n")?;
    shows(cluster, "init-fails", "{.status.phase}", "Failed")?;
    let condition = "{.status.conditions[?(@.type=='Initialized')].message}";
    shows(
        cluster,
        "init-fails",
        condition,
        "containers with incomplete status: [i]",
    )?;
    let waits = "{.status.containerStatuses[0].state.waiting.reason}";
    shows(cluster, "init-fails", waits, "PodInitializing")
}

/// One container's end ends all others, and all begin anew in the same sandbox.
fn all_containers_restart(cluster: &Cluster) -> Result<()> {
    let counts = "{.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount}";
    shows(cluster, "restarts-all", counts, "1 1 1 1")?;
    let states = "{.status.containerStatuses[*].ready} {.status.phase}";
    shows(cluster, "restarts-all", states, "true true Running")?;
    let codes = "{.status.containerStatuses[*].lastState.terminated.exitCode}";
    shows(cluster, "restarts-all", codes, "137 88")?;
    let condition = r#"{.status.conditions[?(@.type=="AllContainersRestarting")].status}"#;
    shows(cluster, "restarts-all", condition, "False")?;
    let order = [
        "exec",
        "restarts-all",
        "-c",
        "stays",
        "--",
        "sh",
        "-c",
        "echo $(cat /said/order)",
    ];
    let order = cluster.kubectl(&order)?;
    ensure!(order.trim() == "init app init app", "{order}");
    // Without such a rule there is no such condition.
    shows(cluster, "named", condition, "")
}

fn sidecars_end_last(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/sidecars", "--timeout=60s"])?;
    cluster.kubectl(&["delete", "pod", "sidecars"])?;
    let ends = cluster.hosts[0].command("cat").arg("/run/skiff-ends/ends").output()?;
    let ends = String::from_utf8_lossy(&ends.stdout).into_owned();
    ensure!(ends == "hook\napp\ntwo\none\n", "the ends came as {ends:?}");
    Ok(())
}

fn the_nodes_own_pods(cluster: &Cluster) -> Result<()> {
    let file = cluster.hosts[0].data_dir().join("agent/manifests/own.yaml");
    let write = |word: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: own}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             containers:\n  - {{name: c, image: 'skiff.local/web:0.1.0', command: [sh, -c, 'echo {word}; sleep 1000']}}\n"
        );
        std::fs::write(&file, text)
    };
    write("first")?;
    shows(cluster, STATIC, "{.status.phase}", "Running")?;
    let source = "{.metadata.annotations['kubernetes\\.io/config\\.source']} {.metadata.ownerReferences[0].kind}";
    shows(cluster, STATIC, source, "file Node")?;
    let logs = |expected: &str| {
        until(LONG, expected, || {
            let seen = cluster.kubectl(&["logs", STATIC]).unwrap_or_else(|e| e.to_string());
            Ok(if seen == format!("{expected}\n") {
                Ok(())
            } else {
                Err(seen)
            })
        })
    };
    logs("first")?;
    let get = |path: &str| {
        cluster.kubectl(&[
            "get",
            "pod",
            STATIC,
            "--ignore-not-found",
            &format!("-o=jsonpath={path}"),
        ])
    };
    let (uid, id) = (
        get("{.metadata.uid}")?,
        get("{.status.containerStatuses[0].containerID}")?,
    );
    cluster.kubectl(&["delete", "pod", STATIC, "--wait=false"])?;
    until(LONG, "the mirror is made anew", || {
        let now = get("{.metadata.uid}")?;
        Ok(if !now.is_empty() && now != uid {
            Ok(())
        } else {
            Err(now)
        })
    })?;
    shows(cluster, STATIC, "{.status.containerStatuses[0].containerID}", &id)?;
    write("second")?;
    logs("second")?;
    std::fs::remove_file(&file)?;
    until(LONG, "the pod goes with its file", || {
        let left = get("{.metadata.name}")?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
}
