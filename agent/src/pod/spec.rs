//! Questions about a pod's specification. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};

pub type Key = (String, String);

pub fn key(pod: &Pod) -> Key {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as kubelet's messages name a pod.
pub fn full_name(pod: &Pod) -> String {
    let (namespace, name) = key(pod);
    format!("{name}_{namespace}({})", uid(pod))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Init,
    /// An init container with restartPolicy Always: stays beside the others.
    Sidecar,
    App,
    /// Added by `kubectl debug`; started once, never again.
    Ephemeral,
}

pub fn restart_policy(spec: &PodSpec) -> RestartPolicy {
    match spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

pub fn role(container: &Container, init: bool) -> Role {
    match (init, container.restart_policy.as_deref()) {
        (false, _) => Role::App,
        (true, Some("Always")) => Role::Sidecar,
        (true, _) => Role::Init,
    }
}

/// What a container's rules may ask for.
const RESTART: &str = "Restart";
pub const RESTART_ALL: &str = "RestartAllContainers";

/// What the first of the container's own rules asks for that is about this code.
pub fn rule(container: &Container, exit_code: i32) -> Option<&str> {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let matching = rules.find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.as_ref().is_some_and(|v| v.contains(&exit_code));
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    });
    matching.map(|rule| rule.action.as_str())
}

/// Whether a container that has ended with this code is run again while the pod lives:
/// its own rules come first, then its own policy, then the pod's.
pub fn restarts(spec: &PodSpec, container: &Container, role: Role, exit_code: i32) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    if matches!(rule(container, exit_code), Some(RESTART | RESTART_ALL)) {
        return true;
    }
    let policy = match container.restart_policy.as_deref() {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => restart_policy(spec),
    };
    match (role, policy) {
        (Role::Sidecar, _) => true,
        (_, RestartPolicy::Never) => false,
        // An init container that has done its work is done for good.
        (Role::Init, _) | (_, RestartPolicy::OnFailure) => exit_code != 0,
        (_, RestartPolicy::Always) => true,
    }
}

/// Whether some end of the container would be followed by a new start.
pub fn may_restart(spec: &PodSpec, container: &Container, role: Role) -> bool {
    restarts(spec, container, role, 1) || restarts(spec, container, role, 137)
}

pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Init containers first, then the others, each with its role.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (&Container, Role)> {
    init_containers(spec)
        .iter()
        .map(|c| (c, role(c, true)))
        .chain(spec.containers.iter().map(|c| (c, Role::App)))
}

/// Ephemeral containers have every field of a container, and a target.
pub fn ephemeral(spec: &PodSpec) -> Vec<(Container, Option<String>)> {
    let each = spec.ephemeral_containers.iter().flatten().filter_map(|ephemeral| {
        let value = serde_json::to_value(ephemeral).ok()?;
        Some((
            serde_json::from_value(value).ok()?,
            ephemeral.target_container_name.clone().filter(|t| !t.is_empty()),
        ))
    });
    each.collect()
}

/// A container of any role by its name.
pub fn any(spec: &PodSpec, name: &str) -> Option<(Container, Role)> {
    let listed = find(spec, name).map(|(c, role)| (c.clone(), role));
    listed.or_else(|| {
        let found = ephemeral(spec).into_iter().find(|(c, _)| c.name == name);
        found.map(|(c, _)| (c, Role::Ephemeral))
    })
}

pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(&'a Container, Role)> {
    containers(spec).find(|(c, _)| c.name == name)
}

/// The path that events use to point at a container.
pub fn field_path(role: Role, name: &str) -> String {
    match role {
        Role::App => format!("spec.containers{{{name}}}"),
        Role::Init | Role::Sidecar => format!("spec.initContainers{{{name}}}"),
        Role::Ephemeral => format!("spec.ephemeralContainers{{{name}}}"),
    }
}

pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or(false)
}

pub fn grace_s(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds))
        .unwrap_or(30)
}

/// When the pod has been active for as long as it may be.
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let limit = pod.spec.as_ref()?.active_deadline_seconds?;
    let started = pod.status.as_ref()?.start_time.as_ref()?.0;
    started.checked_add(SignedDuration::from_secs(limit)).ok()
}

/// The longest that one container may take to end after a failed probe.
pub fn probe_grace_s(pod: &Pod, probe: Option<&Probe>) -> i64 {
    probe
        .and_then(|p| p.termination_grace_period_seconds)
        .or_else(|| pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds))
        .unwrap_or(30)
}

pub fn phase_is_final(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The pod's own name in DNS, and the domain that its subdomain makes.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let set = |text: Option<&String>| text.filter(|t| !t.is_empty()).cloned();
    let spec = pod.spec.as_ref();
    if let Some(whole) = spec.and_then(|s| set(s.hostname_override.as_ref())) {
        return (whole, None);
    }
    let (namespace, pod_name) = key(pod);
    let name = spec.and_then(|s| set(s.hostname.as_ref())).unwrap_or(pod_name);
    // A host name has 63 characters at most; Kubernetes cuts and trims.
    let cut: String = name.chars().take(63).collect();
    let domain = spec.and_then(|s| set(s.subdomain.as_ref()));
    (
        cut.trim_end_matches(['-', '.']).to_owned(),
        domain.map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}")),
    )
}

/// What `hostname` prints in the pod.
pub fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    /// The kernel's limit.
    const LENGTH_MAX: usize = 64;
    let (name, domain) = hostname(pod, cluster_domain);
    let whole = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    let Some(domain) = domain.filter(|_| whole) else {
        return Ok(name);
    };
    let full = format!("{name}.{domain}");
    if full.len() > LENGTH_MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long \
             ({LENGTH_MAX} characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}
