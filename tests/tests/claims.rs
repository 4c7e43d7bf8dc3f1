//! Claims on volumes that were made by hand: bound at once or with the pod that wants them, mounted, and
//! what is left when their pods and they themselves go.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const CLAIMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claims.yaml");
const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claims_pods.yaml");
const LONG: Duration = Duration::from_secs(60);

#[test]
fn claims_get_volumes_and_pods_get_claims() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 235 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    let made = host(
        &cluster,
        "mkdir -p /run/claims/local/part && echo kept >/run/claims/local/part/file && mount -t tmpfs x /run/claims/local/part \
         && echo below >/run/claims/local/part/file && cat /proc/sys/kernel/hostname",
    )?;
    let objects = std::fs::read_to_string(CLAIMS)?.replace("NODE", made.trim());
    cluster.kubectl_with_input(&["apply", "-f", "-"], &objects)?;
    phases(
        &cluster,
        "pvc",
        &[("host", "Bound"), ("local", "Pending"), ("nobody", "Pending")],
    )?;
    phases(
        &cluster,
        "pv",
        &[("host", "Bound"), ("local", "Available"), ("own", "Available")],
    )?;
    for (claim, reason) in [("local", "WaitForFirstConsumer"), ("nobody", "FailedBinding")] {
        told(&cluster, claim, reason)?;
    }
    cluster.kubectl(&["apply", "-f", PODS])?;
    let waited = cluster.kubectl(&["wait", "--for=condition=Ready", "pod/user", "--timeout=60s"]);
    waited.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    phases(&cluster, "pvc", &[("local", "Bound"), ("user-own", "Bound")])?;
    inside_the_pod(&cluster)?;
    told(&cluster, "waits", "FailedScheduling")?;
    afterwards(&cluster)
}

/// Runs a script on the node itself.
fn host(cluster: &Cluster, script: &str) -> Result<String> {
    let output = cluster.hosts[0].command("sh").args(["-c", script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {text}{errors}");
    Ok(text)
}

fn phases(cluster: &Cluster, kind: &str, expected: &[(&str, &str)]) -> Result<()> {
    for (name, phase) in expected {
        until(LONG, &format!("{kind} {name} {phase}"), || {
            let seen = cluster.kubectl(&["get", kind, name, "-o", "jsonpath={.status.phase}"])?;
            Ok(if seen == *phase { Ok(()) } else { Err(seen) })
        })?;
    }
    Ok(())
}

fn told(cluster: &Cluster, name: &str, reason: &str) -> Result<()> {
    let of = format!("involvedObject.name={name},reason={reason}");
    until(LONG, &of, || {
        let seen = cluster.kubectl(&["get", "events", "--field-selector", &of, "-o", "name"])?;
        Ok(if seen.is_empty() { Err(seen) } else { Ok(()) })
    })
}

fn inside_the_pod(cluster: &Cluster) -> Result<()> {
    for (script, expected) in [
        ("echo x >/host/file && cat /read/file", "x"),
        ("echo x >/read/file 2>/dev/null || echo refused", "refused"),
        // A local volume is its pods' group's; a host's directory is nobody's but the host's.
        ("stat -c '%g %a' /local; stat -c %g /host", "4000 2775\n0"),
        ("cat /part/file", "below"),
        ("echo y >/own/file && cat /own/file", "y"),
    ] {
        let got = cluster.kubectl(&["exec", "user", "--", "sh", "-c", script])?;
        ensure!(
            got.trim_end() == expected,
            "{script}: got {got:?}, expected {expected:?}"
        );
    }
    ensure!(host(cluster, "cat /run/claims/host/file")? == "x\n");
    let label = cluster.kubectl(&["get", "pvc", "user-own", "-o", "jsonpath={.metadata.labels.made}"])?;
    ensure!(label == "for-it", "{label}");
    Ok(())
}

/// A claim stays while a pod uses it; a volume stays when its claim is gone, and so does what is on it.
fn afterwards(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "pvc", "host", "--wait=false"])?;
    let going = cluster.kubectl(&["get", "pvc", "host", "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
    ensure!(!going.is_empty());
    cluster.kubectl(&["delete", "pod", "user", "waits", "--timeout=60s"])?;
    cluster.kubectl(&["wait", "--for=delete", "pvc/host", "pvc/user-own", "--timeout=60s"])?;
    phases(
        cluster,
        "pv",
        &[("host", "Released"), ("own", "Released"), ("local", "Bound")],
    )?;
    until(LONG, "nothing is mounted", || {
        let left = host(cluster, "grep -c kubernetes.io~csi /proc/mounts || true")?;
        Ok(if left == "0\n" { Ok(()) } else { Err(left) })
    })?;
    ensure!(host(cluster, "cat /run/claims/host/file /run/claims/local/part/file")? == "x\nbelow\n");
    cluster.kubectl(&["delete", "pv", "host", "--timeout=60s"])?;
    // A volume that goes away is a claim that is lost.
    cluster.kubectl(&["delete", "pv", "local", "--wait=false"])?;
    cluster.kubectl(&[
        "patch",
        "pv",
        "local",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    phases(cluster, "pvc", &[("local", "Lost")])
}
