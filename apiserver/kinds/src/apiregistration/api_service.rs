//! API services: groups that another server answers.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_int};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Service", "Service that answers, or Local."),
    text("Available", "Whether it answers."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        if let Some(service) = object(o, "spec").and_then(|s| existing(s, "service")) {
            set_int(service, "port", 443);
        }
    },
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({});
        }
    },
    validate: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            let spec = o.at("spec");
            let (name, group, version) = (o.text("metadata.name"), spec.text("group"), spec.text("version"));
            if name != format!("{version}.{group}") {
                let text = format!("must be `spec.version+\".\"+spec.group`: \"{version}.{group}\"");
                errors.invalid(&Path::new("metadata.name"), name, &text);
            }
            for (key, max) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
                let value = spec.int(key).unwrap_or(0);
                if value <= 0 || value > max {
                    errors.invalid(&path.of(key), value, &format!("must be positive and less than {max}"));
                }
            }
            if spec.flag("insecureSkipTLSVerify") && !spec.text("caBundle").is_empty() {
                errors.invalid(
                    &path.of("insecureSkipTLSVerify"),
                    true,
                    "may not be true if caBundle is present",
                );
            }
        })
    },
    row: |o, now| {
        let service = o.at("spec.service");
        let shown = if service.is_object() {
            format!("{}/{}", service.text("namespace"), service.text("name"))
        } else {
            "Local".to_string()
        };
        let available = o
            .items("status.conditions")
            .iter()
            .find(|c| c.text("type") == "Available");
        let available: Value = match available {
            None => "Unknown".into(),
            Some(c) if c.text("status") == "True" => "True".into(),
            Some(c) => format!("{} ({})", c.text("status"), c.text("reason")).into(),
        };
        vec![cell::name(o), shown.into(), available, cell::age(o, now)]
    },
    ..Rules::STATUS
};
