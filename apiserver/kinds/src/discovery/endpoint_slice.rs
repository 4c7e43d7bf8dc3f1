//! Endpoint slices.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::networking::address;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, desired_state_changed};
use crate::tree::{Tree, each, set_default, set_text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("AddressType", "IPv4, IPv6 or FQDN."),
    text("Ports", "Ports of all endpoints."),
    text("Endpoints", "Addresses of the endpoints."),
    AGE,
];

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

pub(super) static STRATEGY: Rules = Rules {
    generation: true,
    // Labels say which service the slice is of, so they count.
    bumps: |new, old| {
        let labels = |o: &Value| o.at("metadata.labels").clone();
        desired_state_changed(new, old) || !same(&labels(new), &labels(old))
    },
    default: |o| {
        for port in each(o, "ports") {
            set_default(port, "name", "");
            set_text(port, "protocol", "TCP");
        }
    },
    prepare_create: without_topology,
    prepare_update: |_, new, _| without_topology(new),
    validate: |o| gather(|errors| validate(o, errors)),
    validate_create: |o| gather(|errors| addresses(o, &BTreeSet::new(), errors)),
    validate_update: |_, new, old| {
        gather(|errors| {
            addresses(new, &all(old), errors);
            errors.immutable(new, old, "addressType");
        })
    },
    warnings: |o| match o.text("addressType") {
        "FQDN" => vec!["addressType: FQDN endpoints are deprecated".into()],
        _ => Vec::new(),
    },
    row: |o, now| {
        let ports = o.items("ports").iter().map(|p| match (p.int("port"), p.text("name")) {
            (Some(port), _) => port.to_string(),
            (None, "") => "*".to_string(),
            (None, name) => name.to_string(),
        });
        let shown = o.items("endpoints").iter().flat_map(|e| e.items("addresses"));
        let shown = shown.filter_map(Value::as_str).map(str::to_string);
        vec![
            cell::name(o),
            cell::text(o, "addressType"),
            few(ports.collect(), "<unset>"),
            few(shown.collect(), "<unset>"),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

/// Version 1 has zones and node names in place of the topology.
fn without_topology(o: &mut Value) {
    for endpoint in each(o, "endpoints").filter_map(Value::as_object_mut) {
        endpoint.remove("deprecatedTopology");
    }
}

/// Every address of a slice.
fn all(o: &Value) -> BTreeSet<&str> {
    let addresses = o.items("endpoints").iter().flat_map(|e| e.items("addresses"));
    addresses.filter_map(Value::as_str).collect()
}

/// At most three; the rest is counted.
fn few(list: Vec<String>, none: &str) -> Value {
    match list.len() {
        0 => none.into(),
        n if n > 3 => format!("{} + {} more...", list[..3].join(","), n - 3).into(),
        _ => list.join(",").into(),
    }
}

fn validate(o: &Value, errors: &mut Errors) {
    let at = Path::new("addressType");
    match o.text("addressType") {
        "" => errors.required(&at, ""),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.not_supported(&at, other, &["FQDN", "IPv4", "IPv6"]),
    }
    let list = Path::new("endpoints");
    let endpoints = o.items("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&list, endpoints.len(), ENDPOINTS_MAX);
    } else {
        for (i, endpoint) in endpoints.iter().enumerate() {
            self::endpoint(endpoint, &list.at(i), errors);
        }
    }
    ports(o.items("ports"), errors);
}

fn endpoint(endpoint: &Value, path: &Path, errors: &mut Errors) {
    let addresses = endpoint.items("addresses").len();
    if addresses == 0 {
        errors.required(&path.of("addresses"), "must contain at least 1 address");
    } else if addresses > ADDRESSES_MAX {
        errors.too_many(&path.of("addresses"), addresses, ADDRESSES_MAX);
    }
    if let Some(node) = endpoint.at("nodeName").as_str() {
        errors.all(&path.of("nodeName"), node, names::dns_subdomain(node));
    }
    if let Some(host) = endpoint.at("hostname").as_str() {
        errors.all(&path.of("hostname"), host, names::dns_label(host));
    }
    let path = path.of("hints");
    for (key, rule) in [
        ("forZones", names::label_value as fn(&str) -> Vec<String>),
        ("forNodes", names::dns_subdomain),
    ] {
        let hints = endpoint.at("hints").items(key);
        let list = path.of(key);
        if hints.len() > HINTS_MAX {
            errors.too_many(&list, hints.len(), HINTS_MAX);
            continue;
        }
        let mut seen = BTreeSet::new();
        for (i, hint) in hints.iter().enumerate() {
            let (name, path) = (hint.text("name"), list.at(i));
            if !seen.insert(name) {
                errors.duplicate(&path.of("name"), name);
            }
            errors.all(&path.of("name"), name, rule(name));
        }
    }
}

/// Addresses that were there before are let be.
fn addresses(o: &Value, known: &BTreeSet<&str>, errors: &mut Errors) {
    let kind = o.text("addressType");
    let list = Path::new("endpoints");
    for (i, endpoint) in o.items("endpoints").iter().enumerate().take(ENDPOINTS_MAX) {
        let path = list.at(i);
        let at = path.of("addresses");
        for (j, address) in endpoint.items("addresses").iter().enumerate() {
            let text = address.as_str().unwrap_or("");
            match kind {
                "IPv4" => of_family(text, true, known, &at.at(j), errors),
                "IPv6" => of_family(text, false, known, &at.at(j), errors),
                "FQDN" => host(text, &at.at(j), errors),
                _ => {}
            }
        }
    }
}

fn of_family(text: &str, v4: bool, known: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    if !known.contains(text) {
        address::ip(path, text, errors);
    }
    if errors.0.len() > before {
        return;
    }
    if !text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == v4) {
        errors.invalid(
            path,
            text,
            if v4 {
                "must be an IPv4 address"
            } else {
                "must be an IPv6 address"
            },
        );
    }
    errors.all(path, text, names::non_special_ip(text));
}

fn host(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let faults = names::dns_subdomain(name);
    if !faults.is_empty() {
        return errors.invalid(path, name, &faults.join(","));
    }
    if !name.contains('.') {
        errors.invalid(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for label in name.split('.') {
        let faults = names::dns_label(label);
        if !faults.is_empty() {
            errors.invalid(path, label, &faults.join(","));
        }
    }
}

fn ports(ports: &[Value], errors: &mut Errors) {
    let list = Path::new("ports");
    if ports.len() > PORTS_MAX {
        return errors.too_many(&list, ports.len(), PORTS_MAX);
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = list.at(i);
        let name = port.text("name");
        errors.name_at(port, &path, "name", names::dns_label);
        if !seen.insert(name) {
            errors.duplicate(&path.of("name"), name);
        }
        errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
        if let Some(protocol) = port.at("appProtocol").as_str() {
            errors.all(&path.of("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}
