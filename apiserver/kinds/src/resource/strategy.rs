//! Dynamic resource allocation: claims, templates, classes, slices.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::json;

const AGED: &[Column] = &[NAME, AGE];

pub(super) mod device_class {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = AGED;
    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        row: |o, now| vec![cell::name(o), cell::age(o, now)],
        ..Rules::BASE
    };
}

pub(super) mod resource_claim {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = &[NAME, text("State", "pending, allocated, reserved."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({});
            }
        },
        validate_update: |sub, new, old| {
            gather(|errors| {
                if sub.is_empty() {
                    errors.immutable(new, old, "spec");
                }
            })
        },
        row: |o, now| {
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
            vec![cell::name(o), states.join(",").into(), cell::age(o, now)]
        },
        ..Rules::STATUS
    };
}

pub(super) mod resource_claim_template {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = AGED;
    pub(crate) static STRATEGY: Rules = Rules {
        validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec")),
        row: |o, now| vec![cell::name(o), cell::age(o, now)],
        ..Rules::BASE
    };
}

pub(super) mod resource_slice {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Node", "Node with the devices."),
        text("Driver", "Driver."),
        text("Pool", "Pool."),
        AGE,
    ];
    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        validate: |o| {
            gather(|errors| {
                errors.text_required(o.at("spec"), &Path::new("spec"), "driver");
            })
        },
        validate_update: |_, new, old| {
            gather(|errors| {
                for at in ["spec.driver", "spec.nodeName"] {
                    errors.immutable(new, old, at);
                }
            })
        },
        row: |o, now| {
            vec![
                cell::name(o),
                cell::text_or(o, "spec.nodeName", "<unset>"),
                cell::text(o, "spec.driver"),
                cell::text(o, "spec.pool.name"),
                cell::age(o, now),
            ]
        },
        fields: |o| {
            vec![
                ("spec.nodeName", o.text("spec.nodeName").into()),
                ("spec.driver", o.text("spec.driver").into()),
            ]
        },
        field_names: &["spec.nodeName", "spec.driver"],
        ..Rules::BASE
    };
}
