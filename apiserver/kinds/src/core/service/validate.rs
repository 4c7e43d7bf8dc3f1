//! Checks of services, new and old.

use super::{HINTS, TOPOLOGY, is_headless, is_health_checked, reached_from_outside};
use crate::check::{Errors, Path};
use crate::core::pod::{container::port_or_name, gather};
use crate::names;
use crate::tree::Tree;
use serde_json::{Value, json};
use skiff_api::FieldError;
use std::collections::BTreeSet;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
/// A day.
const AFFINITY_SECONDS_MAX: i64 = 86400;

pub(super) fn check(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        topology(o, errors);
        if spec.items("ports").is_empty() && !is_headless(spec) && spec.text("type") != "ExternalName" {
            errors.required(&path.of("ports"), "");
        }
        by_type(spec, &path, errors);
        ports(spec, &path.of("ports"), errors);
        crate::meta::labels(spec.at("selector"), &path.of("selector"), errors);
        affinity(spec, &path, errors);
        if spec.text("type") != "ExternalName" {
            addresses(spec, &path, errors);
        }
        for (i, ip) in spec.items("externalIPs").iter().enumerate() {
            let (at, ip) = (path.of("externalIPs"), ip.as_str().unwrap_or(""));
            let mut faults = names::ip(ip);
            if faults.is_empty() {
                faults = names::non_special_ip(ip);
            }
            errors.all(&at.at(i), ip, faults);
        }
        errors.choice(spec, &path, "type", TYPES);
        node_ports(spec, &path.of("ports"), errors);
        source_ranges(o, errors);
        balancer(spec, &path, errors);
        policies(spec, &path, errors);
    })
}

fn topology(o: &Value, errors: &mut Errors) {
    let annotations = o.at("metadata.annotations");
    if let (Some(hints), Some(mode)) = (annotations.get(HINTS), annotations.get(TOPOLOGY))
        && hints != mode
    {
        let at = Path::new("metadata.annotations");
        let text = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&at.key(TOPOLOGY), mode.clone(), &text);
    }
}

fn by_type(spec: &Value, path: &Path, errors: &mut Errors) {
    match spec.text("type") {
        kind @ ("NodePort" | "LoadBalancer") if is_headless(spec) => {
            let text = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.of("clusterIPs").at(0), "None", &text);
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let value = spec.at(key);
                let empty = value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
                let address = key == "clusterIPs" && !spec.text("clusterIP").is_empty();
                if !empty || address {
                    errors.forbidden(&path.of(key), "may not be set for ExternalName services");
                }
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&path.of("externalName"), "");
            } else {
                errors.all(&path.of("externalName"), name, names::dns_subdomain(name));
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, list: &Path, errors: &mut Errors) {
    let ports = spec.items("ports");
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = list.at(i);
        let name = port.text("name");
        if !name.is_empty() {
            errors.all(&path.of("name"), name, names::dns_label(name));
            if !seen.insert(name) {
                errors.duplicate(&path.of("name"), name);
            }
        } else if ports.len() > 1 {
            errors.required(&path.of("name"), "");
        }
        errors.port(&path.of("port"), port.int("port").unwrap_or(0));
        errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
        port_or_name(port.at("targetPort"), &path.of("targetPort"), errors);
        if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
            errors.all(&path.of("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.choice(spec, path, "sessionAffinity", &["ClientIP", "None"]);
    let config = spec.at("sessionAffinityConfig");
    let at = path.of("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            const MISSING: &str = "when session affinity type is ClientIP";
            let client = at.of("clientIP");
            let timeout = client.of("timeoutSeconds");
            if config.is_null() {
                errors.required(&at, MISSING);
            } else if !config.has("clientIP") {
                errors.required(&client, MISSING);
            } else if let Some(seconds) = config.int("clientIP.timeoutSeconds") {
                if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) {
                    let text = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    errors.invalid(&timeout, seconds, &text);
                }
            } else {
                errors.required(&timeout, MISSING);
            }
        }
        "None" if !config.is_null() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn is_v6(ip: &str) -> bool {
    ip.contains(':')
}

/// Addresses inside the cluster, their families, and both together.
fn addresses(spec: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("clusterIPs");
    let ips: Vec<&str> = spec
        .items("clusterIPs")
        .iter()
        .map(|ip| ip.as_str().unwrap_or(""))
        .collect();
    let shown = || spec.items("clusterIPs").to_vec();
    match (spec.text("clusterIP"), ips.first()) {
        ("", Some(_)) => errors.invalid(&list, shown(), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&list, ""),
        (ip, Some(first)) if ip != *first => {
            errors.invalid(&list, shown(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let families: Vec<&str> = spec
        .items("ipFamilies")
        .iter()
        .map(|f| f.as_str().unwrap_or(""))
        .collect();
    for (i, family) in families.iter().enumerate() {
        let at = path.of("ipFamilies");
        if !matches!(*family, "IPv4" | "IPv6") {
            errors.not_supported(&at.at(i), family, &["IPv4", "IPv6"]);
        }
        if families[..i].contains(family) {
            errors.duplicate(&at.at(i), *family);
        }
    }
    errors.optional_choice(
        spec,
        path,
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    let mut wrong = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                wrong = true;
                errors.invalid(&list, shown(), "'None' must be the first and only value");
            }
            continue;
        }
        let faults = names::ip(ip);
        wrong |= !faults.is_empty();
        errors.all(&list.at(i), ip, faults);
    }
    if ips.len() > 2 {
        errors.invalid(&list, shown(), "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    if ips.len() > 1 && !names::is_dual_stack(&ips) {
        errors.invalid(&list, shown(), "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(&families).enumerate() {
        if is_v6(ip) != (*family == "IPv6") && matches!(*family, "IPv4" | "IPv6") {
            let text = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&list.at(i), *ip, &text);
        }
    }
}

fn node_ports(spec: &Value, list: &Path, errors: &mut Errors) {
    let ports = spec.items("ports");
    let number = |port: &Value| port.int("nodePort").unwrap_or(0);
    let mut taken = BTreeSet::new();
    for (i, port) in ports.iter().enumerate().filter(|(_, p)| number(p) != 0) {
        let item = list.at(i);
        let at = item.of("nodePort");
        if spec.text("type") == "ClusterIP" {
            errors.forbidden(&at, "may not be used when `type` is 'ClusterIP'");
        }
        if !taken.insert((port.text("protocol"), number(port))) {
            errors.duplicate(&at, number(port));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((port.text("protocol"), port.int("port"))) {
            // Upstream shows the key that it looks for.
            let shown = json!({"port": port.at("port"), "protocol": port.at("protocol"), "targetPort": 0});
            errors.duplicate(&list.at(i), shown);
        }
    }
}

fn cidr(text: &str, path: &Path, errors: &mut Errors) {
    errors.all(path, text, names::cidr(text));
}

/// Who may reach the balancer: by field, or by the annotation before it.
fn source_ranges(o: &Value, errors: &mut Errors) {
    let spec = o.at("spec");
    let balanced = spec.text("type") == "LoadBalancer";
    let ranges = spec.items("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = Path::new("spec.LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, ONLY_BALANCERS);
        }
        for (i, range) in ranges.iter().enumerate() {
            cidr(range.as_str().unwrap_or("").trim(), &path.at(i), errors);
        }
    } else if let Some(ranges) = o.at("metadata.annotations").get(RANGES).and_then(Value::as_str) {
        let path = Path::new("metadata.annotations");
        let path = path.key(RANGES);
        if !balanced {
            errors.forbidden(&path, ONLY_BALANCERS);
        }
        if !ranges.trim().is_empty() {
            ranges.split(',').for_each(|range| cidr(range.trim(), &path, errors));
        }
    }
}

fn balancer(spec: &Value, path: &Path, errors: &mut Errors) {
    let balanced = spec.text("type") == "LoadBalancer";
    match (balanced, spec.has("allocateLoadBalancerNodePorts")) {
        (false, true) => errors.forbidden(&path.of("allocateLoadBalancerNodePorts"), ONLY_BALANCERS),
        (true, false) => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) {
        let at = path.of("loadBalancerClass");
        if balanced {
            errors.all(&at, class, names::qualified_name(class));
        } else {
            errors.forbidden(&at, ONLY_BALANCERS);
        }
    }
}

fn policies(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = spec.text("externalTrafficPolicy");
    if reached_from_outside(spec) {
        errors.choice(spec, path, "externalTrafficPolicy", &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        errors.invalid(
            &path.of("externalTrafficPolicy"),
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let check = spec.int("healthCheckNodePort").unwrap_or(0);
    let at = path.of("healthCheckNodePort");
    // Where one is needed and not given, the server finds one.
    if !is_health_checked(spec) && check != 0 {
        errors.invalid(
            &at,
            check,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    } else if check != 0 {
        errors.port(&at, check);
    }
    errors.optional_choice(spec, path, "internalTrafficPolicy", &["Cluster", "Local"]);
    errors.optional_choice(
        spec,
        path,
        "trafficDistribution",
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

/// Where a balancer takes traffic in; ingresses say so too.
pub(crate) fn balancer_status(status: &Value, list: &Path, errors: &mut Errors) {
    for (i, ingress) in status.items("loadBalancer.ingress").iter().enumerate() {
        let path = list.at(i);
        let (ip, mode) = (ingress.text("ip"), ingress.at("ipMode").as_str());
        errors.name_at(ingress, &path, "ip", names::ip);
        let at = path.of("ipMode");
        match mode {
            None if !ip.is_empty() => errors.required(&at, "must be specified when `ip` is set"),
            None => {}
            Some(_) if ip.is_empty() => errors.forbidden(&at, "may not be specified when `ip` is not set"),
            Some("VIP" | "Proxy") => {}
            Some(other) => errors.not_supported(&at, other, &["Proxy", "VIP"]),
        }
        let host = ingress.text("hostname");
        errors.name_at(ingress, &path, "hostname", names::dns_subdomain);
        if names::is_ip(host) {
            errors.invalid(&path.of("hostname"), host, "must be a DNS name, not an IP address");
        }
    }
}
