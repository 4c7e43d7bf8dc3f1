//! Whole clusters of real nodes, driven with `kubectl` as a user would.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/web.yaml");
/// Long enough for a slow machine; everything here takes a second or two.
const LONG: Duration = Duration::from_secs(60);

fn cluster(network: u8, nodes: usize) -> Result<Cluster> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: network })?;
    for _ in 0..nodes {
        cluster.add_host()?;
    }
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    for at in 1..nodes {
        cluster.start_agent(at)?;
    }
    cluster.wait_ready(nodes)?;
    Ok(cluster)
}

fn web(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["apply", "-f", WEB])?;
    cluster
        .kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"])
        .map(|_| ())
        .with_context(|| cluster.kubectl(&["describe", "pods", "-A"]).unwrap_or_default())
}

fn expect(cluster: &Cluster, arguments: &[&str], wanted: &str) -> Result<()> {
    let got = cluster.kubectl(arguments)?;
    ensure!(
        got.contains(wanted),
        "kubectl {arguments:?} printed {got:?}, without {wanted:?}"
    );
    Ok(())
}

#[test]
fn a_users_first_session() -> Result<()> {
    let cluster = cluster(201, 1)?;
    expect(&cluster, &["get", "nodes", "-o", "wide"], "containerd://")?;
    web(&cluster)?;
    expect(
        &cluster,
        &["get", "deploy,rs,pods,svc", "-o", "wide"],
        "deployment.apps/web   3/3     3            3",
    )?;
    expect(&cluster, &["logs", "deploy/web"], "listens on port 8080")?;
    for websockets in ["true", "false"] {
        let mut command = cluster.kubectl_command(&[
            "exec",
            "deploy/web",
            "--",
            "/bin/sh",
            "-c",
            "echo hi; echo oops >&2; exit 3",
        ]);
        let output = command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output()?;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(
            out == "hi\n" && err.contains("oops") && output.status.code() == Some(3),
            "exec (WebSocket {websockets}): {output:?}"
        );
        let mut command = cluster.kubectl_command(&["exec", "-i", "deploy/web", "--", "wc", "-c"]);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        command.stdin(std::fs::File::open(WEB)?);
        let output = command.output()?;
        let expected = std::fs::metadata(WEB)?.len().to_string();
        ensure!(
            String::from_utf8_lossy(&output.stdout).trim() == expected,
            "piped stdin (WebSocket {websockets}): {output:?}"
        );
    }
    cluster.kubectl(&["scale", "deploy/web", "--replicas=5"])?;
    cluster.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"])?;
    expect(&cluster, &["get", "deploy", "web"], "5/5")?;
    let probe = [
        "run",
        "probe",
        "--rm",
        "-i",
        "--restart=Never",
        "--image=skiff.local/web:0.1.0",
        "--",
        "wget",
        "-qO-",
    ];
    expect(
        &cluster,
        &[&probe[..], &["http://web.default.svc.cluster.local"]].concat(),
        "Hello from web-",
    )?;
    cluster.kubectl(&["set", "image", "deploy/web", "web=skiff.local/none:1"])?;
    until(LONG, "the new image fails to be pulled", || {
        let pods = cluster.kubectl(&["get", "pods"])?;
        Ok(if pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff") {
            Ok(())
        } else {
            Err(pods)
        })
    })?;
    cluster.kubectl(&["rollout", "undo", "deploy/web"])?;
    cluster.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"])?;
    expect(&cluster, &["get", "deploy", "web"], "5/5")?;
    cluster.kubectl(&["delete", "-f", WEB])?;
    until(LONG, "the pods are gone", || {
        let pods = cluster.kubectl(&["get", "pods", "-o", "name"])?;
        Ok(if pods.is_empty() { Ok(()) } else { Err(pods) })
    })
}

#[test]
fn containers_outlive_a_killed_server_and_nothing_acknowledged_is_lost() -> Result<()> {
    let cluster = cluster(202, 1)?;
    web(&cluster)?;
    let ids = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let before = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", ids])?;
    ensure!(
        before.lines().count() == 3 && before.contains("containerd://"),
        "{before}"
    );
    for n in 0..20 {
        cluster.kubectl(&["create", "configmap", &format!("kept-{n}")])?;
    }
    cluster.stop(0, "-9")?;
    cluster.start_server(&[])?;
    cluster.wait_ready(1)?;
    let kept = cluster.kubectl(&["get", "configmaps", "-o", "name"])?;
    for n in 0..20 {
        ensure!(
            kept.lines().any(|line| line == format!("configmap/kept-{n}")),
            "kept-{n} is lost: {kept}"
        );
    }
    // The agent has adopted them once it has reported anew; nothing may have changed.
    web(&cluster)?;
    let after = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", ids])?;
    ensure!(before == after, "before:\n{before}after:\n{after}");
    expect(&cluster, &["exec", "deploy/web", "--", "hostname"], "web-")
}

#[test]
fn two_nodes_reach_each_other_and_one_lives_on_without_its_server() -> Result<()> {
    let cluster = cluster(203, 2)?;
    web(&cluster)?;
    let spread = cluster.kubectl(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].spec.nodeName}",
    ])?;
    ensure!(
        spread.contains("node1") && spread.contains("node2"),
        "not spread: {spread}"
    );
    // From each node's pod to each pod, and through the service.
    let pods = cluster.kubectl(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
    ])?;
    let pods: Vec<(&str, &str)> = pods.lines().filter_map(|line| line.split_once(' ')).collect();
    for (from, _) in &pods {
        for (to, address) in &pods {
            expect(
                &cluster,
                &[
                    "exec",
                    from,
                    "--",
                    "timeout",
                    "5",
                    "wget",
                    "-qO-",
                    &format!("http://{address}:8080/hostname"),
                ],
                to,
            )?;
        }
        expect(
            &cluster,
            &[
                "exec",
                from,
                "--",
                "timeout",
                "5",
                "wget",
                "-qO-",
                "http://web/hostname",
            ],
            "web-",
        )?;
    }
    let on_second = cluster.kubectl(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "--field-selector",
        "spec.nodeName=node2",
        "-o",
        "jsonpath={.items[0].status.podIP}",
    ])?;
    cluster.stop(0, "-9")?;
    let host = &cluster.hosts[1];
    let fetch = |path: &str| -> Result<String> {
        let output = host
            .command("busybox")
            .args([
                "timeout",
                "5",
                "wget",
                "-qO-",
                &format!("http://{on_second}:8080{path}"),
            ])
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ensure!(
        fetch("/hostname")?.contains("web-"),
        "the second node's pod does not answer without the server"
    );
    let _ = fetch("/crash")?;
    until(LONG, "the crashed container runs again without a server", || {
        let served = fetch("/hostname")?;
        Ok(if served.contains("web-") { Ok(()) } else { Err(served) })
    })?;
    cluster.start_server(&[])?;
    cluster.wait_ready(2)?;
    until(LONG, "the restart is reported", || {
        let counts = cluster.kubectl(&[
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[0].restartCount}",
        ])?;
        Ok(if counts.split(' ').any(|count| count == "1") {
            Ok(())
        } else {
            Err(counts)
        })
    })
}

#[test]
fn reset_leaves_no_trace() -> Result<()> {
    let cluster = cluster(204, 1)?;
    web(&cluster)?;
    let host = &cluster.hosts[0];
    let skiff = cluster.programs.skiff.to_string_lossy().into_owned();
    let data = host.data_dir();
    let output = host
        .command(&skiff)
        .args(["reset", "--yes", "--data-dir", &data.to_string_lossy()])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(!data.exists(), "{} is still there", data.display());
    let look = |program: &str, arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8_lossy(&host.command(program).args(arguments).output()?.stdout).into_owned())
    };
    let links = look("ip", &["-o", "link"])?;
    ensure!(
        links
            .lines()
            .all(|line| line.contains(" lo:") || line.contains(" eth0@")),
        "links are left:\n{links}"
    );
    ensure!(
        look("nft", &["list", "tables"])?.trim().is_empty(),
        "nftables' tables are left"
    );
    ensure!(!look("ip", &["route"])?.contains("10.42."), "routes are left");
    let mounts = look("cat", &["/proc/mounts"])?;
    let left: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(data.to_str().unwrap_or_default()) || line.contains("containerd"))
        .collect();
    ensure!(left.is_empty(), "mounts are left: {left:?}");
    let names = look("ip", &["netns", "list"])?;
    ensure!(names.trim().is_empty(), "network namespaces are left: {names}");
    let processes = look("ps", &["-eo", "comm"])?;
    for program in ["containerd", "skiff", "pause", "web"] {
        ensure!(
            !processes.lines().any(|line| line.starts_with(program)),
            "{program} still runs:\n{processes}"
        );
    }
    let groups = look("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-name", "kubepods*"])?;
    ensure!(groups.trim().is_empty(), "cgroups are left: {groups}");
    Ok(())
}

#[test]
fn mistakes_are_told_in_one_line() -> Result<()> {
    let cluster = cluster(205, 2)?;
    let told = |at: usize, arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = cluster.hosts[at]
            .command(&cluster.programs.skiff.to_string_lossy())
            .args(arguments)
            .output()?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let server = format!("https://{}:6443", cluster.hosts[0].address());
    let good = cluster.skiff(&["token", "create"])?;
    let mut parts: Vec<String> = good.trim().split('.').map(str::to_string).collect();
    let wrong_secret = format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(16));
    parts[1] = "0".repeat(64);
    let wrong_ca = parts.join(".");
    let elsewhere = "/tmp/skiff-test-205/elsewhere";
    for (arguments, wanted) in [
        (
            vec!["agent", "--server", &server, "--token", "nonsense"],
            "copy all of what `skiff token create` printed",
        ),
        (
            vec!["agent", "--server", &server, "--token", &wrong_ca],
            "the server's CA is not the one this token was made for",
        ),
        (
            vec!["agent", "--server", &server, "--token", &wrong_secret],
            "the server does not know this token",
        ),
        (
            vec!["agent", "--server", "https://127.0.0.1:1", "--token", good.trim()],
            "no connection: is the server running there?",
        ),
        (vec!["agent", "--server", &server], "needs --token or --token-file"),
        (
            vec!["agent", "--server", &server, "--containerd", "/none"],
            "/none is not installed: apt-get install containerd",
        ),
    ] {
        let (code, text) = told(
            1,
            &[&arguments[..], &["--data-dir", elsewhere, "--node-name", "other"]].concat(),
        )?;
        ensure!(
            code == Some(1) && text.contains(wanted),
            "{arguments:?}: {code:?} {text}"
        );
        ensure!(
            text.lines().filter(|line| line.starts_with("skiff: ")).count() == 1,
            "one line: {text}"
        );
    }
    let (code, text) = told(0, &["server", "--data-dir", elsewhere])?;
    ensure!(
        code == Some(1) && text.contains("cannot listen on port 6443: stop what uses it"),
        "{code:?} {text}"
    );
    Ok(())
}
