//! Core kinds with few rules: endpoints, service accounts, replication
//! controllers, pod templates, quotas, limit ranges, component statuses, bindings.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{self, container::quantity_at, gather};
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::{NameRule, Rules};
use crate::tree::{Tree, each, existing, object, set_default, set_text};
use crate::{quantity, selector, workload};
use serde_json::{Map, Value, json};

pub(super) mod endpoints {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("Endpoints", "Addresses and ports."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            for subset in each(o, "subsets") {
                each(subset, "ports").for_each(|p| set_text(p, "protocol", "TCP"));
            }
        },
        validate: |o| {
            gather(|errors| {
                let subsets = Path::new("subsets");
                for (i, subset) in o.items("subsets").iter().enumerate() {
                    check(subset, &subsets.at(i), errors);
                }
            })
        },
        row: |o, now| vec![cell::name(o), shown(o).into(), cell::age(o, now)],
        ..Rules::BASE
    };

    fn check(subset: &Value, path: &Path, errors: &mut Errors) {
        if subset.items("addresses").is_empty() && subset.items("notReadyAddresses").is_empty() {
            errors.required(path, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            let at = path.of(list);
            for (i, address) in subset.items(list).iter().enumerate() {
                let ip = address.text("ip");
                if !names::is_ip(ip) {
                    errors.invalid(&at.at(i).of("ip"), ip, names::NOT_AN_IP);
                }
            }
        }
        let ports = subset.items("ports");
        let at = path.of("ports");
        for (i, port) in ports.iter().enumerate() {
            let path = at.at(i);
            if ports.len() > 1 && port.text("name").is_empty() {
                errors.required(&path.of("name"), "");
            }
            errors.port(&path.of("port"), port.int("port").unwrap_or(0));
            errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
        }
    }

    /// At most three addresses; the rest is counted.
    fn shown(o: &Value) -> String {
        let mut list = Vec::new();
        for subset in o.items("subsets") {
            let addresses = subset.items("addresses");
            if subset.items("ports").is_empty() {
                list.extend(addresses.iter().map(|a| a.text("ip").to_string()));
            }
            for port in subset.items("ports") {
                let port = port.int("port").unwrap_or(0);
                list.extend(addresses.iter().map(|a| match a.text("ip") {
                    ip if ip.contains(':') => format!("[{ip}]:{port}"),
                    ip => format!("{ip}:{port}"),
                }));
            }
        }
        if list.is_empty() {
            return "<none>".to_string();
        }
        let head = list.iter().take(3).cloned().collect::<Vec<_>>().join(",");
        if list.len() > 3 {
            format!("{head} + {} more...", list.len() - 3)
        } else {
            head
        }
    }
}

pub(super) mod service_account {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, integer("Secrets", "Number of secrets it lists."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        row: |o, now| vec![cell::name(o), cell::count(o, "secrets"), cell::age(o, now)],
        ..Rules::BASE
    };
}

pub(super) mod replication_controller {
    use super::*;

    pub(crate) use crate::workload::REPLICA_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            workload::defaults(o, true);
            let labels = o.at("spec.template.metadata.labels").clone();
            if labels.as_object().is_some_and(|l| !l.is_empty()) {
                if let Some(spec) = object(o, "spec")
                    && spec.map("selector").is_none_or(Map::is_empty)
                {
                    spec["selector"] = labels.clone();
                }
                if let Some(metadata) = object(o, "metadata")
                    && metadata.map("labels").is_none_or(Map::is_empty)
                {
                    metadata["labels"] = labels;
                }
            }
        },
        prepare_create: workload::zero_replicas,
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                let select = o.at("spec.selector");
                if select.as_object().is_none_or(Map::is_empty) {
                    errors.required(&path.of("selector"), "");
                } else if !selector::matches(&json!({"matchLabels": select}), o.at("spec.template.metadata.labels")) {
                    let labels = o.at("spec.template.metadata.labels").clone();
                    errors.invalid(
                        &Path::new("spec.template.metadata.labels"),
                        labels,
                        "`selector` does not match template `labels`",
                    );
                }
                workload::template(o.at("spec"), &path, errors);
            })
        },
        row: |o, now| workload::replica_row(o, now, selector::labels_text(o.at("spec.selector"))),
        fields: |o| vec![("status.replicas", o.int("status.replicas").unwrap_or(0).to_string())],
        field_names: &["status.replicas"],
        ..Rules::SPLIT
    };
}

pub(super) mod pod_template {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Containers", "Names of the template's containers."),
        text("Images", "Images of the template's containers."),
        text("Pod Labels", "Labels of the template."),
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            if let Some(template) = existing(o, "template") {
                pod::defaults::template(template);
            }
        },
        validate: |o| gather(|errors| pod::validate_template(o.at("template"), &Path::new("template"), errors)),
        row: |o, _| {
            let (containers, images) = cell::containers(o.at("template.spec"));
            vec![
                cell::name(o),
                containers,
                images,
                selector::labels_text(o.at("template.metadata.labels")).into(),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod resource_quota {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Request", "Used of hard, of requests and counts."),
        text("Limit", "Used of hard, of limits."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| {
            gather(|errors| {
                let hard = Path::new("spec.hard");
                for (name, amount) in o.map("spec.hard").into_iter().flatten() {
                    errors.all(&hard.key(name), name, names::qualified_name(name));
                    quantity_at(amount, &hard.key(name), errors);
                }
            })
        },
        validate_update: |sub, new, old| {
            gather(|errors| {
                if sub.is_empty() {
                    errors.immutable(new, old, "spec.scopes");
                }
            })
        },
        row: |o, now| {
            let mut parts: [Vec<String>; 2] = Default::default();
            for (name, hard) in o.map("status.hard").into_iter().flatten() {
                let used = o.at("status.used").get(name).and_then(Value::as_str).unwrap_or("0");
                let text = format!("{name}: {used}/{}", hard.as_str().unwrap_or(""));
                parts[usize::from(name.starts_with("limits"))].push(text);
            }
            parts.iter_mut().for_each(|p| p.sort());
            vec![
                cell::name(o),
                parts[0].join(", ").into(),
                parts[1].join(", ").into(),
                cell::age(o, now),
            ]
        },
        ..Rules::STATUS
    };
}

pub(super) mod limit_range {
    use super::*;

    pub(crate) use crate::row::DEFAULT_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            for item in each(spec, "limits").filter(|i| i.text("type") == "Container") {
                container_limits(item);
            }
        },
        validate: |o| {
            gather(|errors| {
                let list = Path::new("spec.limits");
                for (i, item) in o.items("spec.limits").iter().enumerate() {
                    let path = list.at(i);
                    errors.text_required(item, &path, "type");
                    for (name, min) in item.map("min").into_iter().flatten() {
                        let max = item.at("max").get(name);
                        if let (Some(low), Some(high)) = (quantity::parse(min), max.and_then(quantity::parse))
                            && low > high
                        {
                            let text = format!(
                                "min value {} is greater than max value {}",
                                min.as_str().unwrap_or(""),
                                max.and_then(Value::as_str).unwrap_or("")
                            );
                            errors.invalid(&path.of("min").key(name), min.clone(), &text);
                        }
                    }
                }
            })
        },
        ..Rules::BASE
    };

    /// A maximum is the default limit, a default limit the default request.
    fn container_limits(item: &mut Value) {
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let Some(source) = item.get(from).and_then(Value::as_object).cloned() else {
                continue;
            };
            if let Some(target) = object(item, to) {
                source
                    .into_iter()
                    .for_each(|(name, amount)| set_default(target, &name, amount));
            }
        }
    }
}

pub(super) mod component_status {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Status", "Whether the component is healthy."),
        text("Message", "What it says."),
        text("Error", "What went wrong asking it."),
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        row: |o, _| {
            let healthy = o
                .items("conditions")
                .iter()
                .find(|c| c.text("type") == "Healthy")
                .unwrap_or(&Value::Null);
            let status = match healthy.text("status") {
                "True" => "Healthy",
                "" => "Unknown",
                _ => "Unhealthy",
            };
            vec![
                cell::name(o),
                status.into(),
                cell::text(healthy, "message"),
                cell::text(healthy, "error"),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod binding {
    use super::*;

    pub(crate) use crate::row::DEFAULT_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        name: NameRule::Any,
        validate: |o| {
            gather(|errors| {
                let target = Path::new("target");
                errors.optional_choice(o.at("target"), &target, "kind", &["Node"]);
                errors.text_required(o.at("target"), &target, "name");
            })
        },
        ..Rules::BASE
    };
}
