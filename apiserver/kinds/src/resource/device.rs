//! Devices of a slice: attributes, capacities, counters, taints, nodes.

use super::allocation::binding;
use super::names::{label, list, map, qualified, set};
use super::request::taint;
use crate::check::{Errors, Path, same};
use crate::core::pod::scheduling;
use crate::names::dns_subdomain;
use crate::quantity::{self, Quantity};
use crate::tree::Tree;
use serde_json::Value;

const MEMBERS_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const VALUE_BYTES_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
pub(super) const COUNTERS_MAX: usize = 32;
const OPTIONS_MAX: usize = 10;

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// `before` is the device of that name as it was; what did not change is let be.
pub(super) fn check(device: &Value, before: Option<&Value>, chooses_nodes: bool, path: &Path, errors: &mut Errors) {
    label(device.text("name"), &path.of("name"), errors);
    sizes(device, path, errors);
    map(
        device.at("attributes"),
        usize::MAX,
        &path.of("attributes"),
        errors,
        qualified,
        &mut attribute,
    );
    let unchanged = |key: &str| before.is_some_and(|b| same(b.at(key), device.at(key)));
    if !unchanged("capacity") {
        let shared = device.flag("allowMultipleAllocations");
        let at = path.of("capacity");
        map(
            device.at("capacity"),
            usize::MAX,
            &at,
            errors,
            qualified,
            &mut |c, path, errors| {
                let at = path.of("requestPolicy");
                match (c.has("requestPolicy"), shared) {
                    (false, _) => {}
                    (true, true) => policy(c.at("requestPolicy"), c.at("value"), &at, errors),
                    (true, false) => errors.forbidden(&at, "allowMultipleAllocations must be true"),
                }
            },
        );
    }
    if !unchanged("taints") {
        list(
            device.items("taints"),
            TAINTS_MAX,
            &path.of("taints"),
            errors,
            &mut taint,
        );
    }
    let at = path.of("consumesCounters");
    let by_set = |c: &Value| c.text("counterSet").into();
    set(
        device.items("consumesCounters"),
        CONSUMPTIONS_MAX,
        by_set,
        &at,
        errors,
        &mut |c, path, errors| {
            counters(c, "counterSet", path, errors);
        },
    );
    nodes(device, chooses_nodes, path, errors);
    binding(device, path, errors);
}

/// A named set of counters: `key` holds its name.
pub(super) fn counters(counters: &Value, key: &str, path: &Path, errors: &mut Errors) {
    match counters.text(key) {
        "" => errors.required(&path.of(key), ""),
        name => label(name, &path.of(key), errors),
    }
    let at = path.of("counters");
    if counters.map("counters").is_none_or(serde_json::Map::is_empty) {
        return errors.required(&at, "");
    }
    map(
        counters.at("counters"),
        COUNTERS_MAX,
        &at,
        errors,
        label,
        &mut |_, _, _| {},
    );
}

fn sizes(device: &Value, path: &Path, errors: &mut Errors) {
    let count = |key: &str| device.map(key).map_or(0, serde_json::Map::len);
    let members = count("attributes") + count("capacity");
    if members > MEMBERS_MAX {
        let text = format!("the total number of attributes and capacities must not exceed {MEMBERS_MAX}");
        errors.invalid(path, members, &text);
    }
    let of = |attribute: &Value| LISTS.iter().map(|l| attribute.items(l).len()).sum::<usize>().max(1);
    let attributes = device.map("attributes").into_iter().flatten();
    let values: usize = attributes.map(|(_, a)| of(a)).sum();
    if values > VALUES_MAX {
        let text = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        errors.invalid(path, values, &text);
    }
}

fn attribute(attribute: &Value, path: &Path, errors: &mut Errors) {
    let text = |value: &Value, version: bool, path: &Path, errors: &mut Errors| {
        let value = value.as_str().unwrap_or("");
        if version && !is_semantic_version(value) {
            errors.invalid(path, value, "must be a string compatible with semver.org spec 2.0.0");
        }
        if value.len() > VALUE_BYTES_MAX {
            errors.too_long(path, VALUE_BYTES_MAX);
        }
    };
    for key in ["string", "version"] {
        if attribute.has(key) {
            text(attribute.at(key), key == "version", &path.of(key), errors);
        }
    }
    for key in LISTS {
        let (items, at) = (attribute.items(key), path.of(key));
        if attribute.has(key) && items.is_empty() {
            errors.invalid(&at, attribute.at(key).clone(), "must not be empty if specified");
        }
        for (i, item) in items
            .iter()
            .enumerate()
            .filter(|_| matches!(key, "strings" | "versions"))
        {
            text(item, key == "versions", &at.at(i), errors);
        }
    }
    let single = ["bool", "int", "string", "version"];
    match single.iter().chain(&LISTS).filter(|k| attribute.has(k)).count() {
        1 => {}
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        _ => errors.invalid(path, attribute.clone(), "exactly one value must be specified"),
    }
}

/// `1.2.3-alpha.1+build`.
fn is_semantic_version(text: &str) -> bool {
    let numeric = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let plain_number = |s: &str| numeric(s) && (s == "0" || !s.starts_with('0'));
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (rest, build) = text.split_once('+').map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, release) = rest.split_once('-').map_or((rest, None), |(c, r)| (c, Some(r)));
    core.split('.').count() == 3
        && core.split('.').all(plain_number)
        && release.is_none_or(|r| r.split('.').all(|s| word(s) && (!numeric(s) || plain_number(s))))
        && build.is_none_or(|b| b.split('.').all(word))
}

fn amount(value: &Value) -> Option<Quantity> {
    quantity::parse(value)
}

/// How much of a shared capacity a request may take.
fn policy(policy: &Value, capacity: &Value, path: &Path, errors: &mut Errors) {
    let (values, range) = (policy.items("validValues"), policy.has("validRange"));
    let (default, at) = (policy.at("default"), path.of("default"));
    let Some(capacity) = amount(capacity) else { return };
    match (values.is_empty(), range) {
        (false, true) => {
            let text = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(path, text);
        }
        (true, false) => {}
        (false, false) => match amount(default) {
            None => errors.required(&at, "required when validValues is defined"),
            Some(default) => options(values, default, capacity, &path.of("validValues"), errors),
        },
        (true, true) => match amount(default) {
            None => errors.required(&at, "required when validRange is defined"),
            Some(default) => in_range(
                policy.at("validRange"),
                default,
                capacity,
                &path.of("validRange"),
                errors,
            ),
        },
    }
}

fn options(values: &[Value], default: Quantity, capacity: Quantity, path: &Path, errors: &mut Errors) {
    let amounts: Vec<Quantity> = values.iter().filter_map(amount).collect();
    for (i, pair) in amounts.windows(2).enumerate().filter(|(_, pair)| pair[0] > pair[1]) {
        errors.invalid(
            &path.at(i + 1),
            pair[1].to_string(),
            "values must be sorted in ascending order",
        );
    }
    let key = |v: &Value| amount(v).map_or(0, |q| q.value()).to_string().into();
    set(values, OPTIONS_MAX, key, path, errors, &mut |value, path, errors| {
        if let Some(option) = amount(value).filter(|q| *q > capacity) {
            let text = format!("option is larger than capacity value: {capacity}");
            errors.invalid(path, option.to_string(), &text);
        }
    });
    if values.len() > OPTIONS_MAX || !amounts.contains(&default) {
        let text = "default value is not valid according to the requestPolicy";
        errors.invalid(path, default.to_string(), text);
    }
}

fn in_range(range: &Value, default: Quantity, capacity: Quantity, path: &Path, errors: &mut Errors) {
    let Some(min) = amount(range.at("min")) else {
        return errors.required(&path.of("min"), "required when validRange is defined");
    };
    let mut wrong = |when: bool, key: &str, value: Quantity, text: String| {
        if when {
            errors.invalid(&path.of(key), value.to_string(), &text);
        }
    };
    let max = amount(range.at("max"));
    wrong(
        min > capacity,
        "min",
        min,
        format!("min is larger than capacity value: {capacity}"),
    );
    wrong(
        default < min,
        "default",
        default,
        format!("default is less than min: {min}"),
    );
    if let Some(max) = max {
        wrong(min > max, "max", min, format!("min is larger than max: {max}"));
        wrong(
            max > capacity,
            "max",
            max,
            format!("max is larger than capacity value: {capacity}"),
        );
        wrong(
            default > max,
            "default",
            default,
            format!("default is more than max: {max}"),
        );
    }
    let Some(step) = amount(range.at("step")) else { return };
    if step.sign() <= 0 {
        return wrong(true, "step", step, "must be greater than zero".into());
    }
    let next = min + step;
    let text = format!("one step {next} is larger than capacity value: {capacity}");
    wrong(next > capacity, "step", step, text);
    for value in [Some(default), max].into_iter().flatten() {
        let above = value.value().saturating_sub(min.value());
        let text = format!("value is not a multiple of a given step ({step}) from ({min})");
        wrong(above % step.value().max(1) != 0, "step", value, text);
    }
}

/// Where the device is, if its slice leaves that to the devices.
fn nodes(device: &Value, chooses: bool, path: &Path, errors: &mut Errors) {
    let keys = ["nodeName", "nodeSelector", "allNodes"];
    if !chooses {
        if keys.iter().any(|k| device.has(k)) {
            let text = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.invalid(path, "null", text);
        }
        return;
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let set = placement(device, &keys, "must not be empty", path, errors);
    match set.len() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", set.join(", ")), ONE),
    }
}

/// Which of the ways to name nodes are used, each checked.
pub(super) fn placement(holder: &Value, keys: &[&str], no_name: &str, path: &Path, errors: &mut Errors) -> Vec<String> {
    let mut set = Vec::new();
    for key in keys {
        let at = path.of(key);
        match holder.at(key) {
            Value::Null => continue,
            Value::String(name) if name.is_empty() => {
                errors.invalid(&at, "", no_name);
                continue;
            }
            Value::String(name) => errors.all(&at, name, dns_subdomain(name)),
            Value::Bool(false) => {
                errors.invalid(&at, false, "must be either unset or set to true");
                continue;
            }
            Value::Bool(true) => {}
            selector => scheduling::node_selector(selector, &at, errors),
        }
        set.push(format!("`{key}`"));
    }
    set
}

#[cfg(test)]
mod tests {
    use super::is_semantic_version;

    #[test]
    fn versions() {
        for text in [
            "0.0.0",
            "1.2.3",
            "1.2.3-alpha.1",
            "1.2.3-0a.-",
            "1.2.3+001",
            "1.2.3-rc-1+build.5",
        ] {
            assert!(is_semantic_version(text), "{text}");
        }
        for text in [
            "",
            "1.2",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "v1.2.3",
            "1.2.3.4",
            "1.2.3-a..b",
            "1.2.3+a_b",
        ] {
            assert!(!is_semantic_version(text), "{text}");
        }
    }
}
