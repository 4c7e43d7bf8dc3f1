//! Resource slices: what a driver has to offer.

use super::device;
use super::names::{by_name, driver, pool, set};
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Node", "Node with the devices."),
    text("Driver", "Driver."),
    text("Pool", "Pool."),
    AGE,
];

const DEVICES_MAX: usize = 128;
/// With taints, counters or lists of values a device weighs more.
const HEAVY_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const PLACES: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

pub(crate) static STRATEGY: Rules = Rules {
    generation: true,
    validate_create: |o| gather(|errors| spec(o.at("spec"), &Value::Null, errors)),
    validate_update: |_, new, old| {
        gather(|errors| {
            spec(new.at("spec"), old.at("spec"), errors);
            for at in ["spec.pool.name", "spec.driver", "spec.nodeName"] {
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

fn spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    driver(spec.text("driver"), &path.of("driver"), errors);
    let at = path.of("pool");
    pool(spec.text("pool.name"), &at.of("name"), errors);
    let count = spec.int("pool.resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        errors.invalid(&at.of("resourceSliceCount"), count, "must be greater than zero");
    }
    if let Some(n) = spec.int("pool.generation").filter(|n| *n < 0) {
        errors.invalid(&at.of("generation"), n, "must be greater than or equal to zero");
    }
    places(spec, &path, errors);
    if !spec.items("sharedCounters").is_empty() && !spec.items("devices").is_empty() {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = spec.items("devices");
    let max = if devices.iter().any(is_heavy) {
        HEAVY_DEVICES_MAX
    } else {
        DEVICES_MAX
    };
    let chooses = spec.flag("perDeviceNodeSelection");
    set(
        devices,
        max,
        by_name,
        &path.of("devices"),
        errors,
        &mut |d, path, errors| {
            let before = old.items("devices").iter().find(|b| b.text("name") == d.text("name"));
            device::check(d, before, chooses, path, errors);
        },
    );
    let (counters, at) = (spec.items("sharedCounters"), path.of("sharedCounters"));
    set(
        counters,
        COUNTER_SETS_MAX,
        by_name,
        &at,
        errors,
        &mut |c, path, errors| {
            device::counters(c, "name", path, errors);
        },
    );
}

fn is_heavy(device: &Value) -> bool {
    let lists = |a: &Value| ["bools", "ints", "strings", "versions"].iter().any(|k| a.has(k));
    !device.items("taints").is_empty()
        || !device.items("consumesCounters").is_empty()
        || device.map("attributes").into_iter().flatten().any(|(_, a)| lists(a))
}

fn places(spec: &Value, path: &Path, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let no_name = "must be either unset or set to a non-empty string";
    let set = device::placement(spec, &PLACES, no_name, path, errors);
    let terms = "nodeSelector.nodeSelectorTerms";
    if spec.has("nodeSelector") && spec.items(terms).len() != 1 {
        let text = "must have exactly one node selector term";
        errors.invalid(&path.of(terms), spec.items(terms).to_vec(), text);
    }
    match set.len() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => {
            let text = format!("{ONE}, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", set.join(", ")), &text);
        }
    }
}
