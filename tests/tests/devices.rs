//! Dynamic resource allocation with a driver on the node: pods get devices by template and by shared claim, a pod
//! waits for one that is given back, a server that is killed forgets nothing, and a driver that refuses is asked again.
//! `SKIFF_TEST_NETWORK` is for a run beside others.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

const OBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/devices.yaml");
const DRIVER: &str = "devices.skiff.example";
const LONG: Duration = Duration::from_secs(90);

#[test]
fn pods_get_devices_and_give_them_back() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let id = std::env::var("SKIFF_TEST_NETWORK").map_or(Ok(241), |id| id.parse())?;
    let mut cluster = Cluster::new(programs, Network { id })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    let mut driver = start_driver(&cluster)?;
    let checked = check(&cluster);
    let _ = driver.kill();
    let _ = driver.wait();
    checked.with_context(|| log(&cluster).unwrap_or_default())
}

fn start_driver(cluster: &Cluster) -> Result<Child> {
    let host = &cluster.hosts[0];
    let program = cluster.programs.testhost.with_file_name("dra-driver");
    let log = File::create(host.dir.join("driver.log"))?;
    let mut command = host.command(&program.to_string_lossy());
    command.args([DRIVER, "/var/lib/kubelet"]).stdin(Stdio::null());
    Ok(command.stdout(log.try_clone()?).stderr(log).spawn()?)
}

fn log(cluster: &Cluster) -> Result<String> {
    Ok(std::fs::read_to_string(cluster.hosts[0].dir.join("driver.log"))?)
}

fn get(cluster: &Cluster, what: &[&str], path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    cluster.kubectl(&[&["get"], what, &["-o", &path]].concat())
}

/// Waits until a field of an object is so.
fn shows(cluster: &Cluster, what: &[&str], path: &str, wanted: &str) -> Result<()> {
    until(LONG, &format!("{what:?} {path} is {wanted:?}"), || {
        let seen = get(cluster, what, path).unwrap_or_else(|error| format!("{error:#}"));
        Ok(if seen == wanted { Ok(()) } else { Err(seen) })
    })
}

fn asked(cluster: &Cluster, what: &str, count: usize) -> Result<()> {
    until(LONG, &format!("the driver is told {what} {count} times"), || {
        let log = log(cluster)?;
        let seen = log.lines().filter(|line| line.starts_with(what)).count();
        Ok(if seen == count { Ok(()) } else { Err(log) })
    })
}

fn wait_ready(cluster: &Cluster, pod: &str) -> Result<()> {
    let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=90s"]);
    waited.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    Ok(())
}

fn variable(cluster: &Cluster, pod: &str, container: &str) -> Result<String> {
    let script = "echo \"$SKIFF_CLAIM\"";
    let output = cluster.kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script])?;
    Ok(output.trim().to_string())
}

/// A pod like the first of the file, of one container.
fn wants_one(name: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  \
         resourceClaims: [{{name: device, resourceClaimTemplateName: any}}]\n  containers:\n  - name: with\n    \
         image: skiff.local/web:0.1.0\n    command: [sh, -c, \"{command}\"]\n    resources: {{claims: [{{name: device}}]}}\n"
    )
}

fn check(cluster: &Cluster) -> Result<()> {
    let node = get(cluster, &["nodes"], "{.items[0].metadata.name}")?;
    let objects = std::fs::read_to_string(OBJECTS)?.replace("NODE", &node);
    cluster.kubectl_with_input(&["apply", "-f", "-"], &objects)?;
    for pod in ["first", "sharer", "second-sharer"] {
        wait_ready(cluster, pod)?;
    }
    allocated(cluster).context("allocated")?;
    // No device is left.
    cluster.kubectl_with_input(&["apply", "-f", "-"], &wants_one("waits", "sleep 3600"))?;
    let message = "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available: \
                   1 Preemption is not helpful for scheduling.";
    shows(
        cluster,
        &["pod", "waits"],
        "{.status.conditions[?(@.type==\"PodScheduled\")].message}",
        message,
    )?;
    // What is prepared stays prepared.
    cluster.stop(0, "-KILL")?;
    cluster.restart_server(0)?;
    cluster.wait_ready(1)?;
    cluster.kubectl(&["delete", "pod", "first"])?;
    wait_ready(cluster, "waits")?;
    asked(cluster, "prepare", 3)?;
    asked(cluster, "unprepare", 1)?;
    let log = log(cluster)?;
    let place = |what: &str| log.find(what);
    ensure!(
        place("unprepare first") < place("\nprepare waits"),
        "the device was not back yet: {log}"
    );
    refused(cluster).context("refused")?;
    ends(cluster).context("ends")
}

fn allocated(cluster: &Cluster) -> Result<()> {
    let claim = get(
        cluster,
        &["pod", "first"],
        "{.status.resourceClaimStatuses[?(@.name==\"device\")].resourceClaimName}",
    )?;
    ensure!(claim.starts_with("first-device-"), "{claim}");
    ensure!(variable(cluster, "first", "with")? == claim);
    ensure!(variable(cluster, "first", "without")?.is_empty());
    ensure!(variable(cluster, "sharer", "with")? == "shared");
    let of = ["resourceclaim", claim.as_str()];
    for (path, wanted) in [
        (
            "{.metadata.annotations.resource\\.kubernetes\\.io/pod-claim-name}",
            "device",
        ),
        ("{.metadata.labels.made}", "yes"),
        ("{.metadata.ownerReferences[0].name}", "first"),
        ("{.metadata.finalizers[0]}", "resource.kubernetes.io/delete-protection"),
        ("{.status.reservedFor[0].name}", "first"),
        ("{.status.allocation.devices.results[0].request}", "one"),
        ("{.status.allocation.devices.results[0].device}", "small"),
        ("{.status.allocation.devices.config[0].source}", "FromClass"),
        (
            "{.status.allocation.nodeSelector.nodeSelectorTerms[0].matchFields[0].key}",
            "metadata.name",
        ),
    ] {
        let seen = get(cluster, &of, path)?;
        ensure!(seen == wanted, "{path}: {seen}, not {wanted}");
    }
    let large = get(
        cluster,
        &["resourceclaim", "shared"],
        "{.status.allocation.devices.results[0].device}",
    )?;
    let sharers = get(cluster, &["resourceclaim", "shared"], "{.status.reservedFor[*].name}")?;
    let mut sharers: Vec<&str> = sharers.split(' ').collect();
    sharers.sort_unstable();
    ensure!(
        large == "large" && sharers == ["second-sharer", "sharer"],
        "{large} {sharers:?}"
    );
    // Two claims, three pods.
    asked(cluster, "prepare", 2)
}

/// A driver that cannot is asked until it can.
fn refused(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[0];
    host.shell(&format!("touch /var/lib/kubelet/plugins/{DRIVER}/refuse"))?;
    cluster.kubectl(&["delete", "pod", "waits"])?;
    cluster.kubectl_with_input(&["apply", "-f", "-"], &wants_one("refused", "sleep 3600"))?;
    let of = "involvedObject.name=refused,reason=FailedPrepareDynamicResources";
    until(LONG, of, || {
        let seen = cluster.kubectl(&[
            "get",
            "events",
            "--field-selector",
            of,
            "-o",
            "jsonpath={.items[0].message}",
        ])?;
        let wanted = "Failed to prepare dynamic resources: prepare dynamic resources: NodePrepareResources failed for ResourceClaim refused-device-";
        Ok(if seen.starts_with(wanted) && seen.ends_with(": told to refuse") {
            Ok(())
        } else {
            Err(seen)
        })
    })?;
    host.shell(&format!("rm /var/lib/kubelet/plugins/{DRIVER}/refuse"))?;
    wait_ready(cluster, "refused")?;
    cluster.kubectl(&["delete", "pod", "refused"])?;
    Ok(())
}

/// A pod that ends gives its device back although it is still there; the last user of a claim frees it.
fn ends(cluster: &Cluster) -> Result<()> {
    cluster.kubectl_with_input(&["apply", "-f", "-"], &wants_one("done", "true"))?;
    shows(cluster, &["pod", "done"], "{.status.phase}", "Succeeded")?;
    shows(cluster, &["resourceclaims"], "{.items[*].metadata.name}", "shared")?;
    cluster.kubectl(&["delete", "pod", "sharer"])?;
    shows(
        cluster,
        &["resourceclaim", "shared"],
        "{.status.reservedFor[*].name}",
        "second-sharer",
    )?;
    cluster.kubectl(&["delete", "pod", "second-sharer"])?;
    shows(
        cluster,
        &["resourceclaim", "shared"],
        "{.status}{.metadata.finalizers}",
        "{}",
    )?;
    let log = log(cluster)?;
    let of = |what: &str| log.lines().filter(|line| line.starts_with(what)).count();
    ensure!(of("unprepare shared") == 1 && of("prepare shared") == 1, "{log}");
    ensure!(of("unprepare") == 5, "{log}");
    Ok(())
}
