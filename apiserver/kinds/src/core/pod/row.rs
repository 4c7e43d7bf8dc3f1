//! The row of a pod in `kubectl get pods`: above all the STATUS word, which is
//! computed from the pod's reason and its containers' states.

use crate::age;
use crate::tree::Tree;
use jiff::Timestamp;
use serde_json::Value;

/// Whether `type` is True among the pod's conditions.
fn condition(pod: &Value, kind: &str) -> bool {
    pod.items("status.conditions")
        .iter()
        .any(|c| c.text("type") == kind && c.text("status") == "True")
}

struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn restarted(&mut self, container: &Value) {
        self.restarts += container.int("restartCount").unwrap_or(0);
        let at = container
            .text("lastState.terminated.finishedAt")
            .parse::<Timestamp>()
            .ok();
        self.last_restart = self.last_restart.max(at);
    }
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                age::duration(now.as_second() - at.as_second())
            )
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        pod.at("metadata.name").clone(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        age::age(pod.at("metadata.creationTimestamp"), now).into(),
        or_none(pod_ip(pod)),
        or_none(pod.text("spec.nodeName")),
        or_none(pod.text("status.nominatedNodeName")),
        gates(pod).into(),
    ]
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn pod_ip(pod: &Value) -> &str {
    match pod.items("status.podIPs").first() {
        Some(first) => first.text("ip"),
        None => pod.text("status.podIP"),
    }
}

fn gates(pod: &Value) -> String {
    let gates = pod.items("spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_string();
    }
    let met = gates.iter().filter(|g| condition(pod, g.text("conditionType"))).count();
    format!("{met}/{}", gates.len())
}

fn summarise(pod: &Value) -> Summary {
    let phase = pod.text("status.phase");
    let reason = pod.text("status.reason");
    let mut summary = Summary {
        ready: 0,
        total: pod.items("spec.containers").len(),
        status: if reason.is_empty() { phase } else { reason }.to_string(),
        restarts: 0,
        last_restart: None,
    };
    let gated = |c: &Value| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated";
    if pod.items("status.conditions").iter().any(gated) {
        summary.status = "SchedulingGated".to_string();
    }
    let initializing = init_containers(pod, &mut summary);
    if !initializing || condition(pod, "Initialized") {
        // Restarts while initializing are history now; those of sidecars are not.
        (summary.restarts, summary.last_restart) = (0, None);
        let sidecars = pod
            .items("status.initContainerStatuses")
            .iter()
            .filter(|c| is_sidecar(pod, c.text("name")));
        sidecars.for_each(|c| summary.restarted(c));
        containers(pod, &mut summary);
    }
    if pod.has("metadata.deletionTimestamp") {
        if reason == "NodeLost" {
            summary.status = "Unknown".to_string();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.status = "Terminating".to_string();
        }
    }
    summary
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    pod.items("spec.initContainers")
        .iter()
        .any(|c| c.text("name") == name && c.text("restartPolicy") == "Always")
}

/// Goes over the init containers up to the first that is not done; true if there
/// is one. Restartable ones (sidecars) count among the ready and the total.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let specs = pod.items("spec.initContainers");
    summary.total += specs.iter().filter(|c| c.text("restartPolicy") == "Always").count();
    for (i, container) in pod.items("status.initContainerStatuses").iter().enumerate() {
        summary.restarted(container);
        let sidecar = is_sidecar(pod, container.text("name"));
        let terminated = container.at("state.terminated");
        let waiting = container.text("state.waiting.reason");
        if terminated.is_object() && terminated.int("exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container.flag("started") {
            summary.ready += usize::from(container.flag("ready"));
            continue;
        }
        summary.status = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", specs.len())
        };
        return true;
    }
    false
}

/// Why a container ended: its reason, else its signal or exit code.
fn ended(terminated: &Value) -> String {
    match (terminated.text("reason"), terminated.int("signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    // From the last to the first, so that the first container has the last word.
    for container in pod.items("status.containerStatuses").iter().rev() {
        summary.restarted(container);
        let waiting = container.text("state.waiting.reason");
        let terminated = container.at("state.terminated");
        if !waiting.is_empty() {
            summary.status = waiting.to_string();
        } else if terminated.is_object() {
            summary.status = ended(terminated);
        } else if container.flag("ready") && container.at("state.running").is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    // Something finished, yet another container still runs.
    if summary.status == "Completed" && running {
        summary.status = if condition(pod, "Ready") { "Running" } else { "NotReady" }.to_string();
    }
}
