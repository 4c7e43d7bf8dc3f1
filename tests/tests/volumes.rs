//! Volumes and variables of every kind, as a pod sees them: contents, modes, owners,
//! what changes and what does not, what is refused, and what is left afterwards.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/volumes.yaml");
const LONG: Duration = Duration::from_secs(60);
/// Changes travel by events, so they are there long before this.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn volumes_and_variables_are_as_documented() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 225 })?;
    cluster.add_host()?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    cluster.hosts[0].shell(
        "mkdir -p /run/volumes/shared/part && mount -t tmpfs mine /run/volumes/shared && \
         mount --make-shared /run/volumes/shared && mkdir -p /run/volumes/shared/part/disk && \
         mount -t tmpfs disk /run/volumes/shared/part/disk",
    )?;
    cluster.kubectl(&["apply", "-f", PODS])?;
    for pod in ["kinds", "group", "propagation"] {
        let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
        waited.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    }
    variables(&cluster)?;
    contents_and_modes(&cluster)?;
    changes_arrive(&cluster)?;
    propagation(&cluster)?;
    failures_are_told(&cluster)?;
    nothing_is_left(&cluster)
}

fn inside(cluster: &Cluster, pod: &str, container: &str, script: &str) -> Result<String> {
    cluster.kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script])
}

fn check(cluster: &Cluster, pod: &str, container: &str, script: &str, expected: &str) -> Result<()> {
    let got = inside(cluster, pod, container, script)?;
    let got = got.trim_end();
    ensure!(
        got == expected,
        "{pod}/{container}: {script}: got {got:?}, expected {expected:?}"
    );
    Ok(())
}

fn variables(cluster: &Cluster) -> Result<()> {
    let node = cluster.hosts[0].name.clone();
    for (script, expected) in [
        ("cat /said", "hi-admin $(GREETING) $(NOBODY)"),
        (
            "echo $MAP_a $pass $user $KEY $LATER $EMPTY.",
            "one word replaced two $(AFTER) .",
        ),
        (
            "echo $NODE $ACCOUNT $LABEL $CPU $MEMORY",
            &format!("{node} default x 2 32"),
        ),
        ("echo \"$FILE\" ${NOFILE-unset} ${NONE-unset}", "a b unset unset"),
        (
            "test \"$(hostname -i)\" = $IP && echo $HOST",
            &cluster.hosts[0].address().to_string(),
        ),
        (
            "echo $SOME_DB_SERVICE_PORT_SQL $SOME_DB_PORT_5432_TCP_PROTO $KUBERNETES_SERVICE_PORT",
            "5432 tcp 443",
        ),
    ] {
        check(cluster, "kinds", "root", script, expected)?;
    }
    // A shell would drop names that are none of its own.
    let script = "tr '\\0' '\\n' </proc/1/environ | grep -x -e MAP_with.dot-x=3 -e odd.name-1=odd | sort";
    check(cluster, "kinds", "user", script, "MAP_with.dot-x=3\nodd.name-1=odd")?;
    check(
        cluster,
        "group",
        "c",
        "echo ${SOME_DB_SERVICE_HOST-none} $KUBERNETES_SERVICE_PORT_HTTPS",
        "none 443",
    )
}

fn contents_and_modes(cluster: &Cluster) -> Result<()> {
    // Files of any mode, by root and by others, on disk and in memory.
    for container in ["root", "user"] {
        let user = if container == "root" { "0" } else { "1001" };
        for (dir, kind) in [("disk", ""), ("memory", "tmpfs")] {
            for mode in ["644", "666", "777"] {
                let file = format!("/{dir}/{container}-{mode}");
                let script = format!("umask 0; echo x > {file} && chmod {mode} {file} && stat -c '%a %u' {file}");
                check(cluster, "kinds", container, &script, &format!("{mode} {user}"))?;
            }
            check(
                cluster,
                "kinds",
                container,
                &format!("stat -c '%a %u %g' /{dir}"),
                "777 0 0",
            )?;
            let script = format!("grep ' /{dir} ' /proc/mounts | cut -d' ' -f3 | grep -c tmpfs");
            let script = format!("{script} || true");
            check(
                cluster,
                "kinds",
                container,
                &script,
                if kind.is_empty() { "0" } else { "1" },
            )?;
        }
    }
    for (container, script, expected) in [
        ("user", "cat /disk/root-644", "x"),
        (
            "root",
            "ls /map; cat /map/a; stat -Lc %a /map/a /map",
            "a\nb\nraw\nwith.dot-x\none644\n777",
        ),
        ("root", "od -An -tx1 /map/raw", " 00 ff fe"),
        (
            "root",
            "cat /items/deep/er/x; stat -Lc %a /items/deep/er/x /items/deep /items/y; ls /items",
            "one400\n755\n604\ndeep\ny",
        ),
        ("user", "cat /items/deep/er/x 2>/dev/null || echo sealed", "sealed"),
        (
            "root",
            "cat /keys/user /keys/pass; stat -Lc %a /keys/user; grep -c ' /keys tmpfs ' /proc/mounts",
            "adminword440\n1",
        ),
        ("root", "ls -A /optional | grep -v '^[.]' | wc -l", "0"),
        (
            "root",
            "cat /down/labels; echo; grep ^note /down/annotations",
            "app=\"x\"\nnote=\"it's \\\"so\\\"\"",
        ),
        (
            "root",
            "cat /down/cpu_limit; echo; cat /down/memory_limit; stat -Lc %a /down/cpu_default",
            "1250\n67108864400",
        ),
        (
            "root",
            "cat /all/deep/map /all/deep/secret /all/deep/down; stat -Lc %a /all/deep/map /all/deep/secret /all/token",
            "oneadminkinds644\n400\n644",
        ),
        (
            "root",
            "cat /sub/disk/f /sub/a /sub/user; ls -d /sub/expr",
            "sub\noneadmin/sub/expr",
        ),
        ("root", "cat /sub/labels /sub/deep", "app=\"x\"kinds"),
        (
            "root",
            "touch /sub/user 2>/dev/null || echo sealed; touch /sub/host/x 2>/dev/null || echo sealed",
            "sealed\nsealed",
        ),
        ("root", "ls /host; stat -c %F /hostfile", "file\nin\nregular empty file"),
        ("user", "touch /host/x 2>/dev/null || echo sealed", "sealed"),
    ] {
        check(cluster, "kinds", container, script, expected)?;
    }
    defaults(cluster)?;
    for (script, expected) in [
        ("id -u; id -g; id -G", "1000\n3000\n3000 2000"),
        (
            "stat -c '%a %u %g' /disk /memory /sub",
            "2777 0 2000\n2777 0 2000\n2777 0 2000",
        ),
        (
            "touch /disk/f /sub/g && stat -c '%u %g' /disk/f /sub/g",
            "1000 2000\n1000 2000",
        ),
        (
            "cat /map/a; stat -Lc '%a %g' /map/a /map/..data",
            "one440 2000\n2755 2000",
        ),
        (
            "stat -Lc '%a %u %g' /all/token /all/user; head -c 2 /all/token",
            "640 1000 2000\n644 0 2000\ney",
        ),
        (
            "dd if=/dev/zero of=/memory/x bs=1M count=3 2>/dev/null || echo full; rm /memory/x",
            "full",
        ),
    ] {
        check(cluster, "group", "c", script, expected)?;
    }
    Ok(())
}

/// Limits that are not set are what the node can give.
fn defaults(cluster: &Cluster) -> Result<()> {
    let path = "-o=jsonpath={.items[0].status.allocatable.cpu} {.items[0].status.allocatable.memory}";
    let node = cluster.kubectl(&["get", "nodes", path])?;
    let (cpu, memory) = node.split_once(' ').context("two values")?;
    let memory: u64 = memory.trim_end_matches("Ki").parse()?;
    let expected = format!("{cpu} {}", memory << 10);
    let script = "echo $(cat /down/cpu_default) $(cat /down/memory_default)";
    check(cluster, "kinds", "root", script, &expected)
}

fn changes_arrive(cluster: &Cluster) -> Result<()> {
    let patch = r#"{"data":{"a":"changed","c":"new","b":null}}"#;
    cluster.kubectl(&["patch", "configmap", "map", "--type=merge", "-p", patch])?;
    let patch = r#"{"stringData":{"user":"other"}}"#;
    cluster.kubectl(&["patch", "secret", "keys", "-p", patch])?;
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=l=there"])?;
    cluster.kubectl(&["create", "configmap", "gone", "--from-literal=g=back"])?;
    cluster.kubectl(&["annotate", "pod", "kinds", "more=x"])?;
    let script = "cat /map/a /map/c /items/deep/er/x /keys/user /optional/l /all/deep/map /all/g; ls /map | tr '\\n' ' '; \
                  grep -c more /down/annotations";
    let expected = "changednewchangedotherstherechangedbacka c raw with.dot-x 1\n".replace("others", "other");
    until(SOON, "changes reach the files", || {
        let seen = inside(cluster, "kinds", "root", script)?;
        Ok(if seen == expected { Ok(()) } else { Err(seen) })
    })?;
    // What is bound by a path of its own stays as it was.
    check(cluster, "kinds", "root", "cat /sub/a /sub/user", "oneadmin")?;
    cluster.kubectl(&["delete", "configmap", "later"])?;
    until(SOON, "what is optional goes", || {
        let seen = inside(cluster, "kinds", "root", "ls /optional")?;
        Ok(if seen.is_empty() { Ok(()) } else { Err(seen) })
    })?;
    let refused = cluster.kubectl(&["patch", "configmap", "fixed", "-p", r#"{"data":{"f":"x"}}"#]);
    ensure!(refused.is_err(), "an immutable map was changed");
    check(cluster, "kinds", "root", "cat /fixed/f", "fixed")
}

fn propagation(cluster: &Cluster) -> Result<()> {
    let late = "/run/volumes/shared/late";
    cluster.hosts[0].shell(&format!("mkdir {late} && mount -t tmpfs late {late} && touch {late}/f"))?;
    check(cluster, "propagation", "none", "ls /v/late", "")?;
    check(
        cluster,
        "propagation",
        "from",
        "ls /v/late; ls -d /s/disk",
        "f\n/s/disk",
    )?;
    let script =
        "mkdir /v/inner /e/inner && mount -t tmpfs i /v/inner && mount -t tmpfs i /e/inner && touch /v/inner/g";
    check(cluster, "propagation", "both", script, "")?;
    ensure!(cluster.hosts[0].shell("ls /run/volumes/shared/inner")? == "g");
    cluster.kubectl(&["delete", "pod", "propagation"])?;
    // The host keeps what it had mounted, also below a part that was bound.
    let mounts = cluster.hosts[0].shell("cut -d' ' -f2 /proc/mounts | grep shared/ | sort")?;
    let expected = "/run/volumes/shared/inner\n/run/volumes/shared/late\n/run/volumes/shared/part/disk";
    ensure!(mounts == expected, "{mounts}");
    Ok(())
}

/// A pod whose container or volume, in YAML, cannot be; and what is said of it.
fn refused(cluster: &Cluster, name: &str, spec: &str, reason: &str, said: &str) -> Result<()> {
    let manifest = format!(
        "# Not JSON.\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, {spec}}}}}"
    );
    cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest)?;
    until(LONG, said, || {
        let selector = format!("--field-selector=involvedObject.name={name}");
        let columns = "-o=custom-columns=R:.reason,M:.message";
        let events = cluster.kubectl(&["get", "events", &selector, columns])?;
        let path = "-o=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
        let now = cluster.kubectl(&["get", "pod", name, path])?;
        Ok(if now == reason && events.contains(said) {
            Ok(())
        } else {
            Err(format!("{now}\n{events}"))
        })
    })
}

fn failures_are_told(cluster: &Cluster) -> Result<()> {
    cluster.hosts[0].shell("mkdir -p /run/volumes/evil && ln -sfn /etc /run/volumes/evil/out")?;
    let container = |rest: &str| format!("containers: [{{name: c, image: \"skiff.local/web:0.1.0\", {rest}}}]");
    let mounted = |source: &str| {
        format!(
            "{}, volumes: [{{name: v, {source}}}]",
            container("volumeMounts: [{name: v, mountPath: /v}]")
        )
    };
    let sub = |mount: &str, source: &str| {
        let all = format!("env: [{{name: ABS, value: /tmp}}], volumeMounts: [{{name: v, mountPath: /v, {mount}}}]");
        format!("{}, volumes: [{{name: v, {source}}}]", container(&all))
    };
    let env = |source: &str| container(&format!("env: [{{name: X, valueFrom: {{{source}}}}}]"));
    let (creating, config) = ("ContainerCreating", "CreateContainerConfigError");
    let setup = "MountVolume.SetUp failed for volume \"v\" : ";
    let evil = "hostPath: {path: /run/volumes/evil}";
    for (name, spec, reason, said) in [
        (
            "m1",
            mounted("configMap: {name: nil}"),
            creating,
            format!("{setup}configmap \"nil\" not found"),
        ),
        (
            "m2",
            mounted("secret: {secretName: nil}"),
            creating,
            format!("{setup}secret \"nil\" not found"),
        ),
        (
            "m3",
            mounted("configMap: {name: map, items: [{key: zz, path: z}]}"),
            creating,
            format!("{setup}configmap references non-existent config key: zz"),
        ),
        (
            "m4",
            mounted("secret: {secretName: keys, items: [{key: zz, path: z}]}"),
            creating,
            format!("{setup}references non-existent secret key: zz"),
        ),
        (
            "m5",
            mounted("projected: {sources: [{configMap: {name: nil}}, {secret: {name: nil}}]}"),
            creating,
            format!("{setup}[configmap \"nil\" not found, secret \"nil\" not found]"),
        ),
        (
            "h1",
            mounted("hostPath: {path: /run/volumes/none, type: Directory}"),
            creating,
            format!("{setup}hostPath type check failed: /run/volumes/none is not a directory"),
        ),
        (
            "h2",
            mounted("hostPath: {path: /run/volumes/host, type: Socket}"),
            creating,
            format!("{setup}hostPath type check failed: /run/volumes/host is not a socket file"),
        ),
        (
            "s1",
            sub("subPath: out/x", evil),
            config,
            "Error: failed to prepare subPath for volumeMount \"v\" of container \"c\"".into(),
        ),
        (
            "s2",
            sub("subPathExpr: $(NIL)", evil),
            config,
            "Error: missing value for \"NIL\"".into(),
        ),
        (
            "s3",
            sub("subPathExpr: $(ABS)", evil),
            config,
            "Error: error SubPath `/tmp` must not be an absolute path".into(),
        ),
        (
            "r1",
            sub("readOnly: true, recursiveReadOnly: Enabled", "emptyDir: {}"),
            config,
            "Error: volume \"v\" requested recursive read-only mode, but it is not supported by the runtime".into(),
        ),
        (
            "e1",
            env("configMapKeyRef: {name: map, key: zz}"),
            config,
            "Error: couldn't find key zz in ConfigMap default/map".into(),
        ),
        (
            "e2",
            env("secretKeyRef: {name: keys, key: zz}"),
            config,
            "Error: couldn't find key zz in Secret default/keys".into(),
        ),
        (
            "e3",
            env("configMapKeyRef: {name: nil, key: zz}"),
            config,
            "Error: configmap \"nil\" not found".into(),
        ),
        (
            "e4",
            container("envFrom: [{secretRef: {name: nil}}]"),
            config,
            "Error: secret \"nil\" not found".into(),
        ),
    ] {
        refused(cluster, name, &spec, reason, &said)?;
    }
    // What was missing comes, and the pods run.
    cluster.kubectl(&["create", "configmap", "nil", "--from-literal=zz=1"])?;
    for pod in ["m1", "e3"] {
        cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"])?;
    }
    Ok(())
}

fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=60s"])?;
    let pods = cluster.hosts[0].data_dir().join("agent/pods");
    until(LONG, "the pods' directories are gone", || {
        let left: Vec<_> = std::fs::read_dir(&pods)?.flatten().map(|e| e.file_name()).collect();
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })?;
    let mounts = cluster.hosts[0].shell("cat /proc/mounts")?;
    ensure!(!mounts.contains("/agent/pods/"), "{mounts}");
    ensure!(
        cluster.hosts[0]
            .shell("ls -d /etc/passwd /run/volumes/host/file")?
            .lines()
            .count()
            == 2,
        "a pod's end took the host's files"
    );
    Ok(())
}
