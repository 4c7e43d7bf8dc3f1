//! What became of a claim: its status, which schedulers and drivers write.

use super::names::{self, itself, label, list, pool, set, uid};
use super::request::{CONFIGS_MAX, Names, configuration, raw, tolerations};
use crate::check::{Errors, IMMUTABLE, Path, same};
use crate::conditions;
use crate::core::pod::scheduling;
use crate::names::qualified_name;
use crate::networking::address;
use crate::tree::Tree;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CONSUMERS_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 8;
const DATA_BYTES_MAX: usize = 10 * 1024;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_ADDRESS_BYTES_MAX: usize = 128;
const ADDRESSES_MAX: usize = 16;
const BINDING_CONDITIONS_MAX: usize = 4;

/// Driver, pool, device and share as one text; with an empty share as upstream shows it.
fn device_id(device: &Value) -> String {
    let id = ["driver", "pool", "device"].map(|k| device.text(k)).join("/");
    match device.text("shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

fn allocated(status: &Value) -> BTreeSet<String> {
    status
        .items("allocation.devices.results")
        .iter()
        .map(device_id)
        .collect()
}

/// What drivers said of devices that the claim gives back is forgotten.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let kept = allocated(new.at("status"));
    let gone: BTreeSet<String> = allocated(old.at("status")).difference(&kept).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) {
        devices.retain(|d| !gone.contains(&device_id(d)));
        if devices.is_empty() {
            status.remove("devices");
        }
    }
}

pub(super) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (status, before) = (new.at("status"), old.at("status"));
    let (consumers, at) = (status.items("reservedFor"), path.of("reservedFor"));
    set(
        consumers,
        CONSUMERS_MAX,
        |c| c.text("uid").into(),
        &at,
        errors,
        &mut |c, path, errors| {
            errors.texts_required(c, path, &["resource", "name", "uid"]);
        },
    );
    let known = allocated(status);
    let devices = status.items("devices");
    let at_devices = path.of("devices");
    set(
        devices,
        usize::MAX,
        |d| device_id(d).into(),
        &at_devices,
        errors,
        &mut |d, path, errors| {
            device(d, &known, path, errors);
        },
    );
    if !consumers.is_empty() {
        if !status.has("allocation") {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if new.has("metadata.deletionTimestamp")
            && consumers.iter().any(|c| !before.items("reservedFor").contains(c))
        {
            let text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, text);
        }
    }
    let (allocation, at) = (status.at("allocation"), path.of("allocation"));
    if status.has("allocation") && before.has("allocation") {
        if !same(allocation, before.at("allocation")) {
            errors.invalid(&at, allocation.clone(), IMMUTABLE);
        }
    } else if status.has("allocation") {
        result(allocation, &Names::of(new.at("spec")), &at, errors);
    }
}

fn result(allocation: &Value, requests: &Names, path: &Path, errors: &mut Errors) {
    let (devices, at) = (allocation.at("devices"), path.of("devices"));
    list(
        devices.items("results"),
        RESULTS_MAX,
        &at.of("results"),
        errors,
        &mut |r, path, errors| {
            requests.check(r.text("request"), &path.of("request"), errors);
            named(r, path, errors);
            binding(r, path, errors);
            tolerations(r.items("tolerations"), &path.of("tolerations"), errors);
        },
    );
    // Those of the class and those of the claim.
    list(
        devices.items("config"),
        2 * CONFIGS_MAX,
        &at.of("config"),
        errors,
        &mut |c, path, errors| {
            errors.choice(c, path, "source", &["FromClaim", "FromClass"]);
            requests.check_all(c.items("requests"), &path.of("requests"), errors);
            configuration(c, path, errors);
        },
    );
    if allocation.has("nodeSelector") {
        scheduling::node_selector(allocation.at("nodeSelector"), &path.of("nodeSelector"), errors);
    }
}

fn named(device: &Value, path: &Path, errors: &mut Errors) {
    names::driver(device.text("driver"), &path.of("driver"), errors);
    pool(device.text("pool"), &path.of("pool"), errors);
    label(device.text("device"), &path.of("device"), errors);
    if let Some(share) = device.at("shareID").as_str() {
        uid(share, &path.of("shareID"), errors);
    }
}

/// Conditions that a device waits for before a pod is bound, and that end the wait.
pub(super) fn binding(device: &Value, path: &Path, errors: &mut Errors) {
    let keys = ["bindingConditions", "bindingFailureConditions"];
    let [conditions, failures] = keys.map(|k| device.items(k));
    let [at, failures_at] = keys.map(|k| path.of(k));
    for (items, at) in [(conditions, &at), (failures, &failures_at)] {
        set(
            items,
            BINDING_CONDITIONS_MAX,
            itself,
            at,
            errors,
            &mut |name, path, errors| {
                let name = name.as_str().unwrap_or("");
                errors.all(path, name, qualified_name(name));
            },
        );
    }
    for (i, failure) in failures.iter().enumerate().filter(|(_, f)| conditions.contains(f)) {
        let text = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&failures_at.at(i), failure.clone(), text);
    }
    match (conditions.is_empty(), failures.is_empty()) {
        (true, false) => {
            let text = "bindingConditions are required to use bindingFailureConditions";
            errors.invalid(&at, device.at(keys[0]).clone(), text);
        }
        (false, true) => {
            let text = "bindingFailureConditions are required to use bindingConditions";
            errors.invalid(&failures_at, device.at(keys[1]).clone(), text);
        }
        _ => {}
    }
}

/// What a driver says of one allocated device.
fn device(device: &Value, allocated: &BTreeSet<String>, path: &Path, errors: &mut Errors) {
    named(device, path, errors);
    let id = device_id(device);
    if !allocated.contains(&id) {
        errors.invalid(path, id, "must be an allocated device in the claim");
    }
    let (conditions, at) = (device.items("conditions"), path.of("conditions"));
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(&at, conditions.len(), CONDITIONS_MAX);
    }
    conditions::check(conditions, &at, errors);
    if device.has("data") {
        raw(device.at("data"), DATA_BYTES_MAX, &path.of("data"), errors);
    }
    let (network, at) = (device.at("networkData"), path.of("networkData"));
    for (key, max) in [
        ("interfaceName", INTERFACE_BYTES_MAX),
        ("hardwareAddress", HARDWARE_ADDRESS_BYTES_MAX),
    ] {
        if network.text(key).len() > max {
            errors.too_long(&at.of(key), max);
        }
    }
    set(
        network.items("ips"),
        ADDRESSES_MAX,
        itself,
        &at.of("ips"),
        errors,
        &mut |ip, path, errors| {
            address::interface(path, ip.as_str().unwrap_or(""), errors);
        },
    );
}

/// The status of a new claim.
pub(super) fn empty(claim: &mut Value) {
    if claim.is_object() {
        claim["status"] = json!({});
    }
}
