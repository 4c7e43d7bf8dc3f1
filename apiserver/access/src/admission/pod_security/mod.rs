//! PodSecurity: the Pod Security Standards, by the labels of the namespace.
//! Pods are refused or warned about; workloads that make pods are warned about;
//! a namespace whose level rises is told which of its pods would be refused.
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

mod checks;

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{items, text};
use checks::violations;
use serde_json::Value;
use skiff_api::{ApiError, FieldError};
use std::collections::BTreeMap;
use std::fmt;

const LABEL: &str = "pod-security.kubernetes.io/";
/// Pods of a namespace that are looked at when its level rises, as upstream.
const PODS_MAX: usize = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// `restricted:latest`, `baseline:v1.30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LevelVersion {
    level: Level,
    /// Of `v1.x`; none: the latest.
    minor: Option<u32>,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace asks for in one mode, and what is wrong with its labels.
/// What cannot be read is enforced most strictly, and neither warned of nor audited.
fn policy(namespace: &Value, mode: &str) -> (LevelVersion, Vec<FieldError>) {
    let mut errors = Vec::new();
    let nothing = Value::Null;
    let labels = namespace.pointer("/metadata/labels").unwrap_or(&nothing);
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let mut wrong = |key: &str, value: &str, why: &str| {
        errors.push(FieldError::invalid(
            format!("metadata.labels[{key}]"),
            &value.into(),
            why,
        ));
    };
    let key = format!("{LABEL}{mode}");
    let level = match label(&key) {
        None | Some("privileged") => Level::Privileged,
        Some("baseline") => Level::Baseline,
        Some("restricted") => Level::Restricted,
        Some(other) => {
            wrong(&key, other, "must be one of privileged, baseline, restricted");
            if mode == "enforce" {
                Level::Restricted
            } else {
                Level::Privileged
            }
        }
    };
    let key = format!("{LABEL}{mode}-version");
    let minor = match label(&key) {
        None | Some("latest") => None,
        Some(version) => {
            let minor = version.strip_prefix("v1.").and_then(minor_of);
            if minor.is_none() {
                wrong(&key, version, "must be \"latest\" or \"v1.x\"");
            }
            minor
        }
    };
    (LevelVersion { level, minor }, errors)
}

/// A number without a sign or leading zeros.
fn minor_of(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn label_errors(namespace: &Value) -> Vec<FieldError> {
    ["enforce", "audit", "warn"]
        .iter()
        .flat_map(|mode| policy(namespace, mode).1)
        .collect()
}

/// The violations as one text; empty if there are none.
fn shown(pod: &Value, asked: LevelVersion) -> String {
    let found: Vec<String> = violations(pod, asked).iter().map(|v| v.shown()).collect();
    found.join(", ")
}

pub fn validate(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if !matches!(r.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if r.group.is_empty() && r.resource == "namespaces" && r.subresource.is_empty() {
        return namespace(r, objects);
    }
    if r.namespace.is_empty() {
        return Ok(());
    }
    let Some(pointer) = template_of(r) else { return Ok(()) };
    let pod = pointer.is_empty();
    if pod && r.old_object.is_some_and(|old| !is_significant(r.object, old)) {
        return Ok(());
    }
    let Some(namespace) = objects.get("", "namespaces", "", r.namespace) else {
        return Ok(());
    };
    let Some(template) = r.object.pointer(pointer) else {
        return Ok(());
    };
    let (enforced, _) = policy(&namespace, "enforce");
    if pod && enforced.level > Level::Privileged {
        let problems = shown(template, enforced);
        if !problems.is_empty() {
            let why = format!("violates PodSecurity {:?}: {problems}", enforced.to_string());
            return Err(forbidden(r, &why));
        }
    }
    let (warned, _) = policy(&namespace, "warn");
    if warned.level > Level::Privileged {
        let problems = shown(template, warned);
        if !problems.is_empty() {
            let warning = format!("would violate PodSecurity {:?}: {problems}", warned.to_string());
            r.warnings.push(warning);
        }
    }
    Ok(())
}

/// Labels must make sense, and whoever raises the level learns of pods that are there.
fn namespace(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let errors = label_errors(r.object);
    let old = r.old_object;
    if !errors.is_empty() && old.is_none_or(|old| label_errors(old) != errors) {
        let name = text(r.object, "/metadata/name");
        return Err(ApiError::invalid("", "Namespace", name, &errors));
    }
    let Some(old) = old else { return Ok(()) };
    let (new, old) = (policy(r.object, "enforce").0, policy(old, "enforce").0);
    let relaxed = new.minor == old.minor && new.level <= old.level;
    if new == old || new.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let name = text(r.object, "/metadata/name").to_string();
    r.warnings.extend(existing(&name, new, objects));
    Ok(())
}

fn existing(namespace: &str, asked: LevelVersion, objects: &dyn Objects) -> Vec<String> {
    let pods = objects.list("", "pods", namespace);
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(PODS_MAX) {
        let reasons: Vec<String> = violations(pod, asked).into_iter().map(|v| v.reason).collect();
        if reasons.is_empty() {
            continue;
        }
        let name = text(pod, "/metadata/name").to_string();
        let entry = found.entry(reasons.join(", ")).or_insert_with(|| (name.clone(), 0));
        entry.1 += 1;
        if name < entry.0 {
            entry.0 = name;
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            asked.to_string()
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

/// Whether an update of a pod changes what the standards are about.
fn is_significant(new: &Value, old: &Value) -> bool {
    let list = |pod: &'static str| (items(new, pod), items(old, pod));
    let changed =
        |a: &Value, b: &Value| a.get("image") != b.get("image") || a.get("securityContext") != b.get("securityContext");
    for place in ["/spec/containers", "/spec/initContainers"] {
        let (new, old) = list(place);
        if new.len() != old.len() || new.iter().zip(old).any(|(a, b)| changed(a, b)) {
            return true;
        }
    }
    let (new, old) = list("/spec/ephemeralContainers");
    new.iter().any(|container| {
        let known = old.iter().find(|o| o.get("name") == container.get("name"));
        known.is_none_or(|known| changed(container, known))
    })
}

/// Where the object has a pod or a pod's template.
fn template_of(r: &AdmissionRequest) -> Option<&'static str> {
    let main = |group: &str, resource: &str| {
        is(r, Operation::Create, group, resource) || is(r, Operation::Update, group, resource)
    };
    const OTHER: [&str; 8] = [
        "exec",
        "attach",
        "binding",
        "eviction",
        "log",
        "portforward",
        "proxy",
        "status",
    ];
    if r.group.is_empty() && r.resource == "pods" && !OTHER.contains(&r.subresource) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(level: Level, minor: Option<u32>) -> LevelVersion {
        LevelVersion { level, minor }
    }

    #[test]
    fn checks_in_upstreams_words() {
        let pod = |spec: Value| json!({"metadata": {}, "spec": spec});
        let latest = asked(Level::Baseline, None);
        let cases = [
            (
                json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "x"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "y"}}}}]}),
                "probe or lifecycle host (container \"a\" uses probe or lifecycle hosts \"x\", \"y\")",
            ),
            (
                json!({"securityContext": {"seLinuxOptions": {"type": "t", "user": "u"}}, "containers": [{"name": "a", "securityContext": {"seLinuxOptions": {"role": "r"}}}]}),
                "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: type \"t\"; user may not be set; role may not be set)",
            ),
            (
                json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}, "containers": []}),
                "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                json!({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}),
                "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                json!({"containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]}),
                "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                json!({"hostUsers": false, "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]}),
                "",
            ),
            (
                json!({"securityContext": {"windowsOptions": {"hostProcess": true}}, "containers": []}),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}, {"name": "a.b"}]}, "containers": []}),
                "forbidden sysctls (a.b)",
            ),
            (
                json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "a.b"}]}, "containers": [{"name": "a", "ports": [{"hostPort": 90}, {"hostPort": 100}]}]}),
                "host namespaces (hostNetwork=true), hostPort (container \"a\" uses hostPorts 100, 90), forbidden sysctls (a.b)",
            ),
        ];
        for (spec, want) in cases {
            assert_eq!(shown(&pod(spec.clone()), latest), want, "{spec}");
        }
        let restricted = |spec: Value| shown(&pod(spec), asked(Level::Restricted, None));
        let found = restricted(json!({"securityContext": {"runAsUser": 0}, "containers": [{"name": "a",
            "securityContext": {"runAsUser": 0, "runAsNonRoot": false}}]}));
        assert!(
            found.contains(
                "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false), \
                 runAsUser=0 (pod and container \"a\" must not set runAsUser=0), seccompProfile ("
            ),
            "{found}"
        );
        // Older versions ask for less.
        let old = shown(
            &pod(json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]},
            "containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "x"}}}]})),
            asked(Level::Baseline, Some(30)),
        );
        assert_eq!(old, "forbidden sysctls (net.ipv4.tcp_rmem)");
    }

    #[test]
    fn labels() {
        let namespace = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
        let enforce = |labels: Value| policy(&namespace(labels), "enforce").0.to_string();
        assert_eq!(enforce(json!({})), "privileged:latest");
        assert_eq!(
            enforce(
                json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"})
            ),
            "baseline:v1.30"
        );
        assert_eq!(
            enforce(json!({"pod-security.kubernetes.io/enforce": "x"})),
            "restricted:latest"
        );
        let errors = label_errors(&namespace(json!({"pod-security.kubernetes.io/enforce": "x",
            "pod-security.kubernetes.io/warn-version": "v1.01"})));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
            ]
        );
    }
}
