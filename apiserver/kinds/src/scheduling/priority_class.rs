//! Priority classes.

use crate::check::{Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, boolean, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, set_default, set_text};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    integer("Value", "Priority of its pods."),
    boolean("Global-Default", "Whether pods without a class get it."),
    AGE,
    text("PreemptionPolicy", "Whether its pods push others out."),
];

/// Above this only the system's own classes are.
const USER_MAX: i64 = 1_000_000_000;

/// The system's classes, with the values that they must have.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

pub(super) static STRATEGY: Rules = Rules {
    generation: true,
    // Upstream numbers new classes and never counts on.
    bumps: |_, _| false,
    default: |o| {
        set_text(o, "preemptionPolicy", "PreemptLowerPriority");
        set_default(o, "value", 0);
    },
    validate: |o| {
        gather(|errors| {
            let (name, value) = (o.text("metadata.name"), o.int("value").unwrap_or(0));
            if name.starts_with("system-") {
                if let Some(why) = unknown(name, value, o.flag("globalDefault")) {
                    let text = format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                    );
                    errors.forbidden(&Path::new("metadata.name"), &text);
                }
            } else if value > USER_MAX {
                let text = format!("maximum allowed value of a user defined priority is {USER_MAX}");
                errors.forbidden(&Path::new("value"), &text);
            }
            if !matches!(o.text("preemptionPolicy"), "Never" | "PreemptLowerPriority") {
                errors.not_supported(
                    &Path::new("preemptionPolicy"),
                    o.text("preemptionPolicy"),
                    &["PreemptLowerPriority", "Never"],
                );
            }
        })
    },
    validate_update: |_, new, old| {
        gather(|errors| {
            if new.int("value") != old.int("value") {
                errors.forbidden(&Path::new("value"), "may not be changed in an update.");
            }
            if !same(new.at("preemptionPolicy"), old.at("preemptionPolicy")) {
                errors.invalid(
                    &Path::new("preemptionPolicy"),
                    new.at("preemptionPolicy").clone(),
                    crate::check::IMMUTABLE,
                );
            }
        })
    },
    row: |o, now| {
        vec![
            cell::name(o),
            cell::number(o, "value"),
            o.flag("globalDefault").into(),
            cell::age(o, now),
            cell::text(o, "preemptionPolicy"),
        ]
    },
    ..Rules::BASE
};

/// Why a name is not that of a class of the system's.
fn unknown(name: &str, value: i64, global: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, wanted)) if *wanted != value => Some(format!("value of {name} PriorityClass must be {wanted}")),
        Some(_) => global.then(|| format!("globalDefault of {name} PriorityClass must be false")),
    }
}
