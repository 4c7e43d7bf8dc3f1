//! Services. Addresses and node ports are allocated by the server after these
//! defaults; here is only what follows from the object itself.

mod update;
mod validate;

use crate::contract::Column;
use crate::names;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::{NameRule, Rules, copy};
use crate::selector;
use crate::tree::{Tree, each, existing, object, set_default, set_int, set_text};
use jiff::Timestamp;
use serde_json::{Value, json};
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
    prepare_update: update::prepare,
    validate: validate::check,
    validate_update: update::validate,
    warnings,
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
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let client = object(spec, "sessionAffinityConfig").and_then(|c| object(c, "clientIP"));
            if let Some(client) = client {
                set_default(client, "timeoutSeconds", 10800);
            }
        }
        "None" => copy(spec, &Value::Null, "sessionAffinityConfig"),
        _ => {}
    }
    for port in each(spec, "ports") {
        set_text(port, "protocol", "TCP");
        let number = port.int("port").unwrap_or(0);
        if port.at("targetPort") == "" {
            copy(port, &Value::Null, "targetPort");
        }
        if number != 0 && port.text("targetPort").is_empty() {
            set_int(port, "targetPort", number);
        }
    }
    if reached_from_outside(spec) {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    let balanced = spec.text("type") == "LoadBalancer";
    if balanced {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if spec.text("type") != "ExternalName" {
        set_text(spec, "internalTrafficPolicy", "Cluster");
        addresses(spec);
    }
    if balanced && let Some(balancer) = existing(o, "status").and_then(|s| existing(s, "loadBalancer")) {
        each(balancer, "ingress")
            .filter(|i| !i.text("ip").is_empty())
            .for_each(|i| set_text(i, "ipMode", "VIP"));
    }
}

/// Whether traffic from outside the cluster can come in.
fn reached_from_outside(spec: &Value) -> bool {
    match spec.text("type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.items("externalIPs").is_empty(),
        _ => false,
    }
}

fn is_headless(spec: &Value) -> bool {
    match spec.items("clusterIPs") {
        [only] => only == "None",
        [] => spec.text("clusterIP") == "None",
        _ => false,
    }
}

/// Balancers that keep the client's address ask each node whether it has a pod.
fn is_health_checked(spec: &Value) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
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

fn cluster_ip(o: &Value) -> Value {
    match o.items("spec.clusterIPs").first() {
        Some(first) => first.clone(),
        None => cell::text_or(o, "spec.clusterIP", "<none>"),
    }
}

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY: &str = "service.kubernetes.io/topology-mode";

fn warnings(o: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let spec = o.at("spec");
    if o.at("metadata.annotations").get(HINTS).is_some() {
        out.push(format!(
            "annotation {HINTS} is deprecated, please use {TOPOLOGY} instead"
        ));
    }
    for list in ["clusterIPs", "externalIPs"] {
        for (i, ip) in spec.items(list).iter().filter_map(Value::as_str).enumerate() {
            out.extend(names::ip_warning(&format!("spec.{list}[{i}]"), ip));
        }
    }
    out.extend(names::ip_warning("spec.loadBalancerIP", spec.text("loadBalancerIP")));
    if is_headless(spec) {
        let ignored = [
            ("loadBalancerIP", !spec.text("loadBalancerIP").is_empty()),
            ("externalIPs", !spec.items("externalIPs").is_empty()),
            ("SessionAffinity", spec.text("sessionAffinity") == "ClientIP"),
        ];
        for (key, _) in ignored.iter().filter(|(_, set)| *set) {
            out.push(format!("spec.{key} is ignored for headless services"));
        }
    }
    let external = spec.text("type") == "ExternalName";
    if external && !spec.items("externalIPs").is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external && !spec.text("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    out
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
        cluster_ip(o),
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
