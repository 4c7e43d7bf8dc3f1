//! Core kinds with few rules: endpoints, service accounts, replication
//! controllers, pod templates, quotas, limit ranges, component statuses, bindings.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::{NameRule, Rules};
use crate::tree::{Tree, each, existing, object, set_text};
use crate::{selector, workload};
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
                let path = at.at(i);
                let ip = address.text("ip");
                errors.all(&path.of("ip"), ip, names::ip(ip));
                errors.name_at(address, &path, "hostname", names::dns_label);
                errors.name_at(address, &path, "nodeName", names::dns_subdomain);
                errors.all(&path.of("ip"), ip, names::non_special_ip(ip));
            }
        }
        let ports = subset.items("ports");
        let at = path.of("ports");
        for (i, port) in ports.iter().enumerate() {
            let path = at.at(i);
            if ports.len() > 1 && port.text("name").is_empty() {
                errors.required(&path.of("name"), "");
            }
            errors.name_at(port, &path, "name", names::dns_label);
            errors.port(&path.of("port"), port.int("port").unwrap_or(0));
            errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
            errors.name_at(port, &path, "appProtocol", names::qualified_name);
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

    const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

    pub(crate) static STRATEGY: Rules = Rules {
        prepare_create: names_only,
        prepare_update: |_, new, _| names_only(new),
        warnings: |o| {
            let set = o.at("metadata.annotations").get(MOUNTABLE).is_some();
            let text = format!(
                "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            );
            set.then_some(text).into_iter().collect()
        },
        row: |o, now| vec![cell::name(o), cell::count(o, "secrets"), cell::age(o, now)],
        ..Rules::BASE
    };

    /// References to secrets are names within the namespace.
    fn names_only(o: &mut Value) {
        for secret in each(o, "secrets").filter(|s| s.is_object()) {
            *secret = json!({"name": secret.text("name")});
        }
    }
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
                errors.non_negative(o.at("spec"), &path, "minReadySeconds");
                errors.non_negative(o.at("spec"), &path, "replicas");
                workload::template(o.at("spec"), &path, "ReplicationController", errors);
            })
        },
        validate_update: |sub, new, old| {
            gather(|errors| {
                if sub == "status" {
                    workload::replica_status(new, old, errors);
                }
            })
        },
        warnings: |o| {
            let mut out = workload::name_warnings(o);
            out.extend(pod::warnings::of(o.at("spec.template"), "spec.template"));
            out
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
        generation: true,
        validate: |o| gather(|errors| pod::validate_template(o.at("template"), &Path::new("template"), errors)),
        warnings: |o| pod::warnings::of(o.at("template"), "template"),
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
                let kind = o.text("target.kind");
                if !matches!(kind, "" | "Node") {
                    errors.not_supported(&target.of("kind"), kind, &["Node", "<empty>"]);
                }
                errors.text_required(o.at("target"), &target, "name");
            })
        },
        ..Rules::BASE
    };
}
