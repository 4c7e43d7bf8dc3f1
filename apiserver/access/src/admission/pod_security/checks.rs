//! The checks of the Pod Security Standards, each with the versions that have it.
//! Texts are upstream's: a reason, and the detail in parentheses.

use super::{Level, LevelVersion};
use crate::tree::{flag, items, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a pod does and may not: `privileged (container "a" must not ...)`.
pub(super) struct Violation {
    pub reason: String,
    detail: String,
}

impl Violation {
    pub fn shown(&self) -> String {
        format!("{} ({})", self.reason, self.detail)
    }
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.to_string(),
        detail,
    })
}

/// All that a pod (or template) does and the level does not allow; those of the
/// baseline first, then by their names.
pub(super) fn violations(pod: &Value, asked: LevelVersion) -> Vec<Violation> {
    let restricted = asked.level == Level::Restricted;
    let since = |minor: u32| asked.minor.is_none_or(|version| version >= minor);
    // Root in a user namespace is nobody outside of it.
    let confined = since(35) && flag(pod, "/spec/hostUsers") == Some(false);
    let windows = since(25) && text(pod, "/spec/os/name") == "windows";
    let baseline = [
        app_armor(pod),
        (!restricted || !since(22))
            .then(|| baseline_capabilities(pod))
            .flatten(),
        host_namespaces(pod),
        (!restricted).then(|| host_paths(pod)).flatten(),
        host_ports(pod),
        since(34).then(|| probe_hosts(pod)).flatten(),
        privileged(pod),
        (!confined).then(|| proc_mount(pod)).flatten(),
        se_linux(pod, since(31)),
        (!restricted || !since(19) || windows)
            .then(|| {
                if since(19) {
                    baseline_seccomp(pod)
                } else {
                    old_seccomp(pod)
                }
            })
            .flatten(),
        sysctls(pod, since),
        host_process(pod),
    ];
    let mut found: Vec<Violation> = baseline.into_iter().flatten().collect();
    if !restricted {
        return found;
    }
    let more = [
        (since(8) && !windows).then(|| privilege_escalation(pod)).flatten(),
        (since(22) && !windows).then(|| restricted_capabilities(pod)).flatten(),
        restricted_volumes(pod),
        (!confined).then(|| non_root(pod)).flatten(),
        (since(23) && !confined).then(|| root_user(pod)).flatten(),
        (since(19) && !windows).then(|| restricted_seccomp(pod)).flatten(),
    ];
    found.extend(more.into_iter().flatten());
    found
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(pod, list))
}

/// Names of the containers that fail the test.
fn failing(pod: &Value, test: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(pod)
        .filter(|container| test(container))
        .map(|container| text(container, "/name"))
        .collect()
}

/// `container "a"` or `containers "a", "b"`.
fn named(what: &str, names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "{what}{} {}",
        if names.len() == 1 { "" } else { "s" },
        quoted.join(", ")
    )
}

fn about(names: &[&str], reason: &str, must: &str) -> Option<Violation> {
    if names.is_empty() {
        return None;
    }
    violation(reason, format!("{} {must}", named("container", names)))
}

/// `pod and containers "a", "b"`, or of what there is of it.
fn setters(pod: bool, names: &[&str]) -> String {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_string());
    }
    if !names.is_empty() {
        parts.push(named("container", names));
    }
    parts.join(" and ")
}

fn quoted<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| format!("{value:?}")).collect();
    values.join(", ")
}

fn host_namespaces(pod: &Value) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|key| flag(pod, &format!("/spec/{key}")) == Some(true))
        .map(|key| format!("{key}=true"))
        .collect();
    if used.is_empty() {
        return None;
    }
    violation("host namespaces", used.join(", "))
}

fn privileged(pod: &Value) -> Option<Violation> {
    let names = failing(pod, |c| flag(c, "/securityContext/privileged") == Some(true));
    about(&names, "privileged", "must not set securityContext.privileged=true")
}

fn added_capabilities(pod: &Value, allowed: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut names, mut added) = (Vec::new(), Vec::new());
    for container in containers(pod) {
        let bad: Vec<&str> = items(container, "/securityContext/capabilities/add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
            .collect();
        if !bad.is_empty() {
            names.push(text(container, "/name").to_string());
            added.extend(bad.into_iter().map(|capability| format!("{capability:?}")));
        }
    }
    added.sort();
    added.dedup();
    (names, added)
}

fn baseline_capabilities(pod: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, added) = added_capabilities(pod, &ALLOWED);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    about(
        &names,
        "non-default capabilities",
        &format!(
            "must not include {} in securityContext.capabilities.add",
            added.join(", ")
        ),
    )
}

fn restricted_capabilities(pod: &Value) -> Option<Violation> {
    let keeps = failing(pod, |c| {
        !items(c, "/securityContext/capabilities/drop")
            .iter()
            .any(|capability| capability.as_str() == Some("ALL"))
    });
    let (adds, added) = added_capabilities(pod, &["NET_BIND_SERVICE"]);
    let adds: Vec<&str> = adds.iter().map(String::as_str).collect();
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named("container", &keeps)
        ));
    }
    if !adds.is_empty() {
        let must = format!(
            "must not include {} in securityContext.capabilities.add",
            added.join(", ")
        );
        details.push(format!("{} {must}", named("container", &adds)));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

fn host_paths(pod: &Value) -> Option<Violation> {
    let volumes = items(pod, "/spec/volumes")
        .iter()
        .filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "/name")).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", named("volume", &names))
}

fn host_ports(pod: &Value) -> Option<Violation> {
    let ports_of = |container: &Value| -> Vec<i64> {
        let ports = items(container, "/ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let names = failing(pod, |container| !ports_of(container).is_empty());
    // Upstream sorts them as texts.
    let ports: BTreeSet<String> = containers(pod)
        .flat_map(ports_of)
        .map(|port| port.to_string())
        .collect();
    let shown: Vec<&str> = ports.iter().map(String::as_str).collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if shown.len() == 1 { "hostPort" } else { "hostPorts" };
    about(&names, "hostPort", &format!("{verb} {noun} {}", shown.join(", ")))
}

fn probe_hosts(pod: &Value) -> Option<Violation> {
    const PLACES: [&str; 5] = [
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in containers(pod) {
        for place in PLACES {
            for kind in ["httpGet", "tcpSocket"] {
                let host = text(container, &format!("{place}/{kind}/host"));
                if !host.is_empty() {
                    names.insert(text(container, "/name"));
                    hosts.insert(host);
                }
            }
        }
    }
    let names: Vec<&str> = names.into_iter().collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let plural = if hosts.len() == 1 { "" } else { "s" };
    let what = format!("{verb} probe or lifecycle host{plural} {}", quoted(hosts));
    about(&names, "probe or lifecycle host", &what)
}

fn proc_mount(pod: &Value) -> Option<Violation> {
    let set = |c: &Value| text(c, "/securityContext/procMount").to_string();
    let bad = |c: &Value| !matches!(set(c).as_str(), "" | "Default");
    let values: BTreeSet<String> = containers(pod).filter(|c| bad(c)).map(set).collect();
    let what = format!(
        "must not set securityContext.procMount to {}",
        quoted(values.iter().map(String::as_str))
    );
    about(&failing(pod, bad), "procMount", &what)
}

fn app_armor(pod: &Value) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let kind = |value: &Value| text(value, "/securityContext/appArmorProfile/type").to_string();
    let bad = |value: &Value| !matches!(kind(value).as_str(), "" | "RuntimeDefault" | "Localhost");
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let names = failing(pod, bad);
    let bad_ones = std::iter::once(spec).chain(containers(pod)).filter(|value| bad(value));
    let set: BTreeSet<String> = bad_ones.map(kind).collect();
    let mut values: Vec<String> = set.into_iter().collect();
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let mut annotated: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let value = value.as_str()?;
            let fine = matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
            (key.starts_with(PREFIX) && !fine).then(|| format!("{key}={value:?}"))
        })
        .collect();
    annotated.sort();
    let mut who = setters(bad(spec), &names);
    if !annotated.is_empty() {
        let and = if who.is_empty() { "" } else { " and " };
        who = format!("{who}{and}annotation{}", if annotated.len() == 1 { "" } else { "s" });
    }
    values.extend(annotated);
    if values.is_empty() {
        return None;
    }
    let plural = if values.len() == 1 { "" } else { "s" };
    let shown = quoted(values.iter().map(String::as_str));
    violation(
        &format!("forbidden AppArmor profile{plural}"),
        format!("{who} must not set AppArmor profile type to {shown}"),
    )
}

fn se_linux(pod: &Value, engine: bool) -> Option<Violation> {
    let of = |value: &Value, key: &str| text(value, &format!("/securityContext/seLinuxOptions/{key}")).to_string();
    let bad_type = |value: &Value| match of(value, "type").as_str() {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => false,
        "container_engine_t" => !engine,
        _ => true,
    };
    let bad = |value: &Value| bad_type(value) || !of(value, "user").is_empty() || !of(value, "role").is_empty();
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let all: Vec<&Value> = std::iter::once(spec)
        .chain(containers(pod))
        .filter(|value| bad(value))
        .collect();
    if all.is_empty() {
        return None;
    }
    let types: BTreeSet<String> = all.iter().filter(|v| bad_type(v)).map(|v| of(v, "type")).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        let plural = if types.len() == 1 { "" } else { "s" };
        data.push(format!("type{plural} {}", quoted(types.iter().map(String::as_str))));
    }
    for key in ["user", "role"] {
        if all.iter().any(|value| !of(value, key).is_empty()) {
            data.push(format!("{key} may not be set"));
        }
    }
    violation(
        "seLinuxOptions",
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters(bad(spec), &failing(pod, bad)),
            data.join("; ")
        ),
    )
}

/// Safe sysctls, and the version since which each is.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Value, since: impl Fn(u32) -> bool) -> Option<Violation> {
    let safe = |name: &str| SYSCTLS.iter().any(|(known, minor)| *known == name && since(*minor));
    let names: Vec<&str> = items(pod, "/spec/securityContext/sysctls")
        .iter()
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| !safe(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    violation("forbidden sysctls", names.join(", "))
}

fn host_process(pod: &Value) -> Option<Violation> {
    let bad = |value: &Value| flag(value, "/securityContext/windowsOptions/hostProcess") == Some(true);
    let (of_pod, names) = (pod.get("spec").is_some_and(bad), failing(pod, bad));
    if !of_pod && names.is_empty() {
        return None;
    }
    let who = setters(of_pod, &names);
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

/// Profiles before 1.19: annotations.
fn old_seccomp(pod: &Value) -> Option<Violation> {
    let mut keys = vec!["seccomp.security.alpha.kubernetes.io/pod".to_string()];
    keys.extend(
        containers(pod).map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", text(c, "/name"))),
    );
    let annotations = pod.pointer("/metadata/annotations").unwrap_or(&Value::Null);
    let bad: BTreeSet<String> = keys
        .into_iter()
        .filter_map(|key| {
            let value = annotations.get(&key)?.as_str()?;
            let fine = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!fine).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let plural = if bad.len() == 1 { "" } else { "s" };
    let shown: Vec<String> = bad.into_iter().collect();
    violation(
        "seccompProfile",
        format!("forbidden annotation{plural} {}", shown.join(", ")),
    )
}

fn profile(value: &Value) -> Option<&str> {
    value.pointer("/securityContext/seccompProfile")?;
    Some(text(value, "/securityContext/seccompProfile/type"))
}

fn baseline_seccomp(pod: &Value) -> Option<Violation> {
    let bad = |value: &Value| profile(value).is_some_and(|kind| !matches!(kind, "RuntimeDefault" | "Localhost"));
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let names = failing(pod, bad);
    let all = std::iter::once(spec).chain(containers(pod)).filter(|value| bad(value));
    let values: BTreeSet<&str> = all.filter_map(profile).collect();
    if values.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters(bad(spec), &names),
            quoted(values)
        ),
    )
}

fn restricted_seccomp(pod: &Value) -> Option<Violation> {
    if let Some(explicit) = baseline_seccomp(pod) {
        return Some(explicit);
    }
    if pod.get("spec").and_then(profile).is_some() {
        return None;
    }
    let names = failing(pod, |container| profile(container).is_none());
    if names.is_empty() {
        return None;
    }
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation(
        "seccompProfile",
        format!("pod or {} {must}", named("container", &names)),
    )
}

fn privilege_escalation(pod: &Value) -> Option<Violation> {
    let names = failing(pod, |c| {
        flag(c, "/securityContext/allowPrivilegeEscalation") != Some(false)
    });
    about(
        &names,
        "allowPrivilegeEscalation != false",
        "must set securityContext.allowPrivilegeEscalation=false",
    )
}

fn restricted_volumes(pod: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 10] = [
        "name",
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in items(pod, "/spec/volumes") {
        let given = volume.as_object().into_iter().flatten();
        for (kind, _) in given.filter(|(kind, value)| !value.is_null() && !ALLOWED.contains(&kind.as_str())) {
            names.push(text(volume, "/name"));
            kinds.insert(kind.as_str());
        }
    }
    if names.is_empty() {
        return None;
    }
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if kinds.len() == 1 { "type" } else { "types" };
    violation(
        "restricted volume types",
        format!(
            "{} {verb} restricted volume {noun} {}",
            named("volume", &names),
            quoted(kinds)
        ),
    )
}

fn non_root(pod: &Value) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = flag(pod, "/spec/securityContext/runAsNonRoot");
    let own = |c: &Value| flag(c, "/securityContext/runAsNonRoot");
    let explicit = failing(pod, |c| own(c) == Some(false));
    if of_pod == Some(false) || !explicit.is_empty() {
        let who = setters(of_pod == Some(false), &explicit);
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let implicit = failing(pod, |c| own(c).is_none() && of_pod != Some(true));
    if implicit.is_empty() {
        return None;
    }
    let who = named("container", &implicit);
    violation(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

fn root_user(pod: &Value) -> Option<Violation> {
    let root = |value: &Value| value.pointer("/securityContext/runAsUser").and_then(Value::as_i64) == Some(0);
    let (of_pod, names) = (pod.get("spec").is_some_and(root), failing(pod, root));
    if !of_pod && names.is_empty() {
        return None;
    }
    violation(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", setters(of_pod, &names)),
    )
}
