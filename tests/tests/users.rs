//! Pods with users of their own, and mounts that are read-only with all that is in them: as
//! documented where the runtime can do so, and refused, never left out, where it cannot.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::collections::BTreeSet;
use std::time::Duration;

const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/users.yaml");
const LONG: Duration = Duration::from_secs(60);

#[test]
fn pods_have_users_of_their_own_or_do_not_run() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 238 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.hosts[0].shell("mkdir -p /run/recursive/below && mount -t tmpfs below /run/recursive/below")?;
    cluster.kubectl(&["apply", "-f", PODS])?;
    wait_ready(&cluster, &["unmapped", "recursive"])?;
    let feature = |name: &str| {
        let path = format!(r#"{{.status.runtimeHandlers[?(@.name=="")].features.{name}}}"#);
        Ok::<_, anyhow::Error>(field(&cluster, "node/node1", &path)? == "true")
    };
    let (users, recursive) = (feature("userNamespaces")?, feature("recursiveReadOnlyMounts")?);
    eprintln!("user namespaces: {users}, recursive read-only mounts: {recursive}");
    recursively_read_only(&cluster, recursive)?;
    if users {
        mapped(&cluster)?;
        kept_apart(&cluster)?;
    } else {
        refused(&cluster)?;
    }
    cluster.kubectl(&["delete", "pods", "--all", "--wait", "--timeout=60s"])?;
    until(LONG, "nothing is left of the pods", || {
        let left = cluster.hosts[0].shell(&format!("ls {}/agent/pods", data(&cluster)))?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
}

fn data(cluster: &Cluster) -> String {
    cluster.hosts[0].data_dir().display().to_string()
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    cluster.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
}

fn wait_ready(cluster: &Cluster, pods: &[&str]) -> Result<()> {
    for pod in pods {
        let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
        waited.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    }
    Ok(())
}

fn inside(cluster: &Cluster, pod: &str, script: &str) -> Result<String> {
    let said = cluster.kubectl(&["exec", pod, "--", "sh", "-c", script])?;
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn check(cluster: &Cluster, pod: &str, script: &str, expected: &str) -> Result<()> {
    let got = inside(cluster, pod, script)?;
    ensure!(got == expected, "{pod}: {script}: got {got:?}, expected {expected:?}");
    Ok(())
}

fn event(cluster: &Cluster, pod: &str, reason: &str, expected: &str) -> Result<()> {
    let of = format!("--field-selector=involvedObject.name={pod},reason={reason}");
    until(LONG, &format!("{reason} of {pod} is {expected:?}"), || {
        let said = cluster.kubectl(&["get", "events", &of, "-o", "jsonpath={.items[*].message}"])?;
        Ok(if said.contains(expected) { Ok(()) } else { Err(said) })
    })
}

fn recursively_read_only(cluster: &Cluster, able: bool) -> Result<()> {
    let told = |pod: &str, at: u8| {
        let path = format!("{{.status.containerStatuses[0].volumeMounts[{at}].recursiveReadOnly}}");
        field(cluster, &format!("pod/{pod}"), &path)
    };
    let possible = if able { "Enabled" } else { "Disabled" };
    ensure!((told("recursive", 0)?, told("recursive", 1)?) == ("Disabled".into(), possible.into()));
    let write = |path: &str| format!("touch {path} 2>/dev/null && echo written || echo refused");
    check(cluster, "recursive", &write("/possible/file"), "refused")?;
    check(cluster, "recursive", &write("/plain/below/file"), "written")?;
    let below = if able { "refused" } else { "written" };
    check(cluster, "recursive", &write("/possible/below/file"), below)?;
    if able {
        wait_ready(cluster, &["enabled"])?;
        ensure!(told("enabled", 0)? == "Enabled");
        return check(cluster, "enabled", &write("/all/below/file"), "refused");
    }
    let why = "volume \"host\" requested recursive read-only mode, but it is not supported by the runtime";
    event(cluster, "enabled", "Failed", &format!("Error: {why}"))?;
    let waiting = field(
        cluster,
        "pod/enabled",
        "{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}",
    )?;
    ensure!(waiting == format!("CreateContainerConfigError: {why}"), "{waiting}");
    Ok(())
}

fn refused(cluster: &Cluster) -> Result<()> {
    let why = "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user \
               namespaces: the handler \"\" is not known";
    for pod in ["mapped-a", "mapped-b"] {
        event(cluster, pod, "FailedCreatePodSandBox", why)?;
        let phase = field(cluster, &format!("pod/{pod}"), "{.status.phase}")?;
        ensure!(phase == "Pending", "{pod} is {phase}");
    }
    Ok(())
}

/// The node's ID that is the pod's root.
fn first_id(cluster: &Cluster, pod: &str) -> Result<u32> {
    let map = inside(cluster, pod, "cat /proc/self/uid_map /proc/self/gid_map")?;
    let words: Vec<&str> = map.split(' ').collect();
    let [uid, first, count, gid, same, as_many] = words[..] else {
        anyhow::bail!("{pod} has the users {map}");
    };
    ensure!(
        (uid, gid, count, as_many) == ("0", "0", "65536", "65536") && first == same,
        "{pod} has the users {map}"
    );
    let first: u32 = first.parse()?;
    let uid = field(cluster, &format!("pod/{pod}"), "{.metadata.uid}")?;
    let kept = cluster.hosts[0].shell(&format!("cat {}/agent/pods/{uid}/userns", data(cluster)))?;
    let line = format!(r#"[{{"hostId":{first},"containerId":0,"length":65536}}]"#);
    ensure!(
        kept == format!(r#"{{"uidMappings":{line},"gidMappings":{line}}}"#),
        "{kept}"
    );
    Ok(first)
}

/// What the pod sees, and what the node sees of it.
fn mapped(cluster: &Cluster) -> Result<()> {
    wait_ready(cluster, &["mapped-a", "mapped-b"])?;
    let whole = inside(cluster, "unmapped", "cat /proc/self/uid_map")?;
    ensure!(whole.starts_with("0 0 "), "{whole}");
    let first = first_id(cluster, "mapped-a")?;
    ensure!(first >= 65_536, "{first} is an ID of the machine");
    let processes = format!("grep -lE '^ *0 +{first} ' /proc/[0-9]*/uid_map | head -n 1");
    let process = cluster.hosts[0].shell(&processes)?;
    let owner = cluster.hosts[0].shell(&format!("stat -c %u $(dirname {process})"))?;
    ensure!(owner == first.to_string(), "{process} is {owner}'s");
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    for (pod, script, expected) in [
        ("mapped-a", "id -u; id -g", "0 0"),
        ("mapped-a", "stat -c %u:%g /disk/who; cat /disk/who", "0:0 0"),
        (
            "mapped-a",
            "touch /memory/file && stat -c %u:%g /memory /memory/file",
            "0:0 0:0",
        ),
        (
            "mapped-a",
            "stat -L -c '%u:%g %a' /sealed/key; cat /sealed/key",
            "0:0 400 value",
        ),
        (
            "mapped-a",
            "touch /part/file && stat -c %u:%g /part/file /disk/part/file",
            "0:0 0:0",
        ),
        ("mapped-a", "ls /image/web", "/image/web"),
        ("mapped-a", "grep -c mapped-a /etc/hosts", "1"),
        (
            "mapped-a",
            &format!("stat -L -c %u {TOKEN}; test -s {TOKEN} && echo full"),
            "0 full",
        ),
        ("mapped-a", "stat -c %u:%g / /bin", "0:0 0:0"),
        ("mapped-b", "id -u; id -g; id -G", "1000 1001 1001 2000 3000"),
        (
            "mapped-b",
            "stat -c %u:%g /disk/who /disk; cat /disk/who",
            "1000:2000 0:2000 mine",
        ),
        (
            "mapped-b",
            "stat -L -c '%u:%g %a' /sealed/key; cat /sealed/key",
            "0:2000 440 value",
        ),
        ("mapped-b", &format!("test -s {TOKEN} && echo full"), "full"),
    ] {
        check(cluster, pod, script, expected)?;
    }
    // Root of the namespace alone: what the machine's root may do is refused.
    check(
        cluster,
        "mapped-a",
        "echo 1 >/proc/sys/kernel/panic || echo refused",
        "refused",
    )?;
    // It may be gone before it has answered.
    let _ = cluster.kubectl(&["exec", "mapped-a", "--", "kill", "1"]);
    let message = "{.status.containerStatuses[0].lastState.terminated.message}";
    until(LONG, "the last words are told", || {
        let said = field(cluster, "pod/mapped-a", message)?;
        Ok(if said.trim() == "bye" { Ok(()) } else { Err(said) })
    })?;
    wait_ready(cluster, &["mapped-a"])?;
    let again = first_id(cluster, "mapped-a")?;
    ensure!(again == first, "a restart gave the pod {again} for {first}");
    Ok(())
}

/// What one pod was given is no other's, whoever was killed meanwhile.
fn kept_apart(cluster: &Cluster) -> Result<()> {
    let before = [first_id(cluster, "mapped-a")?, first_id(cluster, "mapped-b")?];
    cluster.stop(0, "-KILL")?;
    cluster.hosts[0].shell(&format!("kill -9 $(cat {}/agent/run/containerd.pid)", data(cluster)))?;
    cluster.restart_server(0)?;
    cluster.wait_ready(1)?;
    let pod = |name: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{"hostUsers": false,
            "terminationGracePeriodSeconds": 1, "containers": [{{"name": "c", "image": "skiff.local/web:0.1.0",
            "command": ["sleep", "100000"]}}]}}}}"#
        )
    };
    let more: Vec<String> = (0..6).map(|at| format!("more-{at}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    for name in &more {
        cluster.kubectl_with_input(&["apply", "-f", "-"], &pod(name))?;
    }
    wait_ready(cluster, &more)?;
    let after = [first_id(cluster, "mapped-a")?, first_id(cluster, "mapped-b")?];
    ensure!(after == before, "{after:?} for {before:?}");
    let mut all = BTreeSet::from(after);
    for name in &more {
        ensure!(all.insert(first_id(cluster, name)?), "{name} has another's users");
    }
    Ok(())
}
