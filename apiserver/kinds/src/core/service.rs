//! Services. Addresses and node ports are allocated by the server after these
//! defaults; here is only what follows from the object itself.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{container::port_or_name, gather};
use crate::names;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::{NameRule, Rules, copy};
use crate::selector;
use crate::tree::{Tree, each, object, set_default, set_int, set_text};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;
use std::collections::BTreeSet;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Type", "How the service is reached."),
    text("Cluster-IP", "Address inside the cluster."),
    text("External-IP", "Addresses outside the cluster."),
    text("Port(s)", "Ports, with the node's port behind the colon."),
    AGE,
    wide("Selector", "Which pods it leads to."),
];

pub(super) static STRATEGY: Rules = Rules {
    name: NameRule::Service,
    default,
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({"loadBalancer": {}});
        }
    },
    prepare_update,
    validate,
    validate_update,
    row,
    fields: |o| {
        vec![
            ("spec.clusterIP", o.text("spec.clusterIP").into()),
            ("spec.type", o.text("spec.type").into()),
        ]
    },
    field_names: &["spec.clusterIP", "spec.type"],
    ..Rules::STATUS
};

fn default(o: &mut Value) {
    let Some(spec) = object(o, "spec") else { return };
    set_text(spec, "sessionAffinity", "None");
    set_text(spec, "type", "ClusterIP");
    if spec.text("sessionAffinity") == "ClientIP" {
        let client = object(spec, "sessionAffinityConfig").and_then(|c| object(c, "clientIP"));
        if let Some(client) = client {
            set_default(client, "timeoutSeconds", 10800);
        }
    }
    for port in each(spec, "ports") {
        set_text(port, "protocol", "TCP");
        let number = port.int("port").unwrap_or(0);
        if number != 0 && port.text("targetPort").is_empty() {
            set_int(port, "targetPort", number);
        }
    }
    match spec.text("type") {
        "NodePort" => set_text(spec, "externalTrafficPolicy", "Cluster"),
        "LoadBalancer" => {
            set_text(spec, "externalTrafficPolicy", "Cluster");
            set_default(spec, "allocateLoadBalancerNodePorts", true);
        }
        _ => {}
    }
    if spec.text("type") != "ExternalName" {
        set_text(spec, "internalTrafficPolicy", "Cluster");
        addresses(spec);
    }
}

/// `clusterIP` mirrors the first of `clusterIPs`; families follow addresses.
fn addresses(spec: &mut Value) {
    let first = spec
        .items("clusterIPs")
        .first()
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_string();
    if !first.is_empty() {
        set_text(spec, "clusterIP", &first);
    } else if !spec.text("clusterIP").is_empty() {
        spec["clusterIPs"] = json!([spec.text("clusterIP")]);
    }
    let headless = spec.text("clusterIP") == "None";
    let selecting = spec.map("selector").is_some_and(|s| !s.is_empty());
    if headless && !selecting {
        // Whoever fills in the endpoints decides: both families are fine.
        set_text(spec, "ipFamilyPolicy", "RequireDualStack");
    }
    set_text(spec, "ipFamilyPolicy", "SingleStack");
    if spec.items("ipFamilies").is_empty() {
        let mut families: Vec<&str> = Vec::new();
        for ip in spec
            .items("clusterIPs")
            .iter()
            .filter_map(Value::as_str)
            .filter(|ip| names::is_ip(ip))
        {
            families.push(if ip.contains(':') { "IPv6" } else { "IPv4" });
        }
        if families.is_empty() {
            families.push("IPv4");
        }
        if headless && !selecting && families.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" });
        }
        spec["ipFamilies"] = families.into();
    }
}

/// What was allocated stays where the update does not speak of it.
fn prepare_update(sub: &str, new: &mut Value, old: &Value) {
    if !sub.is_empty() {
        return;
    }
    let (was, is) = (old.text("spec.type").to_string(), new.text("spec.type").to_string());
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else {
        return;
    };
    if is == "ExternalName" {
        if was != "ExternalName" {
            for key in [
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
            ] {
                copy(spec, &Value::Null, key);
            }
        }
        return;
    }
    if was == "ExternalName" {
        return;
    }
    if spec.text("clusterIP").is_empty() && spec.items("clusterIPs").is_empty() {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            copy(spec, old.at("spec"), key);
        }
    }
    if was == "LoadBalancer" && is != was {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            copy(spec, &Value::Null, key);
        }
    }
    let exposes = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if exposes(&is) && exposes(&was) {
        let before = old.items("spec.ports");
        for port in each(spec, "ports") {
            let twin = before.iter().find(|p| {
                p.at("port") == port.at("port")
                    && p.text("protocol") == port.text("protocol")
                    && p.text("name") == port.text("name")
            });
            if let Some(number) = twin.and_then(|p| p.int("nodePort")) {
                set_int(port, "nodePort", number);
            }
        }
        if let Some(check) = old.int("spec.healthCheckNodePort")
            && spec.text("externalTrafficPolicy") == "Local"
        {
            set_int(spec, "healthCheckNodePort", check);
        }
    } else if exposes(&was) {
        // Going back to ClusterIP gives the node ports back.
        let before = old.items("spec.ports");
        for port in each(spec, "ports") {
            if before
                .iter()
                .any(|p| p.has("nodePort") && p.at("nodePort") == port.at("nodePort"))
            {
                copy(port, &Value::Null, "nodePort");
            }
        }
        copy(spec, &Value::Null, "externalTrafficPolicy");
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        let kind = spec.text("type");
        errors.choice(
            spec,
            &path,
            "type",
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        );
        errors.choice(spec, &path, "sessionAffinity", &["ClientIP", "None"]);
        let headless = spec.text("clusterIP") == "None";
        match kind {
            "ExternalName" => {
                let name = spec.text("externalName");
                if name.is_empty() {
                    errors.required(&path.of("externalName"), "");
                } else {
                    errors.all(
                        &path.of("externalName"),
                        name,
                        names::dns_subdomain(name.trim_end_matches('.')),
                    );
                }
                if !spec.text("clusterIP").is_empty() {
                    errors.forbidden(&path.of("clusterIPs"), "may not be set when `type` is 'ExternalName'");
                }
            }
            "NodePort" | "LoadBalancer" if headless => {
                errors.invalid(
                    &path.of("clusterIPs").at(0),
                    "None",
                    &format!("may not be set to 'None' for {kind} services"),
                );
            }
            _ => {}
        }
        if spec.items("ports").is_empty() && !headless && kind != "ExternalName" {
            errors.required(&path.of("ports"), "");
        }
        ports(spec, kind, &path.of("ports"), errors);
        crate::meta::labels(spec.at("selector"), &path.of("selector"), errors);
        for (i, ip) in spec.items("clusterIPs").iter().enumerate() {
            let ip = ip.as_str().unwrap_or("");
            if ip != "None" && !names::is_ip(ip) {
                errors.invalid(&path.of("clusterIPs").at(i), ip, names::NOT_AN_IP);
            }
        }
        for (i, ip) in spec.items("externalIPs").iter().enumerate() {
            let ip = ip.as_str().unwrap_or("");
            if !names::is_ip(ip) {
                errors.invalid(&path.of("externalIPs").at(i), ip, names::NOT_AN_IP);
            }
        }
        for (i, range) in spec.items("loadBalancerSourceRanges").iter().enumerate() {
            let range = range.as_str().unwrap_or("").trim();
            if kind != "LoadBalancer" {
                errors.forbidden(
                    &path.of("LoadBalancerSourceRanges"),
                    "may only be used when `type` is 'LoadBalancer'",
                );
            } else if !names::is_cidr(range) {
                errors.invalid(&path.of("LoadBalancerSourceRanges").at(i), range, names::NOT_A_CIDR);
            }
        }
        policies(spec, kind, &path, errors);
    })
}

fn policies(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let exposes = matches!(kind, "NodePort" | "LoadBalancer");
    if exposes {
        errors.choice(spec, path, "externalTrafficPolicy", &["Cluster", "Local"]);
    } else if !spec.text("externalTrafficPolicy").is_empty() && spec.items("externalIPs").is_empty() {
        let text = "may only be set for externally-accessible services";
        errors.invalid(
            &path.of("externalTrafficPolicy"),
            spec.text("externalTrafficPolicy"),
            text,
        );
    }
    if kind != "LoadBalancer" && spec.has("allocateLoadBalancerNodePorts") {
        errors.forbidden(
            &path.of("allocateLoadBalancerNodePorts"),
            "may only be used when `type` is 'LoadBalancer'",
        );
    }
    errors.optional_choice(spec, path, "internalTrafficPolicy", &["Cluster", "Local"]);
    errors.optional_choice(
        spec,
        path,
        "ipFamilyPolicy",
        &["SingleStack", "PreferDualStack", "RequireDualStack"],
    );
    errors.optional_choice(
        spec,
        path,
        "trafficDistribution",
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
    for (i, family) in spec.items("ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or("");
        if !matches!(family, "IPv4" | "IPv6") {
            errors.not_supported(&path.of("ipFamilies").at(i), family, &["IPv4", "IPv6"]);
        }
    }
    if let Some(seconds) = spec.int("sessionAffinityConfig.clientIP.timeoutSeconds")
        && !(1..=86400).contains(&seconds)
    {
        let at = path
            .of("sessionAffinityConfig")
            .of("clientIP")
            .of("timeoutSeconds")
            .to_string();
        errors.0.push(FieldError::invalid(
            at,
            &seconds.into(),
            "must be greater than 0 and less than 86400",
        ));
    }
}

fn ports(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let ports = spec.items("ports");
    let mut names_seen = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.at(i);
        let name = port.text("name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&path.of("name"), "");
            }
        } else {
            errors.all(&path.of("name"), name, names::dns_label(name));
            if !names_seen.insert(name) {
                errors.duplicate(&path.of("name"), name);
            }
        }
        errors.port(&path.of("port"), port.int("port").unwrap_or(0));
        errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
        if spec.text("clusterIP") != "None" || port.has("targetPort") {
            port_or_name(port.at("targetPort"), &path.of("targetPort"), errors);
        }
        if !numbers.insert((port.text("protocol"), port.int("port"))) {
            let shown = json!({"port": port.at("port"), "protocol": port.at("protocol"), "targetPort": 0});
            errors.duplicate(&path, shown);
        }
        let node = port.int("nodePort").unwrap_or(0);
        if node != 0 {
            if !matches!(kind, "NodePort" | "LoadBalancer") {
                errors.forbidden(
                    &path.of("nodePort"),
                    &format!("may not be used when `type` is '{kind}'"),
                );
            } else if !node_ports.insert((port.text("protocol"), node)) {
                errors.duplicate(&path.of("nodePort"), node);
            }
        }
    }
}

fn validate_update(sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| {
        if !sub.is_empty() || old.text("spec.type") == "ExternalName" || new.text("spec.type") == "ExternalName" {
            return;
        }
        let before = old.text("spec.clusterIP");
        if !before.is_empty() && new.text("spec.clusterIP") != before {
            let at = Path::new("spec.clusterIPs");
            errors.invalid(&at.at(0), new.at("spec.clusterIPs").clone(), "may not change once set");
        }
        if new.at("spec.ipFamilies").get(0) != old.at("spec.ipFamilies").get(0)
            && !old.items("spec.ipFamilies").is_empty()
        {
            let at = Path::new("spec.ipFamilies");
            errors.invalid(&at.at(0), new.at("spec.ipFamilies").clone(), "may not change once set");
        }
    })
}

/// Addresses of a load balancer status, sorted.
pub(crate) fn balancer(status: &Value) -> Vec<String> {
    let ingress = status.items("loadBalancer.ingress");
    let shown = ingress.iter().map(|i| {
        if i.text("ip").is_empty() {
            i.text("hostname")
        } else {
            i.text("ip")
        }
    });
    shown
        .filter(|t| !t.is_empty())
        .map(str::to_string)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn external(o: &Value) -> String {
    let own = o
        .items("spec.externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_string);
    match o.text("spec.type") {
        "ExternalName" => o.text("spec.externalName").to_string(),
        "LoadBalancer" => {
            let all: Vec<String> = balancer(o.at("status")).into_iter().chain(own).collect();
            if all.is_empty() {
                "<pending>".to_string()
            } else {
                all.join(",")
            }
        }
        "ClusterIP" | "NodePort" => {
            let all: Vec<String> = own.collect();
            if all.is_empty() {
                "<none>".to_string()
            } else {
                all.join(",")
            }
        }
        _ => "<unknown>".to_string(),
    }
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let ports = o.items("spec.ports").iter().map(|p| {
        let (port, protocol) = (p.int("port").unwrap_or(0), p.text("protocol"));
        match p.int("nodePort").filter(|n| *n > 0) {
            Some(node) => format!("{port}:{node}/{protocol}"),
            None => format!("{port}/{protocol}"),
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    vec![
        cell::name(o),
        cell::text(o, "spec.type"),
        cell::text_or(o, "spec.clusterIP", "<none>"),
        external(o).into(),
        if ports.is_empty() {
            "<none>".into()
        } else {
            ports.into()
        },
        cell::age(o, now),
        selector::labels_text(o.at("spec.selector")).into(),
    ]
}
