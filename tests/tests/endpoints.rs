//! The node's endpoint and what is made of it: figures, `kubectl top`, rotated logs,
//! streams under load, a target that grows with its load. One cluster, one line of checks.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use skiff_tests::{Cluster, Network, Programs, until};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

const OBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoints.yaml");
const LONG: Duration = Duration::from_secs(60);
/// Logs are looked at every ten seconds, autoscalers every fifteen.
const ROUNDS: Duration = Duration::from_secs(120);

#[test]
fn what_nodes_tell_and_carry() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 227 })?;
    cluster.add_host()?;
    cluster.start_server(&["--container-log-max-size", "64Ki", "--container-log-max-files", "3"])?;
    cluster.wait_ready(1)?;
    cluster.kubectl(&["apply", "-f", OBJECTS])?;
    for pod in ["busy", "talker"] {
        let pod = format!("pod/{pod}");
        cluster.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"])?;
    }
    who_may_ask(&cluster)?;
    figures(&cluster)?;
    top(&cluster)?;
    logs_rotate_and_are_followed(&cluster)?;
    many_streams(&cluster)?;
    targets_grow(&cluster)
}

fn node(cluster: &Cluster, path: &str) -> Result<String> {
    cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/node1/proxy{path}")])
}

/// Straight to the node, with a token.
fn with_token(cluster: &Cluster, token: &str, path: &str) -> Result<String> {
    let url = format!("https://{}:10250{path}", cluster.hosts[0].address());
    let header = format!("Authorization: Bearer {token}");
    let output = cluster.hosts[0]
        .command("curl")
        .args(["-sk", "-w", " %{http_code}", "-H", &header, &url])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn who_may_ask(cluster: &Cluster) -> Result<()> {
    let token = cluster.kubectl(&["create", "token", "scraper"])?;
    let allowed = with_token(cluster, token.trim(), "/metrics/resource")?;
    ensure!(
        allowed.contains("node_cpu_usage_seconds_total") && allowed.ends_with(" 200"),
        "{allowed}"
    );
    let refused = with_token(cluster, token.trim(), "/pods")?;
    let user = "system:serviceaccount:default:scraper";
    let wanted = format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])\n 403");
    ensure!(refused == wanted, "{refused}");
    for (token, path) in [("nonsense", "/metrics"), ("", "/healthz")] {
        let stranger = with_token(cluster, token, path)?;
        ensure!(stranger == "Unauthorized\n 401", "{stranger}");
    }
    Ok(())
}

/// The pages exist with the series that dashboards ask for.
fn figures(cluster: &Cluster) -> Result<()> {
    ensure!(node(cluster, "/healthz")? == "ok");
    ensure!(node(cluster, "/logs/")?.contains("<pre>"));
    let pods: Value = serde_json::from_str(&node(cluster, "/pods")?)?;
    ensure!(pods["kind"] == "PodList");
    let configuration: Value = serde_json::from_str(&node(cluster, "/configz")?)?;
    ensure!(
        configuration["kubeletconfig"]["containerLogMaxFiles"] == 3,
        "{configuration}"
    );
    let running: Value = serde_json::from_str(&node(cluster, "/runningpods/")?)?;
    let names: Vec<&str> = running["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["metadata"]["name"].as_str())
        .collect();
    ensure!(names.contains(&"busy"), "{names:?}");
    let of = |page: &str, name: &str, labels: &[&str]| -> Result<f64> {
        let line = page
            .lines()
            .find(|l| l.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| l.contains(label)));
        let line = line.with_context(|| format!("{name} {labels:?} is missing"))?;
        let value = line
            .rsplit_once('}')
            .map_or(line, |(_, rest)| rest)
            .split_whitespace()
            .find_map(|v| v.parse().ok());
        value.with_context(|| format!("{line} has no value"))
    };
    let busy = ["namespace=\"default\"", "pod=\"busy\"", "container=\"burns\""];
    let resource = node(cluster, "/metrics/resource")?;
    ensure!(of(&resource, "container_cpu_usage_seconds_total", &busy)? > 0.0);
    ensure!(of(&resource, "pod_memory_working_set_bytes", &busy[..2])? > 0.0);
    ensure!(of(&resource, "resource_scrape_error", &[])? == 0.0);
    let cadvisor = node(cluster, "/metrics/cadvisor")?;
    for (name, labels) in [
        ("container_memory_working_set_bytes", &busy[..]),
        ("container_memory_rss", &busy),
        ("container_cpu_cfs_throttled_periods_total", &busy),
        ("container_spec_cpu_quota", &busy),
        (
            "container_network_receive_bytes_total",
            &["interface=\"eth0\"", "pod=\"busy\"", "container=\"\""],
        ),
        ("machine_memory_bytes", &[]),
    ] {
        of(&cadvisor, name, labels)?;
    }
    ensure!(of(&cadvisor, "container_spec_memory_limit_bytes", &busy)? == f64::from(64 << 20));
    let own = node(cluster, "/metrics")?;
    ensure!(of(&own, "kubelet_node_name", &["node=\"node1\""])? == 1.0);
    ensure!(of(&own, "kubelet_running_pods", &[])? >= 2.0);
    ensure!(of(&own, "kubelet_running_containers", &["container_state=\"running\""])? >= 4.0);
    ensure!(
        of(
            &own,
            "kubelet_runtime_operations_total",
            &["operation_type=\"create_container\""]
        )? >= 4.0
    );
    ensure!(of(&own, "kubelet_pod_start_sli_duration_seconds_count", &[])? >= 2.0);
    let probes = node(cluster, "/metrics/probes")?;
    ensure!(
        of(
            &probes,
            "prober_probe_total",
            &[
                "container=\"rests\"",
                "probe_type=\"Readiness\"",
                "result=\"successful\""
            ]
        )? >= 1.0
    );
    summary(cluster)
}

fn summary(cluster: &Cluster) -> Result<()> {
    let summary: Value = serde_json::from_str(&node(cluster, "/stats/summary")?)?;
    ensure!(summary["node"]["fs"]["capacityBytes"].as_u64() > Some(0), "{summary}");
    ensure!(summary["node"]["network"]["interfaces"].is_array());
    let pods = summary["pods"].as_array().context("pods")?;
    let busy = pods
        .iter()
        .find(|p| p["podRef"]["name"] == "busy")
        .context("busy is missing")?;
    ensure!(busy["cpu"]["usageNanoCores"].as_u64() > Some(5_000_000), "{busy}");
    ensure!(busy["network"]["name"] == "eth0", "{busy}");
    let volumes = busy["volume"].as_array().context("volumes")?;
    let scratch = volumes.iter().find(|v| v["name"] == "scratch").context("scratch")?;
    ensure!(scratch["usedBytes"].as_u64() >= Some(3 << 20), "{scratch}");
    ensure!(
        busy["ephemeral-storage"]["usedBytes"].as_u64() >= Some(3 << 20),
        "{busy}"
    );
    let brief: Value = serde_json::from_str(&node(cluster, "/stats/summary?only_cpu_and_memory=true")?)?;
    ensure!(brief["node"].get("fs").is_none() && brief["pods"][0].get("volume").is_none());
    Ok(())
}

fn top(cluster: &Cluster) -> Result<()> {
    let service: Value =
        serde_json::from_str(&cluster.kubectl(&["get", "apiservice", "v1beta1.metrics.k8s.io", "-o", "json"])?)?;
    ensure!(service["status"]["conditions"][0]["reason"] == "Local", "{service}");
    ensure!(cluster.kubectl(&["top", "node"])?.contains("node1"));
    // Limited to a fifth of a core, and at it.
    let pods = cluster.kubectl(&["top", "pod", "-l", "app=busy", "--containers", "--no-headers"])?;
    let burns = pods.lines().find(|l| l.contains("burns")).context("burns is missing")?;
    let cpu: u32 = burns
        .split_whitespace()
        .nth(2)
        .and_then(|c| c.trim_end_matches('m').parse().ok())
        .context("no cpu")?;
    ensure!((5..=400).contains(&cpu), "{pods}");
    ensure!(cluster.kubectl(&["top", "pod", "-A", "--no-headers"])?.lines().count() >= 2);
    let missing = cluster.kubectl(&[
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/none",
    ]);
    ensure!(missing.is_err_and(|e| e.to_string().contains("not found")));
    Ok(())
}

/// Some megabytes go through a log of 64 KiB, and a follower misses nothing.
fn logs_rotate_and_are_followed(cluster: &Cluster) -> Result<()> {
    const LINES: usize = 20_000;
    let mut follower = cluster
        .kubectl_command(&["logs", "-f", "talker", "-c", "talks"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(follower.stdout.take().context("a pipe")?).lines();
    let mut attached = cluster
        .kubectl_command(&["attach", "-i", "talker", "-c", "talks"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = attached.stdin.take().context("a pipe")?;
    input.write_all(format!("{LINES}\n").as_bytes())?;
    let mut next = 0;
    for line in lines {
        let line = line?;
        if line == "done" {
            break;
        }
        let number = line.split(' ').next().and_then(|n| n.parse::<usize>().ok());
        ensure!(number == Some(next), "{line:?} came instead of {next}");
        next += 1;
    }
    ensure!(next == LINES, "{next} of {LINES} lines");
    drop(input);
    let folder = "/var/log/pods/default_talker_*/talks";
    until(ROUNDS, "the log was rotated", || {
        let listed = cluster.hosts[0]
            .command("sh")
            .args(["-c", &format!("ls {folder}")])
            .output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(if listed.contains("0.log.2") {
            Ok(())
        } else {
            Err(listed)
        })
    })?;
    // What is rotated away is not shown, as upstream.
    until(LONG, "the new log is there and the follower goes on", || {
        let tail = cluster.kubectl(&["logs", "talker", "-c", "talks", "--tail=1"])?;
        Ok(if tail.is_empty() { Ok(()) } else { Err(tail) })
    })?;
    ensure!(follower.try_wait()?.is_none(), "the follower ended with the rotation");
    for child in [&mut follower, &mut attached] {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn many_streams(cluster: &Cluster) -> Result<()> {
    let before = open_files(cluster)?;
    let script = "cat >/dev/null; echo told; exit 7";
    let mut children = Vec::new();
    for number in 0..20 {
        let mut child = cluster
            .kubectl_command(&["exec", "-i", "talker", "-c", "c", "--", "sh", "-c", script])
            .env(
                "KUBECTL_REMOTE_COMMAND_WEBSOCKETS",
                if number % 2 == 0 { "true" } else { "false" },
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("a pipe")?;
        input.write_all(&[b'x'; 10_000])?;
        children.push(child);
    }
    for mut child in children {
        let mut text = String::new();
        child.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
        let status = child.wait()?;
        ensure!(text == "told\n" && status.code() == Some(7), "{text:?} {status}");
    }
    // Much more than any buffer on the way.
    let mut child = cluster
        .kubectl_command(&[
            "exec",
            "talker",
            "-c",
            "c",
            "--",
            "dd",
            "if=/dev/zero",
            "bs=1M",
            "count=128",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let copied = std::io::copy(&mut child.stdout.take().context("a pipe")?, &mut std::io::sink())?;
    ensure!(copied == 128 << 20 && child.wait()?.success(), "{copied} bytes");
    until(LONG, "no stream is left open", || {
        let now = open_files(cluster)?;
        Ok(if now <= before + 8 {
            Ok(())
        } else {
            Err(format!("{now} files, {before} before"))
        })
    })
}

/// Of the server, which is the node agent too.
fn open_files(cluster: &Cluster) -> Result<usize> {
    let page = node(cluster, "/metrics")?;
    let line = page.lines().find_map(|l| l.strip_prefix("process_open_fds "));
    line.and_then(|v| v.parse().ok()).context("process_open_fds is missing")
}

fn targets_grow(cluster: &Cluster) -> Result<()> {
    until(ROUNDS, "the busy deployment grows", || {
        let events = cluster.kubectl(&[
            "get",
            "events",
            "--field-selector=involvedObject.name=grows,reason=SuccessfulRescale",
        ])?;
        let wanted = "New size: 2; reason: cpu resource utilization (percentage of request) above target";
        Ok(if events.contains(wanted) {
            Ok(())
        } else {
            Err(format!("{events}{}", cluster.kubectl(&["describe", "hpa", "grows"])?))
        })
    })?;
    let replicas = cluster.kubectl(&["get", "deployment", "grows", "-o", "jsonpath={.spec.replicas}"])?;
    ensure!(replicas == "2", "{replicas}");
    let hpa: Value = serde_json::from_str(&cluster.kubectl(&["get", "hpa", "grows", "-o", "json"])?)?;
    let metric = &hpa["status"]["currentMetrics"][0]["resource"]["current"];
    ensure!(metric["averageUtilization"].as_i64() > Some(50), "{hpa}");
    // A target that is not there is said so, and the other one does not suffer.
    let hpa: Value = serde_json::from_str(&cluster.kubectl(&["get", "hpa", "nothing", "-o", "json"])?)?;
    let condition = &hpa["status"]["conditions"][0];
    let wanted =
        "the HPA controller was unable to get the target's current scale: deployments.apps \"nothing\" not found";
    ensure!(
        condition["type"] == "AbleToScale" && condition["reason"] == "FailedGetScale" && condition["message"] == wanted,
        "{condition}"
    );
    Ok(())
}
