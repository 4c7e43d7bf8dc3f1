//! What CSI drivers say of themselves: drivers, nodes, capacities.

use crate::check::{Errors, IMMUTABLE, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::core::source;
use crate::names;
use crate::quantity;
use crate::row::{AGE, NAME, boolean, cell, integer, text};
use crate::rules::Rules;
use crate::selector;
use crate::tree::{Tree, object, set_default, set_text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) const DRIVER_COLUMNS: &[Column] = &[
    NAME,
    boolean(
        "AttachRequired",
        "Whether volumes are attached before they are mounted.",
    ),
    boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
    boolean("StorageCapacity", "Whether the driver reports capacity."),
    text("TokenRequests", "Audiences of tokens that the driver gets."),
    boolean("RequiresRepublish", "Whether volumes are published again and again."),
    text("Modes", "Lifecycle modes of its volumes."),
    AGE,
];

pub(crate) static DRIVER: Rules = Rules {
    generation: true,
    default: |o| {
        let Some(spec) = object(o, "spec") else { return };
        set_default(spec, "attachRequired", true);
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            set_default(spec, key, false);
        }
        set_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.items("volumeLifecycleModes").is_empty() {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    },
    validate: |o| gather(|errors| driver(o.at("spec"), errors)),
    validate_update: |_, new, old| {
        gather(|errors| {
            if !same(new.at("spec.attachRequired"), old.at("spec.attachRequired")) {
                // Upstream's own name for the field, not the one that is written.
                let path = Path::new("spec.attachedRequired");
                errors.invalid(&path, new.at("spec.attachRequired").clone(), IMMUTABLE);
            }
            errors.immutable(new, old, "spec.volumeLifecycleModes");
        })
    },
    row: |o, now| {
        let texts = |path: &str| -> Vec<&str> { o.items(path).iter().filter_map(Value::as_str).collect() };
        let audiences: Vec<&str> = o
            .items("spec.tokenRequests")
            .iter()
            .map(|t| t.text("audience"))
            .collect();
        let tokens = match audiences.is_empty() {
            true => "<unset>".into(),
            false => cell::joined(&audiences),
        };
        vec![
            cell::name(o),
            o.at("spec.attachRequired").as_bool().unwrap_or(true).into(),
            o.flag("spec.podInfoOnMount").into(),
            o.flag("spec.storageCapacity").into(),
            tokens,
            o.flag("spec.requiresRepublish").into(),
            cell::joined(&texts("spec.volumeLifecycleModes")),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

/// How often a driver may be asked at most what a node can take.
const ALLOCATABLE_PERIOD_SECONDS_MIN: i64 = 10;

fn driver(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    errors.optional_choice(
        spec,
        &path,
        "fsGroupPolicy",
        &["File", "None", "ReadWriteOnceWithFSType"],
    );
    let list = path.of("tokenRequests");
    let mut audiences = BTreeSet::new();
    for (i, request) in spec.items("tokenRequests").iter().enumerate() {
        let path = list.at(i);
        if !audiences.insert(request.text("audience")) {
            errors.duplicate(&path.of("audience"), request.text("audience"));
            continue;
        }
        let at = path.of("expirationSeconds");
        match request.int("expirationSeconds") {
            Some(s) if s < 600 => errors.invalid(&at, s, "may not specify a duration less than 10 minutes"),
            Some(s) if s > 1 << 32 => errors.invalid(&at, s, "may not specify a duration larger than 2^32 seconds"),
            _ => {}
        }
    }
    for mode in spec.items("volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            errors.not_supported(&path.of("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    let period = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(s) = spec.int(period).filter(|s| *s < ALLOCATABLE_PERIOD_SECONDS_MIN) {
        errors.invalid(&path.of(period), s, "must be greater than or equal to 10 seconds");
    }
    let in_secrets = "serviceAccountTokenInSecrets";
    if spec.has(in_secrets) && spec.items("tokenRequests").is_empty() {
        let text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.of(in_secrets), spec.flag(in_secrets), text);
    }
}

pub(crate) const NODE_COLUMNS: &[Column] = &[NAME, integer("Drivers", "Drivers on the node."), AGE];

const NODE_ID_BYTES_MAX: usize = 256;

pub(crate) static NODE: Rules = Rules {
    default: |o| {
        if let Some(spec) = object(o, "spec") {
            set_default(spec, "drivers", json!([]));
        }
    },
    validate: |o| gather(|errors| node(o.items("spec.drivers"), errors)),
    // What a driver said of itself stays, except how many volumes the node takes.
    validate_update: |_, new, old| {
        gather(|errors| {
            for before in old.items("spec.drivers") {
                let named = |d: &&Value| d.text("name") == before.text("name");
                for now in new.items("spec.drivers").iter().filter(named) {
                    let fixed = |d: &Value| {
                        let mut d = d.clone();
                        d.as_object_mut().map(|d| d.remove("allocatable"));
                        d
                    };
                    if !same(&fixed(now), &fixed(before)) {
                        errors.invalid(&Path::new("spec.drivers"), fixed(now), IMMUTABLE);
                    }
                }
            }
        })
    },
    row: |o, now| vec![cell::name(o), cell::count(o, "spec.drivers"), cell::age(o, now)],
    ..Rules::BASE
};

fn node(drivers: &[Value], errors: &mut Errors) {
    let list = Path::new("spec.drivers");
    let mut seen = BTreeSet::new();
    for (i, driver) in drivers.iter().enumerate() {
        let path = list.at(i);
        source::csi_driver(driver.text("name"), &path.of("name"), errors);
        let id = driver.text("nodeID");
        errors.text_required(driver, &path, "nodeID");
        if id.len() > NODE_ID_BYTES_MAX {
            let text = format!("must be {NODE_ID_BYTES_MAX} characters or less");
            errors.invalid(&path.of("nodeID"), id, &text);
        }
        errors.non_negative(driver.at("allocatable"), &path.of("allocatable"), "count");
        if !seen.insert(driver.text("name")) {
            errors.duplicate(&path.of("name"), driver.text("name"));
        }
        let mut keys = BTreeSet::new();
        for key in driver.items("topologyKeys").iter().filter_map(Value::as_str) {
            if key.is_empty() {
                errors.required(&path, "");
            }
            if !keys.insert(key) {
                errors.duplicate(&path, key);
            }
            errors.all(&path, key, names::qualified_name(key));
        }
    }
}

pub(crate) const CAPACITY_COLUMNS: &[Column] = &[
    NAME,
    text("StorageClassName", "Storage class."),
    text("Capacity", "What can still be made."),
];

pub(crate) static CAPACITY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            selector::validate(o.at("nodeTopology"), &Path::new("nodeTopology"), errors);
            let class = o.text("storageClassName");
            errors.all(&Path::new("storageClassName"), class, names::dns_subdomain(class));
            if let Some(amount) = quantity::parse(o.at("capacity")).filter(|q| q.sign() < 0) {
                let text = "must be greater than or equal to 0";
                errors.invalid(&Path::new("capacity"), amount.to_string(), text);
            }
        })
    },
    validate_update: |_, new, old| {
        gather(|errors| {
            errors.immutable(new, old, "nodeTopology");
            errors.immutable(new, old, "storageClassName");
        })
    },
    row: |o, _| {
        vec![
            cell::name(o),
            cell::text(o, "storageClassName"),
            cell::text_or(o, "capacity", "<unset>"),
        ]
    },
    ..Rules::BASE
};
