//! Checks of a pod spec, in pods and in templates.

use super::container::{self, Context};
use super::probe::OfPod;
use super::{security, volume, windows};
use crate::check::{Errors, Path};
use crate::core::resources;
use crate::names;
use crate::quantity::{self, Quantity};
use crate::tree::Tree;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where the spec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of<'a> {
    /// In the pod of this name.
    Pod(&'a str),
    Template,
}

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];

pub(crate) fn spec(spec: &Value, path: &Path, of: Of, errors: &mut Errors) {
    let volumes = volume::all(spec.items("volumes"), of, &path.of("volumes"), errors);
    let claims = resource_claims(spec, &path.of("resourceClaims"), errors);
    let context = Context {
        volumes,
        claims,
        pod: OfPod {
            grace_seconds: spec.int("terminationGracePeriodSeconds"),
            os: spec.text("os.name"),
        },
        restart_policy: spec.text("restartPolicy"),
        host_users: security::host_users(spec),
    };
    container::all(spec, path, &context, errors);
    pod_resources(spec, &path.of("resources"), errors);
    host_network(spec, of, path, errors);
    errors.choice(spec, path, "restartPolicy", RESTART_POLICIES);
    errors.choice(spec, path, "dnsPolicy", DNS_POLICIES);
    crate::meta::labels(spec.at("nodeSelector"), &path.of("nodeSelector"), errors);
    security::of_pod(spec, path, errors);
    super::scheduling::affinity(spec.at("affinity"), &path.of("affinity"), errors);
    super::dns::check(spec, path, errors);
    for (i, gate) in spec.items("readinessGates").iter().enumerate() {
        let kind = gate.text("conditionType");
        errors.all(
            &path.of("readinessGates").at(i).of("conditionType"),
            kind,
            names::qualified_name(kind),
        );
    }
    super::scheduling::gates(spec.items("schedulingGates"), &path.of("schedulingGates"), errors);
    let spread = path.of("topologySpreadConstraints");
    super::scheduling::topology_spread(spec.items("topologySpreadConstraints"), &spread, errors);
    windows::host_process(spec, path, errors);
    security::user_namespace(spec, path, errors);
    identity(spec, path, errors);
    super::scheduling::tolerations(spec.items("tolerations"), &path.of("tolerations"), errors);
    errors.optional_choice(spec, path, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    overhead(spec, &path.of("overhead"), errors);
    security::operating_system(spec, path, errors);
}

/// What holds for real pods and not for templates.
pub(super) fn only_for_pods(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec.text("serviceAccountName").is_empty() {
        let list = path.of("volumes");
        for (i, volume) in spec.items("volumes").iter().enumerate() {
            let projected = list.at(i);
            let projected = projected.of("projected");
            let sources = projected.of("sources");
            for (j, source) in volume.items("projected.sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    errors.forbidden(
                        &sources.at(j).of("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let at = path.of(list);
        for (i, container) in spec.items(list).iter().enumerate() {
            container::trimmed_image(container, &at.at(i), errors);
        }
    }
}

fn identity(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.name_at(spec, path, "serviceAccountName", names::dns_subdomain);
    errors.name_at(spec, path, "nodeName", names::dns_subdomain);
    if let Some(n) = spec
        .int("activeDeadlineSeconds")
        .filter(|n| !(1..=i64::from(i32::MAX)).contains(n))
    {
        errors.invalid(
            &path.of("activeDeadlineSeconds"),
            n,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    errors.name_at(spec, path, "hostname", names::dns_label);
    errors.name_at(spec, path, "subdomain", names::dns_label);
    host_name(spec, path, errors);
    let aliases = path.of("hostAliases");
    for (i, alias) in spec.items("hostAliases").iter().enumerate() {
        let path = aliases.at(i);
        let ip = alias.text("ip");
        errors.all(&path.of("ip"), ip, names::ip(ip));
        let hosts = path.of("hostnames");
        for (j, host) in alias.items("hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or("");
            errors.all(&hosts.at(j), host, names::dns_subdomain(host));
        }
    }
    errors.name_at(spec, path, "priorityClassName", names::dns_subdomain);
    errors.name_at(spec, path, "runtimeClassName", names::dns_subdomain);
}

/// The longest host name that Linux takes.
const HOSTNAME_MAX: usize = 64;

/// `hostnameOverride` is the whole host name: nothing else may make one.
fn host_name(spec: &Value, path: &Path, errors: &mut Errors) {
    let name = spec.text("hostnameOverride");
    if name.is_empty() {
        return;
    }
    let at = path.of("hostnameOverride");
    errors.all(&at, name, names::dns_subdomain(name));
    if name.len() > HOSTNAME_MAX {
        errors.too_long(&at, HOSTNAME_MAX);
    }
    if spec.flag("setHostnameAsFQDN") {
        errors.forbidden(
            &path.of("setHostnameAsFQDN"),
            "setHostnameAsFQDN must not be true when hostnameOverride is set",
        );
    }
    if spec.flag("hostNetwork") {
        errors.forbidden(&at, "hostNetwork must not be true when hostnameOverride is set");
    }
}

/// On the host's network a host port is the container's own; templates may leave it out.
fn host_network(spec: &Value, of: Of, path: &Path, errors: &mut Errors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    let list = path.of("containers");
    for (i, container) in spec.items("containers").iter().enumerate() {
        let item = list.at(i);
        let ports = item.of("ports");
        for (j, port) in container.items("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or(0);
            let checked = matches!(of, Of::Pod(_)) || host != 0;
            if checked && host != port.int("containerPort").unwrap_or(0) {
                errors.invalid(
                    &ports.at(j).of("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

/// Checks the claims of devices and answers their names.
fn resource_claims<'a>(spec: &'a Value, list: &Path, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.items("resourceClaims").iter().enumerate() {
        let path = list.at(i);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&path.of("name"), name);
        } else {
            errors.all(&path.of("name"), name, names::dns_label(name));
        }
        match (claim.has("resourceClaimName"), claim.has("resourceClaimTemplateName")) {
            (true, true) => errors.invalid(
                &path,
                claim.clone(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => errors.invalid(
                &path,
                claim.clone(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {}
        }
        for key in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(name) = claim.get(key).and_then(Value::as_str) {
                errors.all(&path.of(key), name, names::dns_subdomain(name));
            }
        }
    }
    seen
}

fn overhead(spec: &Value, path: &Path, errors: &mut Errors) {
    if let Some(overhead) = spec.get("overhead").filter(|o| o.is_object()) {
        let as_limits = serde_json::json!({"limits": overhead});
        resources::requirements(&as_limits, resources::Of::Container, &BTreeSet::new(), path, errors);
    }
}

/// Resources of the whole pod: they bound what its containers ask for together, and
/// each container's limit.
fn pod_resources(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(own) = spec.get("resources").filter(|r| r.is_object()) else {
        return;
    };
    if !own.items("claims").is_empty() {
        errors.forbidden(&path.of("claims"), "claims cannot be set for Resources at pod-level");
    }
    resources::requirements(own, resources::Of::Pod, &BTreeSet::new(), path, errors);
    if own.map("requests").is_none() && own.map("limits").is_none() {
        return;
    }
    let requests = path.of("requests");
    for (name, together) in aggregate_requests(spec) {
        let pod = own.at("requests").get(name);
        let asked = pod.and_then(quantity::parse).unwrap_or(Quantity::ZERO);
        if together > asked {
            let text = format!("must be greater than or equal to aggregate container requests of {together}");
            errors.invalid(&requests.key(name), asked.to_string(), &text);
        }
    }
    let list = path.of("containers");
    for (i, container) in spec.items("containers").iter().enumerate() {
        for (name, limit) in container.map("resources.limits").into_iter().flatten() {
            let most = own.at("limits").get(name);
            if let (Some(limit_n), Some(most_n)) = (quantity::parse(limit), most.and_then(quantity::parse))
                && limit_n > most_n
            {
                let item = list.at(i);
                let at = item.key(name);
                let text = format!("must be less than or equal to pod limits of {most_n}");
                errors.invalid(&at.of("limits"), limit.clone(), &text);
            }
        }
    }
}

/// What the containers of a pod request together: all that run beside each other, or
/// the one init container that wants more, with the sidecars before it.
pub(super) fn aggregate_requests(spec: &Value) -> BTreeMap<&str, Quantity> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for container in spec.items(list) {
            names.extend(
                container
                    .map("resources.requests")
                    .into_iter()
                    .flatten()
                    .map(|(k, _)| k.as_str()),
            );
        }
    }
    let of = |container: &Value, name: &str| {
        container
            .at("resources.requests")
            .get(name)
            .and_then(quantity::parse)
            .unwrap_or(Quantity::ZERO)
    };
    let mut all = BTreeMap::new();
    for name in names {
        let mut together = Quantity::ZERO;
        for container in spec.items("containers") {
            together = together + of(container, name);
        }
        let (mut sidecars, mut most) = (Quantity::ZERO, Quantity::ZERO);
        for container in spec.items("initContainers") {
            let own = of(container, name);
            if container::is_sidecar(container) {
                together = together + own;
                sidecars = sidecars + own;
                most = most.max(sidecars);
            } else {
                most = most.max(sidecars + own);
            }
        }
        all.insert(name, together.max(most));
    }
    all
}
