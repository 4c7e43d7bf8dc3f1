//! Ingresses.

use super::address;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::core::service;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::{Value, json};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Class", "Ingress class."),
    text("Hosts", "Hosts of its rules."),
    text("Address", "Where it is reached."),
    text("Ports", "Ports it opens."),
    AGE,
];

/// What named the class before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) static STRATEGY: Rules = Rules {
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({"loadBalancer": {}});
        }
    },
    validate: |o| gather(|errors| validate(o.at("spec"), &Path::new("spec"), errors)),
    validate_create: |o| {
        gather(|errors| {
            let class = o.at("spec.ingressClassName").as_str();
            if let (Some(old), Some(class)) = (old_class(o), class)
                && old != class
            {
                let path = Path::new("annotations");
                let text = "must match `ingressClassName` when both are specified";
                errors.invalid(&path.of(CLASS_ANNOTATION), old, text);
            }
        })
    },
    validate_update: |sub, new, old| {
        gather(|errors| {
            if sub == "status" {
                status(new.items("status.loadBalancer.ingress"), old, errors);
            }
        })
    },
    warnings: |o| {
        let text = format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead");
        old_class(o).map(|_| text).into_iter().collect()
    },
    row: |o, now| {
        let address = service::balancer(o.at("status")).join(",");
        let secure = !o.items("spec.tls").is_empty();
        vec![
            cell::name(o),
            cell::text_or(o, "spec.ingressClassName", old_class(o).unwrap_or("<none>")),
            hosts(o).into(),
            address.into(),
            if secure { "80, 443" } else { "80" }.into(),
            cell::age(o, now),
        ]
    },
    ..Rules::SPLIT
};

fn old_class(o: &Value) -> Option<&str> {
    o.at("metadata.annotations")
        .get(CLASS_ANNOTATION)
        .and_then(Value::as_str)
}

fn hosts(o: &Value) -> String {
    let rules = o.items("spec.rules");
    let named: Vec<&str> = rules
        .iter()
        .map(|r| r.text("host"))
        .take(3)
        .filter(|h| !h.is_empty())
        .collect();
    match (named.is_empty(), rules.len() > 3) {
        (true, _) => "*".to_string(),
        (false, true) => format!("{} + {} more...", named.join(","), rules.len() - 3),
        (false, false) => named.join(","),
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec.items("rules").is_empty() && !spec.has("defaultBackend") {
        errors.invalid(
            path,
            spec.items("rules").to_vec(),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), &path.of("defaultBackend"), errors);
    }
    let rules = path.of("rules");
    for (i, rule) in spec.items("rules").iter().enumerate() {
        let path = rules.at(i);
        let host = rule.text("host");
        if address::is_any_ip(host) {
            errors.invalid(&path.of("host"), host, NOT_AN_ADDRESS);
        }
        if !host.is_empty() {
            host_name(host, &path.of("host"), errors);
        }
        paths(rule, &path.of("http"), errors);
    }
    let tls = path.of("tls");
    for (i, entry) in spec.items("tls").iter().enumerate() {
        let path = tls.at(i);
        let hosts = path.of("hosts");
        for (j, host) in entry.items("hosts").iter().enumerate() {
            host_name(host.as_str().unwrap_or(""), &hosts.at(j), errors);
        }
        errors.name_at(entry, &path, "secretName", names::dns_subdomain);
    }
    if let Some(class) = spec.at("ingressClassName").as_str() {
        errors.all(&path.of("ingressClassName"), class, names::dns_subdomain(class));
    }
}

const NOT_AN_ADDRESS: &str = "must be a DNS name, not an IP address";

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    let faults = if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns_subdomain(host)
    };
    errors.all(path, host, faults);
}

fn paths(rule: &Value, http: &Path, errors: &mut Errors) {
    let list = http.of("paths");
    if rule.has("http") && rule.items("http.paths").is_empty() {
        errors.required(&list, "");
    }
    for (j, entry) in rule.items("http.paths").iter().enumerate() {
        let path = list.at(j);
        let at = path.of("path");
        let text = entry.text("path");
        match entry.at("pathType").as_str() {
            None => {
                errors.required(&path.of("pathType"), "pathType must be specified");
                continue;
            }
            Some("Exact" | "Prefix") => matched_path(text, &at, errors),
            Some("ImplementationSpecific") => {
                if !text.is_empty() && !text.starts_with('/') {
                    errors.invalid(&at, text, "must be an absolute path");
                }
            }
            Some(other) => {
                let known = ["Exact", "ImplementationSpecific", "Prefix"];
                errors.not_supported(&path.of("pathType"), other, &known);
            }
        }
        backend(entry.at("backend"), &path.of("backend"), errors);
    }
}

/// A path that is compared as it is, so it may not be one that clients rewrite.
fn matched_path(text: &str, path: &Path, errors: &mut Errors) {
    if !text.starts_with('/') {
        errors.invalid(path, text, "must be an absolute path");
    }
    for inner in ["//", "/./", "/../", "%2f", "%2F"] {
        if text.contains(inner) {
            errors.invalid(path, text, &format!("must not contain '{inner}'"));
        }
    }
    for end in ["/..", "/."] {
        if text.ends_with(end) {
            errors.invalid(path, text, &format!("cannot end with '{end}'"));
        }
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    match (backend.has("service"), backend.has("resource")) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
        (false, true) => super::typed_reference(backend.at("resource"), &path.of("resource"), errors),
        (true, false) => {
            let at = path.of("service");
            errors.text_required(backend.at("service"), &at, "name");
            errors.name_at(backend.at("service"), &at, "name", names::dns_label);
            let port = backend.at("service.port");
            let below = at.of("port");
            match (port.text("name"), port.int("number").unwrap_or(0)) {
                ("", 0) => errors.required(path, "port name or number is required"),
                ("", number) => errors.port(&below.of("number"), number),
                (name, 0) => errors.all(&below.of("name"), name, names::port_name(name)),
                _ => errors.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

/// What a controller reports; addresses that were there before are let be.
fn status(ingress: &[Value], old: &Value, errors: &mut Errors) {
    let list = Path::new("status.loadBalancer.ingress");
    for (i, entry) in ingress.iter().enumerate() {
        let path = list.at(i);
        let (ip, host) = (entry.text("ip"), entry.text("hostname"));
        let known = old
            .items("status.loadBalancer.ingress")
            .iter()
            .any(|o| o.text("ip") == ip);
        if !ip.is_empty() && !known {
            address::ip(&path.of("ip"), ip, errors);
        }
        if !host.is_empty() {
            errors.all(&path.of("hostname"), host, names::dns_subdomain(host));
            if address::is_any_ip(host) {
                errors.invalid(&path.of("hostname"), host, NOT_AN_ADDRESS);
            }
        }
    }
}
