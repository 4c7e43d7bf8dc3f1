//! What a claim asks for: requests, constraints among them, configuration.

use super::names::{self, by_name, fully_qualified, itself, label, list, set, subdomain};
use crate::check::{Errors, Path};
use crate::names::{label_value, qualified_name};
use crate::tree::{Tree, each, existing, set_int, set_text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
pub(super) const CONFIGS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const SELECTORS_MAX: usize = 32;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;

/// Defaults of a claim's spec.
pub(super) fn defaults(spec: &mut Value) {
    let Some(devices) = existing(spec, "devices") else {
        return;
    };
    for request in each(devices, "requests") {
        if let Some(exactly) = existing(request, "exactly") {
            request_defaults(exactly);
        }
        each(request, "firstAvailable").for_each(request_defaults);
    }
}

fn request_defaults(request: &mut Value) {
    if !request.is_object() {
        return;
    }
    set_text(request, "allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        set_int(request, "count", 1);
    }
    tolerations_default(request);
}

pub(super) fn tolerations_default(holder: &mut Value) {
    each(holder, "tolerations").for_each(|t| set_text(t, "operator", "Equal"));
}

/// Requests of a claim by name, each with its alternatives.
pub(super) struct Names<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Names<'a> {
    pub fn of(spec: &'a Value) -> Self {
        let requests = spec.items("devices.requests").iter().map(|request| {
            let alternatives = request.items("firstAvailable").iter().map(|a| a.text("name"));
            (request.text("name"), alternatives.collect())
        });
        Self(requests.collect())
    }

    /// Checks `request` or `request/alternative`.
    pub fn check(&self, name: &str, path: &Path, errors: &mut Errors) {
        const UNKNOWN: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let parts: Vec<&str> = name.splitn(3, '/').collect();
        if parts.len() > 2 {
            return errors.invalid(path, name, UNKNOWN);
        }
        parts.iter().for_each(|part| label(part, path, errors));
        let request = self.0.get(parts[0]);
        let known = match (request, parts.get(1)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(alternatives), Some(alternative)) => alternatives.contains(alternative),
        };
        if !known {
            errors.invalid(path, name, UNKNOWN);
        }
    }

    pub fn check_all(&self, requests: &[Value], path: &Path, errors: &mut Errors) {
        set(
            requests,
            REQUESTS_MAX,
            itself,
            path,
            errors,
            &mut |name, path, errors| {
                self.check(name.as_str().unwrap_or(""), path, errors);
            },
        );
    }
}

pub(super) fn claim_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let names = Names::of(spec);
    let (devices, path) = (spec.at("devices"), path.of("devices"));
    set(
        devices.items("requests"),
        REQUESTS_MAX,
        by_name,
        &path.of("requests"),
        errors,
        &mut request,
    );
    list(
        devices.items("constraints"),
        CONSTRAINTS_MAX,
        &path.of("constraints"),
        errors,
        &mut |constraint, path, errors| {
            names.check_all(constraint.items("requests"), &path.of("requests"), errors);
            let attribute = |key: &str| constraint.at(key).as_str();
            match (attribute("matchAttribute"), attribute("distinctAttribute")) {
                (Some(name), _) => fully_qualified(name, &path.of("matchAttribute"), errors),
                (None, Some(name)) => fully_qualified(name, &path.of("distinctAttribute"), errors),
                (None, None) => {
                    let text = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                    errors.required(path, text);
                }
            }
        },
    );
    list(
        devices.items("config"),
        CONFIGS_MAX,
        &path.of("config"),
        errors,
        &mut |config, path, errors| {
            names.check_all(config.items("requests"), &path.of("requests"), errors);
            configuration(config, path, errors);
        },
    );
}

fn request(request: &Value, path: &Path, errors: &mut Errors) {
    label(request.text("name"), &path.of("name"), errors);
    let alternatives = request.items("firstAvailable");
    match (alternatives.is_empty(), request.has("exactly")) {
        (true, false) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (false, true) => {
            let text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, "null", text);
        }
        (true, true) => asked(request.at("exactly"), &path.of("exactly"), errors),
        (false, false) => {
            let at = path.of("firstAvailable");
            set(
                alternatives,
                ALTERNATIVES_MAX,
                by_name,
                &at,
                errors,
                &mut |alternative, path, errors| {
                    label(alternative.text("name"), &path.of("name"), errors);
                    asked(alternative, path, errors);
                },
            );
        }
    }
}

fn asked(request: &Value, path: &Path, errors: &mut Errors) {
    match request.text("deviceClassName") {
        "" => errors.required(&path.of("deviceClassName"), ""),
        class => subdomain(class, &path.of("deviceClassName"), errors),
    }
    selectors(request.items("selectors"), &path.of("selectors"), errors);
    let (count, at) = (request.int("count").unwrap_or(0), path.of("count"));
    match request.text("allocationMode") {
        "All" if count != 0 => errors.invalid(&at, count, "must not be specified when allocationMode is 'All'"),
        "ExactCount" if count <= 0 => errors.invalid(&at, count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => errors.not_supported(&path.of("allocationMode"), other, &["All", "ExactCount"]),
    }
    tolerations(request.items("tolerations"), &path.of("tolerations"), errors);
}

pub(super) fn selectors(selectors: &[Value], path: &Path, errors: &mut Errors) {
    list(selectors, SELECTORS_MAX, path, errors, &mut |selector, path, errors| {
        let at = path.of("cel");
        if selector.has("cel") {
            super::selector::check(selector.text("cel.expression"), &at.of("expression"), errors);
        } else {
            errors.required(&at, "");
        }
    });
}

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

pub(super) fn tolerations(tolerations: &[Value], path: &Path, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.at(i);
        errors.name_at(toleration, &path, "key", qualified_name);
        let (value, at) = (toleration.text("value"), path.of("value"));
        match toleration.text("operator") {
            "Exists" if !value.is_empty() => errors.invalid(&at, value, "must be empty for operator `Exists`"),
            "Exists" => {}
            "Equal" => errors.all(&at, value, label_value(value)),
            "" => errors.required(&path.of("operator"), ""),
            other => errors.not_supported(&path.of("operator"), other, &["Equal", "Exists"]),
        }
        errors.optional_choice(toleration, &path, "effect", EFFECTS);
    }
}

pub(super) fn taint(taint: &Value, path: &Path, errors: &mut Errors) {
    let key = taint.text("key");
    errors.all(&path.of("key"), key, qualified_name(key));
    errors.name_at(taint, path, "value", label_value);
    errors.choice(taint, path, "effect", EFFECTS);
}

/// What a driver is told in words of its own.
pub(super) fn configuration(config: &Value, path: &Path, errors: &mut Errors) {
    let (opaque, at) = (config.at("opaque"), path.of("opaque"));
    if opaque.is_null() {
        return errors.required(&at, "");
    }
    names::driver(opaque.text("driver"), &at.of("driver"), errors);
    raw(
        opaque.at("parameters"),
        PARAMETERS_BYTES_MAX,
        &at.of("parameters"),
        errors,
    );
}

/// An object of any shape.
pub(super) fn raw(value: &Value, bytes_max: usize, path: &Path, errors: &mut Errors) {
    match value {
        Value::Null => errors.required(path, ""),
        value if value.to_string().len() > bytes_max => errors.too_long(path, bytes_max),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}
