//! API services: groups that another server answers.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules};
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
    name: NameRule::Any,
    validate: |o| gather(|errors| validate(o, errors)),
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

fn validate(o: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = o.at("spec");
    let (name, group, version) = (o.text("metadata.name"), spec.text("group"), spec.text("version"));
    let metadata = Path::new("metadata");
    let at = metadata.of("name");
    let faults = names::path_segment(name);
    if name.is_empty() {
        errors.required(&at, "name or generateName is required");
    } else if !faults.is_empty() {
        errors.all(&at, name, faults);
    } else if name != format!("{version}.{group}") {
        let text = format!("must be `spec.version+\".\"+spec.group`: \"{version}.{group}\"");
        errors.invalid(&at, name, &text);
    }
    if group.is_empty() && version != "v1" {
        errors.required(
            &path.of("group"),
            "only v1 may have an empty group and it better be legacy kube",
        );
    }
    errors.name_at(spec, &path, "group", names::dns_subdomain);
    errors.all(&path.of("version"), version, names::dns_1035_label(version));
    for (key, max) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let value = spec.int(key).unwrap_or(0);
        if value <= 0 || value > max {
            errors.invalid(&path.of(key), value, &format!("must be positive and less than {max}"));
        }
    }
    let (bundle, insecure) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    if !spec.has("service") {
        if !bundle.is_empty() {
            // The size of what the base64 text holds.
            let padding = bundle.bytes().rev().take_while(|b| *b == b'=').count();
            let bytes = (bundle.len() / 4 * 3).saturating_sub(padding);
            let text = "local APIServices may not have a caBundle";
            errors.invalid(&path.of("caBundle"), format!("{bytes} bytes"), text);
        }
        if insecure {
            let text = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&path.of("insecureSkipTLSVerify"), true, text);
        }
    } else {
        errors.texts_required(spec.at("service"), &path.of("service"), &["namespace", "name"]);
        if insecure && !bundle.is_empty() {
            let text = "may not be true if caBundle is present";
            errors.invalid(&path.of("insecureSkipTLSVerify"), true, text);
        }
    }
    let status = Path::new("status");
    let conditions = status.of("conditions");
    for (index, condition) in o.items("status.conditions").iter().enumerate() {
        let value = condition.text("status");
        if !matches!(value, "True" | "False" | "Unknown") {
            let at = conditions.at(index);
            errors.not_supported(&at.of("status"), value, &["False", "True", "Unknown"]);
        }
    }
}
