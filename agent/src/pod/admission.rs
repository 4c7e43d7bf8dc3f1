//! Whether this node lets in a pod that was bound to it, apart from room, which is the
//! ledger's. As kubelet decides, in its words. Pure.

use super::plan::Waiting;
use super::spec;
use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reason and message.
pub type Refusal = (String, String);

/// Sysctls of a namespace of the pod's own, that touch nobody else.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn refused(reason: &str, message: impl Into<String>) -> Result<(), Refusal> {
    Err((reason.to_owned(), message.into()))
}

/// What needs no look at the node's other pods. `unsafe_sysctls`: names and patterns
/// (ending in `*`) that the administrator allows.
pub fn of_itself(pod: &Pod, node: Option<&Node>, unsafe_sysctls: &[String]) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    sysctls(spec, unsafe_sysctls)?;
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return refused("PodOSSelectorNodeLabelDoesNotMatch", message);
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return refused(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        );
    }
    let context = spec.security_context.as_ref();
    let strict = context.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict");
    let features = node.and_then(|n| n.status.as_ref()?.features.as_ref());
    if strict && features.and_then(|f| f.supplemental_groups_policy) != Some(true) {
        return refused(
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        );
    }
    Ok(())
}

/// Which of a sysctl's namespaces must be the pod's own; none: it is everybody's.
fn namespace(sysctl: &str) -> Option<&'static str> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if sysctl == "kernel.sem" || ipc.iter().any(|prefix| sysctl.starts_with(prefix)) {
        Some("IPC")
    } else {
        sysctl.starts_with("net.").then_some("Net")
    }
}

/// Whether an administrator may allow it; the error is for who started the node.
pub fn check_sysctl_pattern(pattern: &str) -> Result<(), String> {
    let name = dotted(pattern);
    let bare = name.strip_suffix('*').unwrap_or(&name);
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if bare.is_empty() || !bare.chars().all(known) {
        return Err(format!("{pattern:?} is no sysctl's name and no pattern"));
    }
    match namespace(bare) {
        Some(_) => Ok(()),
        None => Err(format!("the sysctl {pattern:?} is not known to be namespaced")),
    }
}

/// `net/ipv4/conf/eth0.1/x` and `net.ipv4.conf.eth0/1.x` name the same: the first
/// separator tells which way it was written.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => {
            let swap = |c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

fn sysctls(spec: &PodSpec, allowed: &[String]) -> Result<(), Refusal> {
    let wanted = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    for sysctl in wanted {
        let name = dotted(&sysctl.name);
        let matches = |pattern: &str| match dotted(pattern).strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => dotted(pattern) == name,
        };
        let listed = SAFE_SYSCTLS.contains(&name.as_str()) || allowed.iter().any(|p| matches(p));
        let shared = match namespace(&name) {
            Some("IPC") => spec.host_ipc == Some(true),
            _ => spec::host_network(spec),
        };
        if !listed {
            return refused("SysctlForbidden", format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if shared {
            let namespace = namespace(&name).unwrap_or_default();
            let message = format!("forbidden sysctl: {name:?} not allowed with host {namespace} enabled");
            return refused("SysctlForbidden", message);
        }
    }
    Ok(())
}

/// The node's labels, ports and taints. `others`: the pods that it runs besides this one.
/// `own`: the pod is the node's own, whom taints do not concern.
pub fn beside_others(pod: &Pod, node: Option<&Node>, others: &[Arc<Pod>], own: bool) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if node.is_some_and(|node| !node_matches(spec, node)) {
        return refused(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    let taken: Vec<HostPort> = others.iter().flat_map(|p| p.spec.iter().flat_map(host_ports)).collect();
    if host_ports(spec)
        .iter()
        .any(|port| taken.iter().any(|other| port.collides(other)))
    {
        return refused(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
    }
    let taints = node
        .iter()
        .flat_map(|n| n.spec.iter().flat_map(|s| s.taints.iter().flatten()));
    let mut taints = taints.filter(|t| t.effect == "NoExecute");
    if !own && taints.any(|taint| !tolerates(spec, taint)) {
        return refused(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
    }
    Ok(())
}

/// Whether a newer look at the node may end otherwise.
pub fn may_be_stale(refusal: &Refusal) -> bool {
    matches!(refusal.0.as_str(), "NodeAffinity" | "TaintToleration")
}

/// Why a pod that was let in does not run yet.
pub fn blocked(pod: &Pod, app_armor: bool) -> Option<Waiting> {
    let spec = pod.spec.as_ref()?;
    let confines = |kind: Option<&str>| kind.is_some_and(|kind| kind != "Unconfined");
    let context = spec.security_context.as_ref();
    let of_pod = context.and_then(|c| Some(c.app_armor_profile.as_ref()?.type_.as_str()));
    let of_container = |c: &Container| {
        let own = c.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
        confines(own.map(|p| p.type_.as_str()))
    };
    let wanted = confines(of_pod) || spec::containers(spec).any(|(c, _)| of_container(c));
    (wanted && !app_armor).then(|| Waiting {
        reason: "AppArmor".into(),
        message: "Cannot enforce AppArmor: AppArmor is not enabled on the host".into(),
    })
}

fn node_matches(spec: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let simple = spec.node_selector.iter().flatten();
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    simple.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|selector: &NodeSelector| {
            selector
                .node_selector_terms
                .iter()
                .any(|term| term_matches(term, name, labels))
        })
}

fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that asks for nothing matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|wanted| wanted == v));
    let compare = |test: fn(i64, i64) -> bool| {
        let wanted = values.first().and_then(|w| w.parse::<i64>().ok());
        let have = value.and_then(|v| v.parse::<i64>().ok());
        have.zip(wanted).is_some_and(|(have, wanted)| test(have, wanted))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, wanted| have > wanted),
        "Lt" => compare(|have, wanted| have < wanted),
        _ => false,
    }
}

fn tolerates(spec: &PodSpec, taint: &Taint) -> bool {
    let value = |v: &Option<String>| v.clone().unwrap_or_default();
    let one = |t: &Toleration| {
        let key = t.key.as_deref().unwrap_or_default();
        let effect = t.effect.as_deref().unwrap_or_default();
        let alike = match t.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => value(&t.value) == value(&taint.value),
            _ => false,
        };
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && alike
    };
    spec.tolerations.iter().flatten().any(one)
}

#[derive(Debug, PartialEq, Eq)]
struct HostPort {
    protocol: String,
    ip: String,
    port: i32,
}

impl HostPort {
    fn collides(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip == other.ip || self.ip == ALL || other.ip == ALL)
    }
}

/// Those of containers that run together, for init containers end before the others begin.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let running = spec::containers(spec).filter(|(_, role)| *role != spec::Role::Init);
    let ports = running.flat_map(|(c, _)| c.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        let text = |value: &Option<String>, default: &str| match value.as_deref() {
            None | Some("") => default.to_owned(),
            Some(value) => value.to_owned(),
        };
        Some(HostPort {
            protocol: text(&port.protocol, "TCP"),
            ip: text(&port.host_ip, "0.0.0.0"),
            port: port.host_port.filter(|p| *p > 0)?,
        })
    });
    ports.collect()
}

#[cfg(test)]
#[path = "admission_test.rs"]
mod tests;
