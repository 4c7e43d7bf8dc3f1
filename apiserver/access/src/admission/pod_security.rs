//! PodSecurity: the Pod Security Standards, by the labels of the namespace.
//! Pods are refused or warned about; workloads that make pods are warned about.
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{flag, items, text};
use serde_json::Value;

const LABEL: &str = "pod-security.kubernetes.io/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// What a namespace asks for in one mode, and how it is shown: `restricted:latest`.
fn policy(namespace: &Value, mode: &str) -> (Level, String) {
    let nothing = Value::Null;
    let labels = namespace.pointer("/metadata/labels").unwrap_or(&nothing);
    let label = |key: String| labels.get(key).and_then(Value::as_str).unwrap_or("").to_string();
    let name = label(format!("{LABEL}{mode}"));
    let version = label(format!("{LABEL}{mode}-version"));
    let level = match name.as_str() {
        "" | "privileged" => Level::Privileged,
        "baseline" => Level::Baseline,
        // What cannot be read counts as the strictest, as upstream.
        _ => Level::Restricted,
    };
    let shown = if level == Level::Baseline {
        "baseline"
    } else {
        "restricted"
    };
    (
        level,
        format!("{shown}:{}", if version.is_empty() { "latest" } else { &version }),
    )
}

pub fn validate(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let write = matches!(r.operation, Operation::Create | Operation::Update);
    if !write || r.namespace.is_empty() {
        return Ok(());
    }
    let Some(pointer) = template_of(r) else { return Ok(()) };
    let pod = pointer.is_empty();
    if pod
        && r.operation == Operation::Update
        && r.old_object.is_some_and(|old| old.get("spec") == r.object.get("spec"))
    {
        return Ok(());
    }
    let Some(namespace) = objects.get("", "namespaces", "", r.namespace) else {
        return Ok(());
    };
    let (enforced, shown) = policy(&namespace, "enforce");
    let template = r.object.pointer(pointer).unwrap_or(&Value::Null);
    if pod && enforced > Level::Privileged {
        let problems = violations(template, enforced);
        if !problems.is_empty() {
            return Err(forbidden(
                r,
                &format!("violates PodSecurity {shown:?}: {}", problems.join(", ")),
            ));
        }
    }
    let (warned, shown) = policy(&namespace, "warn");
    if warned > Level::Privileged {
        let problems = violations(template, warned);
        if !problems.is_empty() {
            r.warnings
                .push(format!("would violate PodSecurity {shown:?}: {}", problems.join(", ")));
        }
    }
    Ok(())
}

/// Where the object has a pod or a pod's template.
fn template_of(r: &AdmissionRequest) -> Option<&'static str> {
    let main = |group: &str, resource: &str| {
        is(r, Operation::Create, group, resource) || is(r, Operation::Update, group, resource)
    };
    if main("", "pods") || (r.group.is_empty() && r.resource == "pods" && r.subresource == "ephemeralcontainers") {
        return Some("");
    }
    if main("", "podtemplates") {
        return Some("/template");
    }
    if main("batch", "cronjobs") {
        return Some("/spec/jobTemplate/spec/template");
    }
    let workload = ["deployments", "replicasets", "daemonsets", "statefulsets"]
        .iter()
        .any(|w| main("apps", w));
    (workload || main("batch", "jobs") || main("", "replicationcontrollers")).then_some("/spec/template")
}

/// All that a pod (or template) does and the level does not allow.
fn violations(pod: &Value, level: Level) -> Vec<String> {
    let restricted = level == Level::Restricted;
    let mut found = Vec::new();
    let mut note = |problem: Option<String>| found.extend(problem);
    if !restricted {
        note(baseline_capabilities(pod));
    }
    note(host_namespaces(pod));
    if !restricted {
        note(host_paths(pod));
    }
    note(host_ports(pod));
    note(privileged(pod));
    note(proc_mount(pod));
    note(app_armor(pod));
    note(se_linux(pod));
    note(sysctls(pod));
    note(host_process(pod));
    if !restricted {
        note(baseline_seccomp(pod));
        return found;
    }
    note(privilege_escalation(pod));
    note(restricted_capabilities(pod));
    note(restricted_volumes(pod));
    note(non_root(pod));
    note(root_user(pod));
    note(restricted_seccomp(pod));
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

fn about(names: &[&str], reason: &str, must: &str) -> Option<String> {
    (!names.is_empty()).then(|| format!("{reason} ({} {must})", named("container", names)))
}

fn host_namespaces(pod: &Value) -> Option<String> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|key| flag(pod, &format!("/spec/{key}")) == Some(true))
        .map(|key| format!("{key}=true"))
        .collect();
    (!used.is_empty()).then(|| format!("host namespaces ({})", used.join(", ")))
}

fn privileged(pod: &Value) -> Option<String> {
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

fn baseline_capabilities(pod: &Value) -> Option<String> {
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

fn restricted_capabilities(pod: &Value) -> Option<String> {
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
    (!details.is_empty()).then(|| format!("unrestricted capabilities ({})", details.join("; ")))
}

fn host_paths(pod: &Value) -> Option<String> {
    let volumes = items(pod, "/spec/volumes")
        .iter()
        .filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "/name")).collect();
    (!names.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &names)))
}

fn host_ports(pod: &Value) -> Option<String> {
    let ports_of = |container: &Value| -> Vec<i64> {
        let ports = items(container, "/ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let names = failing(pod, |container| !ports_of(container).is_empty());
    let mut ports: Vec<i64> = containers(pod).flat_map(ports_of).collect();
    ports.sort_unstable();
    ports.dedup();
    let shown: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if shown.len() == 1 { "hostPort" } else { "hostPorts" };
    about(&names, "hostPort", &format!("{verb} {noun} {}", shown.join(", ")))
}

fn proc_mount(pod: &Value) -> Option<String> {
    let names = failing(pod, |c| {
        !matches!(text(c, "/securityContext/procMount"), "" | "Default")
    });
    about(
        &names,
        "procMount",
        "must not set securityContext.procMount to \"Unmasked\"",
    )
}

fn app_armor(pod: &Value) -> Option<String> {
    let bad = |value: &Value| text(value, "/securityContext/appArmorProfile/type") == "Unconfined";
    let names = failing(pod, bad);
    let annotated = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .any(|(key, value)| {
            key.starts_with("container.apparmor.security.beta.kubernetes.io/") && value.as_str() == Some("unconfined")
        });
    if pod.get("spec").is_some_and(bad) || annotated || !names.is_empty() {
        return Some("forbidden AppArmor profile (pod or container must not set it to Unconfined)".into());
    }
    None
}

fn se_linux(pod: &Value) -> Option<String> {
    let bad = |value: &Value| {
        let options = value.pointer("/securityContext/seLinuxOptions");
        options.is_some_and(|options| {
            let kind = text(options, "/type");
            !matches!(
                kind,
                "" | "container_t" | "container_init_t" | "container_kvm_t" | "container_engine_t"
            ) || !text(options, "/user").is_empty()
                || !text(options, "/role").is_empty()
        })
    };
    if pod.get("spec").is_some_and(bad) || !failing(pod, bad).is_empty() {
        return Some("seLinuxOptions (pod or container set forbidden securityContext.seLinuxOptions)".into());
    }
    None
}

fn sysctls(pod: &Value) -> Option<String> {
    const SAFE: [&str; 10] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    ];
    let more = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];
    let names: Vec<&str> = items(pod, "/spec/securityContext/sysctls")
        .iter()
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| !SAFE.contains(name) && !more.contains(name))
        .collect();
    (!names.is_empty()).then(|| format!("forbidden sysctls ({})", names.join(", ")))
}

fn host_process(pod: &Value) -> Option<String> {
    let bad = |value: &Value| flag(value, "/securityContext/windowsOptions/hostProcess") == Some(true);
    (pod.get("spec").is_some_and(bad) || !failing(pod, bad).is_empty())
        .then(|| "hostProcess (pod or container must not set securityContext.windowsOptions.hostProcess=true)".into())
}

fn baseline_seccomp(pod: &Value) -> Option<String> {
    let unconfined = |value: &Value| text(value, "/securityContext/seccompProfile/type") == "Unconfined";
    let must = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    if pod.get("spec").is_some_and(unconfined) {
        return Some(format!("seccompProfile (pod {must})"));
    }
    about(&failing(pod, unconfined), "seccompProfile", must)
}

fn restricted_seccomp(pod: &Value) -> Option<String> {
    let kind = |value: &Value| text(value, "/securityContext/seccompProfile/type").to_string();
    let confined = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let of_pod = pod.get("spec").map(kind).unwrap_or_default();
    let names = failing(pod, |container| {
        let own = kind(container);
        !confined(if own.is_empty() { &of_pod } else { &own })
    });
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    (!names.is_empty()).then(|| format!("seccompProfile (pod or {} {must})", named("container", &names)))
}

fn privilege_escalation(pod: &Value) -> Option<String> {
    let names = failing(pod, |c| {
        flag(c, "/securityContext/allowPrivilegeEscalation") != Some(false)
    });
    about(
        &names,
        "allowPrivilegeEscalation != false",
        "must set securityContext.allowPrivilegeEscalation=false",
    )
}

fn restricted_volumes(pod: &Value) -> Option<String> {
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
    let mut names = Vec::new();
    let mut kinds = Vec::new();
    for volume in items(pod, "/spec/volumes") {
        let given = volume.as_object().into_iter().flatten();
        for (kind, _) in given.filter(|(kind, value)| !value.is_null() && !ALLOWED.contains(&kind.as_str())) {
            names.push(text(volume, "/name"));
            kinds.push(format!("{kind:?}"));
        }
    }
    kinds.sort();
    kinds.dedup();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if kinds.len() == 1 { "type" } else { "types" };
    let shown = || {
        format!(
            "{} {verb} restricted volume {noun} {}",
            named("volume", &names),
            kinds.join(", ")
        )
    };
    (!names.is_empty()).then(|| format!("restricted volume types ({})", shown()))
}

fn non_root(pod: &Value) -> Option<String> {
    let of_pod = flag(pod, "/spec/securityContext/runAsNonRoot");
    let names = failing(pod, |c| {
        flag(c, "/securityContext/runAsNonRoot").or(of_pod) != Some(true)
    });
    let must = "must set securityContext.runAsNonRoot=true";
    (!names.is_empty()).then(|| format!("runAsNonRoot != true (pod or {} {must})", named("container", &names)))
}

fn root_user(pod: &Value) -> Option<String> {
    let root = |value: &Value| value.pointer("/securityContext/runAsUser").and_then(Value::as_i64) == Some(0);
    if pod.get("spec").is_some_and(root) {
        return Some("runAsUser=0 (pod must not set runAsUser=0)".into());
    }
    about(&failing(pod, root), "runAsUser=0", "must not set runAsUser=0")
}
