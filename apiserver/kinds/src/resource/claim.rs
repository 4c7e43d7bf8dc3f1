//! Claims, their templates, and classes of devices.

use super::allocation;
use super::names::list;
use super::request::{self, CONFIGS_MAX, claim_spec, configuration, selectors};
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::core::resources;
use crate::meta;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, each, existing};
use serde_json::Value;

pub(crate) const AGED: &[Column] = &[NAME, AGE];
pub(crate) const CLAIM_COLUMNS: &[Column] = &[NAME, text("State", "pending, allocated, reserved."), AGE];

pub(crate) static CLASS: Rules = Rules {
    generation: true,
    validate: |o| {
        gather(|errors| {
            let (spec, path) = (o.at("spec"), Path::new("spec"));
            selectors(spec.items("selectors"), &path.of("selectors"), errors);
            list(
                spec.items("config"),
                CONFIGS_MAX,
                &path.of("config"),
                errors,
                &mut configuration,
            );
            if let Some(name) = spec
                .at("extendedResourceName")
                .as_str()
                .filter(|n| !resources::is_extended(n))
            {
                let text = "must be a valid extended resource name";
                errors.invalid(&path.of("extendedResourceName"), name, text);
            }
        })
    },
    row: |o, now| vec![cell::name(o), cell::age(o, now)],
    ..Rules::BASE
};

pub(crate) static CLAIM: Rules = Rules {
    default: |o| {
        if let Some(spec) = existing(o, "spec") {
            request::defaults(spec);
        }
        let devices = existing(o, "status")
            .and_then(|s| existing(s, "allocation"))
            .and_then(|a| existing(a, "devices"));
        if let Some(devices) = devices {
            each(devices, "results").for_each(request::tolerations_default);
        }
    },
    prepare_create: allocation::empty,
    prepare_update: |sub, new, old| {
        if sub == "status" {
            allocation::prepare(new, old);
        }
    },
    validate_create: |o| gather(|errors| claim_spec(o.at("spec"), &Path::new("spec"), errors)),
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "status" => allocation::status(new, old, errors),
            _ => errors.immutable(new, old, "spec"),
        })
    },
    row: |o, now| vec![cell::name(o), state(o).into(), cell::age(o, now)],
    ..Rules::STATUS
};

fn state(o: &Value) -> String {
    let mut states = Vec::new();
    if o.has("metadata.deletionTimestamp") {
        states.push("deleted");
    }
    if o.has("status.allocation") {
        states.push("allocated");
    } else if states.is_empty() {
        states.push("pending");
    }
    if !o.items("status.reservedFor").is_empty() {
        states.push("reserved");
    }
    states.join(",")
}

pub(crate) static TEMPLATE: Rules = Rules {
    default: |o| {
        if let Some(spec) = existing(o, "spec").and_then(|spec| existing(spec, "spec")) {
            request::defaults(spec);
        }
    },
    validate_create: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            template_meta(o.at("spec.metadata"), &path.of("metadata"), errors);
            claim_spec(o.at("spec.spec"), &path.of("spec"), errors);
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec")),
    row: |o, now| vec![cell::name(o), cell::age(o, now)],
    ..Rules::BASE
};

fn template_meta(metadata: &Value, path: &Path, errors: &mut Errors) {
    meta::annotations(metadata.at("annotations"), &path.of("annotations"), errors);
    meta::labels(metadata.at("labels"), &path.of("labels"), errors);
}
