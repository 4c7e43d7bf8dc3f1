//! Network policies.

use super::address;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::selector;
use crate::tree::{Tree, each, object, set_text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) const COLUMNS: &[Column] = &[NAME, text("Pod-Selector", "Pods it applies to."), AGE];

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(crate) static STRATEGY: Rules = Rules {
    generation: true,
    default: |o| {
        let Some(spec) = object(o, "spec") else { return };
        object(spec, "podSelector");
        for (list, _) in DIRECTIONS {
            for rule in each(spec, list) {
                each(rule, "ports").for_each(|p| set_text(p, "protocol", "TCP"));
            }
        }
        if spec.items("policyTypes").is_empty() {
            let both = !spec.items("egress").is_empty();
            spec["policyTypes"] = if both {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
        }
    },
    validate: |o| gather(|errors| spec(o.at("spec"), errors)),
    validate_create: |o| gather(|errors| blocks(o.at("spec"), &BTreeSet::new(), errors)),
    // A range that was there before is let be, wherever it is now.
    validate_update: |_, new, old| gather(|errors| blocks(new.at("spec"), &ranges(old.at("spec")), errors)),
    row: |o, now| {
        vec![
            cell::name(o),
            selector::text(o.at("spec.podSelector")).into(),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

fn spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    selector::validate(spec.at("podSelector"), &path.of("podSelector"), errors);
    for (list, peers) in DIRECTIONS {
        let at = path.of(list);
        for (i, rule) in spec.items(list).iter().enumerate() {
            let at = at.at(i);
            let ports = at.of("ports");
            for (j, port) in rule.items("ports").iter().enumerate() {
                self::port(port, &ports.at(j), errors);
            }
            let list = at.of(peers);
            for (j, peer) in rule.items(peers).iter().enumerate() {
                self::peer(peer, &list.at(j), errors);
            }
        }
    }
    let (types, at) = (spec.items("policyTypes"), path.of("policyTypes"));
    if types.len() > 2 {
        return errors.invalid(&at, types.to_vec(), "may not specify more than two policyTypes");
    }
    for (i, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or("");
        if !matches!(kind, "Ingress" | "Egress") {
            errors.not_supported(&at.at(i), kind, &["Ingress", "Egress"]);
        }
    }
}

fn port(port: &Value, path: &Path, errors: &mut Errors) {
    let protocol = port.text("protocol");
    if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        errors.not_supported(&path.of("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (at, end_at) = (path.of("port"), path.of("endPort"));
    let end = port.int("endPort");
    match (port.at("port"), end) {
        (Value::Null, None) => {}
        (Value::Null, Some(end)) => errors.invalid(&end_at, end, "may not be specified when `port` is not specified"),
        (Value::Number(n), end) => {
            let first = n.as_i64().unwrap_or(0);
            errors.port(&at, first);
            if let Some(end) = end {
                if end < first {
                    errors.invalid(&end_at, end, "must be greater than or equal to `port`");
                }
                errors.port(&end_at, end);
            }
        }
        (name, end) => {
            if let Some(end) = end {
                errors.invalid(&end_at, end, "may not be specified when `port` is non-numeric");
            }
            let name = name.as_str().unwrap_or("");
            errors.all(&at, name, names::port_name(name));
        }
    }
}

fn peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let keys = ["podSelector", "namespaceSelector", "ipBlock"];
    for key in ["podSelector", "namespaceSelector"] {
        selector::validate(peer.at(key), &path.of(key), errors);
    }
    match keys.iter().filter(|k| peer.has(k)).count() {
        0 => errors.required(path, "must specify a peer"),
        1 => {}
        _ if peer.has("ipBlock") => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

/// Every range that a policy names.
fn ranges(spec: &Value) -> BTreeSet<&str> {
    let rules = DIRECTIONS
        .iter()
        .flat_map(|(list, peers)| spec.items(list).iter().flat_map(|rule| rule.items(peers)));
    rules
        .flat_map(|peer| {
            let excepted = peer.items("ipBlock.except").iter().filter_map(Value::as_str);
            excepted.chain([peer.text("ipBlock.cidr")])
        })
        .collect()
}

fn blocks(spec: &Value, known: &BTreeSet<&str>, errors: &mut Errors) {
    let path = Path::new("spec");
    for (list, peers) in DIRECTIONS {
        let at = path.of(list);
        for (i, rule) in spec.items(list).iter().enumerate() {
            let at = at.at(i);
            let at = at.of(peers);
            for (j, peer) in rule.items(peers).iter().enumerate() {
                if peer.has("ipBlock") {
                    block(peer.at("ipBlock"), known, &at.at(j).of("ipBlock"), errors);
                }
            }
        }
    }
}

fn block(block: &Value, known: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let cidr = block.text("cidr");
    if cidr.is_empty() {
        return errors.required(&path.of("cidr"), "");
    }
    if !known.contains(cidr) {
        address::cidr(&path.of("cidr"), cidr, errors);
    }
    let Some(whole) = address::range(cidr) else { return };
    let list = path.of("except");
    for (i, except) in block.items("except").iter().enumerate() {
        let except = except.as_str().unwrap_or("");
        if !known.contains(except) {
            address::cidr(&list.at(i), except, errors);
        }
        let inside = |part: ipnet::IpNet| whole.contains(&part.addr()) && whole.prefix_len() < part.prefix_len();
        if address::range(except).is_some_and(|part| !inside(part)) {
            errors.invalid(&list.at(i), except, "must be a strict subset of `cidr`");
        }
    }
}
