//! Endpoint slices.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, each, set_default, set_text};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("AddressType", "IPv4, IPv6 or FQDN."),
    text("Ports", "Ports of all endpoints."),
    text("Endpoints", "Addresses of the endpoints."),
    AGE,
];

const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;

pub(super) static STRATEGY: Rules = Rules {
    generation: true,
    default: |o| {
        for port in each(o, "ports") {
            set_default(port, "name", "");
            set_text(port, "protocol", "TCP");
        }
    },
    validate: |o| gather(|errors| validate(o, errors)),
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "addressType")),
    row: |o, now| {
        let ports = o.items("ports").iter().map(|p| match (p.int("port"), p.text("name")) {
            (Some(port), _) => port.to_string(),
            (None, "") => "*".to_string(),
            (None, name) => name.to_string(),
        });
        let addresses = o
            .items("endpoints")
            .iter()
            .flat_map(|e| e.items("addresses"))
            .filter_map(Value::as_str);
        vec![
            cell::name(o),
            cell::text(o, "addressType"),
            few(ports.collect(), "<unset>"),
            few(addresses.map(str::to_string).collect(), "<unset>"),
            cell::age(o, now),
        ]
    },
    fields: |_| Vec::new(),
    ..Rules::BASE
};

/// At most three; the rest is counted.
fn few(list: Vec<String>, none: &str) -> Value {
    match list.len() {
        0 => none.into(),
        n if n > 3 => format!("{} + {} more...", list[..3].join(","), n - 3).into(),
        _ => list.join(",").into(),
    }
}

fn validate(o: &Value, errors: &mut Errors) {
    let kind = o.text("addressType");
    if kind.is_empty() {
        errors.required(&Path::new("addressType"), "");
    } else if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
        errors.not_supported(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
    }
    let list = Path::new("endpoints");
    let endpoints = o.items("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.0.push(skiff_api::FieldError::too_many(
            "endpoints",
            endpoints.len(),
            ENDPOINTS_MAX,
        ));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = list.at(i);
        let at = path.of("addresses");
        let addresses = endpoint.items("addresses");
        if addresses.is_empty() {
            errors.required(&at, "must contain at least 1 address");
        }
        for (j, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or("");
            let ip = text.parse::<std::net::IpAddr>().ok();
            match kind {
                "IPv4" if !ip.is_some_and(|ip| ip.is_ipv4()) => {
                    errors.invalid(&at.at(j), text, "must be an IPv4 address")
                }
                "IPv6" if !ip.is_some_and(|ip| ip.is_ipv6()) => {
                    errors.invalid(&at.at(j), text, "must be an IPv6 address")
                }
                "FQDN" => errors.all(&at.at(j), text, names::dns_subdomain(text)),
                _ => {}
            }
        }
    }
    let ports = o.items("ports");
    if ports.len() > PORTS_MAX {
        errors
            .0
            .push(skiff_api::FieldError::too_many("ports", ports.len(), PORTS_MAX));
        return;
    }
    let list = Path::new("ports");
    let mut seen = std::collections::BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = list.at(i);
        let name = port.text("name");
        if !seen.insert(name) {
            errors.duplicate(&path.of("name"), name);
        }
        if !name.is_empty() {
            errors.all(&path.of("name"), name, names::dns_label(name));
        }
        errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
    }
}
