//! Ingresses, ingress classes, network policies, IP addresses, service CIDRs.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{container::port_or_name, gather};
use crate::core::service;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules};
use crate::selector;
use crate::tree::{Tree, each, object, set_text};
use serde_json::{Value, json};

pub(super) mod ingress {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Class", "Ingress class."),
        text("Hosts", "Hosts of its rules."),
        text("Address", "Where it is reached."),
        text("Ports", "Ports it opens."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({"loadBalancer": {}});
            }
        },
        validate: |o| gather(|errors| validate(o.at("spec"), &Path::new("spec"), errors)),
        row: |o, now| {
            let address = service::balancer(o.at("status")).join(",");
            let ports = if o.items("spec.tls").is_empty() {
                "80"
            } else {
                "80, 443"
            };
            let old = o
                .at("metadata.annotations")
                .get("kubernetes.io/ingress.class")
                .and_then(Value::as_str);
            vec![
                cell::name(o),
                cell::text_or(o, "spec.ingressClassName", old.unwrap_or("<none>")),
                hosts(o).into(),
                address.into(),
                ports.into(),
                cell::age(o, now),
            ]
        },
        ..Rules::SPLIT
    };

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
            if names::is_ip(host) {
                errors.invalid(&path.of("host"), host, "must be a DNS name, not an IP address");
            } else if host.contains('*') {
                errors.all(&path.of("host"), host, names::wildcard_subdomain(host));
            } else if !host.is_empty() {
                errors.all(&path.of("host"), host, names::dns_subdomain(host));
            }
            let http = path.of("http");
            let list = http.of("paths");
            if rule.has("http") && rule.items("http.paths").is_empty() {
                errors.required(&list, "");
            }
            for (j, entry) in rule.items("http.paths").iter().enumerate() {
                let path = list.at(j);
                let (kind, text) = (entry.text("pathType"), entry.text("path"));
                match kind {
                    "" => errors.required(&path.of("pathType"), "pathType must be specified"),
                    "Exact" | "Prefix" if !text.starts_with('/') => {
                        errors.invalid(&path.of("path"), text, "must be an absolute path");
                    }
                    "Exact" | "Prefix" => {}
                    "ImplementationSpecific" => {
                        if !text.is_empty() && !text.starts_with('/') {
                            errors.invalid(&path.of("path"), text, "must be an absolute path");
                        }
                    }
                    other => errors.not_supported(
                        &path.of("pathType"),
                        other,
                        &["Exact", "ImplementationSpecific", "Prefix"],
                    ),
                }
                backend(entry.at("backend"), &path.of("backend"), errors);
            }
        }
    }

    fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
        match (backend.has("service"), backend.has("resource")) {
            (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
            (false, false) => errors.required(path, "resource or service backend is required"),
            (false, true) => {}
            (true, false) => {
                let at = path.of("service");
                let name = backend.text("service.name");
                if name.is_empty() {
                    errors.required(&at.of("name"), "");
                } else {
                    errors.all(&at.of("name"), name, names::dns_1035_label(name));
                }
                let port = backend.at("service.port");
                let below = at.of("port");
                match (port.text("name"), port.int("number").unwrap_or(0)) {
                    ("", 0) => errors.required(&at, "port name or number is required"),
                    ("", number) => errors.port(&below.of("number"), number),
                    (name, 0) => errors.all(&below.of("name"), name, names::port_name(name)),
                    _ => errors.invalid(&at, "", "cannot set both port name & port number"),
                }
            }
        }
    }
}

pub(super) mod ingress_class {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Controller", "Who serves the class."),
        text("Parameters", "Where its parameters are."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec.controller")),
        row: |o, now| {
            let p = o.at("spec.parameters");
            let parameters = if p.is_object() {
                let group = match p.text("apiGroup") {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                format!("{}{group}/{}", p.text("kind"), p.text("name"))
            } else {
                "<none>".to_string()
            };
            vec![
                cell::name(o),
                cell::text(o, "spec.controller"),
                parameters.into(),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod network_policy {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("Pod-Selector", "Pods it applies to."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            object(spec, "podSelector");
            for list in ["ingress", "egress"] {
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
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                selector::validate(o.at("spec.podSelector"), &path.of("podSelector"), errors);
                for (list, peers) in [("ingress", "from"), ("egress", "to")] {
                    let at = path.of(list);
                    for (i, rule) in o.at("spec").items(list).iter().enumerate() {
                        self::rule(rule, peers, &at.at(i), errors);
                    }
                }
                for (i, kind) in o.items("spec.policyTypes").iter().enumerate() {
                    let kind = kind.as_str().unwrap_or("");
                    if !matches!(kind, "Ingress" | "Egress") {
                        errors.not_supported(&path.of("policyTypes").at(i), kind, &["Egress", "Ingress"]);
                    }
                }
            })
        },
        row: |o, now| {
            vec![
                cell::name(o),
                selector::text(o.at("spec.podSelector")).into(),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };

    fn rule(rule: &Value, peers: &str, path: &Path, errors: &mut Errors) {
        let ports = path.of("ports");
        for (i, port) in rule.items("ports").iter().enumerate() {
            let path = ports.at(i);
            errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
            if port.has("port") {
                port_or_name(port.at("port"), &path.of("port"), errors);
            }
            if let Some(end) = port.int("endPort") {
                match port.int("port") {
                    None => errors.required(&path.of("endPort"), "may not be specified when `port` is not specified"),
                    Some(first) if end < first => {
                        errors.invalid(&path.of("endPort"), first, "must be greater than or equal to `port`");
                    }
                    Some(_) => {}
                }
            }
        }
        let list = path.of(peers);
        for (i, peer) in rule.items(peers).iter().enumerate() {
            let path = list.at(i);
            let count = ["podSelector", "namespaceSelector", "ipBlock"]
                .iter()
                .filter(|k| peer.has(k))
                .count();
            if count == 0 {
                errors.required(&path, "must specify a peer");
            } else if count > 1 && peer.has("ipBlock") {
                errors.forbidden(&path, "may not specify both ipBlock and another peer");
            }
            for key in ["podSelector", "namespaceSelector"] {
                selector::validate(peer.at(key), &path.of(key), errors);
            }
            if peer.has("ipBlock") {
                let at = path.of("ipBlock");
                let cidr = peer.text("ipBlock.cidr");
                if cidr.is_empty() {
                    errors.required(&at.of("cidr"), "");
                } else if !names::is_cidr(cidr) {
                    errors.invalid(&at.of("cidr"), cidr, names::NOT_A_CIDR);
                }
            }
        }
    }
}

pub(super) mod ip_address {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("ParentRef", "What the address belongs to."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        name: NameRule::Any,
        validate: |o| {
            gather(|errors| {
                let name = o.text("metadata.name");
                if !names::is_ip(name) {
                    errors.invalid(&Path::new("metadata.name"), name, names::NOT_AN_IP);
                }
                let parent = Path::new("spec.parentRef");
                for key in ["resource", "name"] {
                    errors.text_required(o.at("spec.parentRef"), &parent, key);
                }
            })
        },
        validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec.parentRef")),
        row: |o, now| {
            let p = o.at("spec.parentRef");
            let parts = [p.text("resource"), p.text("group"), p.text("namespace"), p.text("name")];
            let (resource, rest) = (
                if parts[1].is_empty() {
                    parts[0].to_string()
                } else {
                    format!("{}.{}", parts[0], parts[1])
                },
                [parts[2], parts[3]],
            );
            let rest = rest.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("/");
            vec![cell::name(o), format!("{resource}/{rest}").into(), cell::age(o, now)]
        },
        fields: |o| {
            let p = o.at("spec.parentRef");
            vec![
                ("spec.parentRef.resource", p.text("resource").into()),
                ("spec.parentRef.namespace", p.text("namespace").into()),
                ("spec.parentRef.name", p.text("name").into()),
            ]
        },
        field_names: &[
            "spec.parentRef.resource",
            "spec.parentRef.namespace",
            "spec.parentRef.name",
        ],
        ..Rules::BASE
    };
}

pub(super) mod service_cidr {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("CIDRs", "Ranges of service addresses."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec.cidrs");
                if o.items("spec.cidrs").is_empty() {
                    errors.required(&path, "at least one CIDR required");
                }
                for (i, cidr) in o.items("spec.cidrs").iter().enumerate() {
                    let cidr = cidr.as_str().unwrap_or("");
                    if !names::is_cidr(cidr) {
                        errors.invalid(&path.at(i), cidr, names::NOT_A_CIDR);
                    }
                }
            })
        },
        row: |o, now| {
            let cidrs: Vec<&str> = o.items("spec.cidrs").iter().filter_map(Value::as_str).collect();
            vec![cell::name(o), cidrs.join(",").into(), cell::age(o, now)]
        },
        ..Rules::STATUS
    };
}
