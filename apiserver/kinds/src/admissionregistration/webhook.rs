//! Webhook configurations.

use super::matching;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, integer};
use crate::rules::Rules;
use crate::tree::{Tree, each, existing, set_default, set_text};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[NAME, integer("Webhooks", "Number of webhooks."), AGE];

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

fn defaults(o: &mut Value, mutating: bool) {
    for hook in each(o, "webhooks").filter(|h| h.is_object()) {
        set_text(hook, "failurePolicy", "Fail");
        matching::default_selectors(hook);
        set_default(hook, "timeoutSeconds", 10);
        if mutating {
            set_text(hook, "reinvocationPolicy", "Never");
        }
        matching::default_rules(hook, "rules");
        if let Some(service) = existing(hook, "clientConfig").and_then(|c| existing(c, "service")) {
            set_default(service, "port", 443);
        }
    }
}

fn validate(o: &Value, mutating: bool, errors: &mut Errors) {
    let list = Path::new("webhooks");
    let mut seen = std::collections::BTreeSet::new();
    for (i, hook) in o.items("webhooks").iter().enumerate() {
        let path = list.at(i);
        one(hook, &path, mutating, errors);
        review_versions(hook, &path.of("admissionReviewVersions"), errors);
        let name = hook.text("name");
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&path.of("name"), name);
        }
    }
}

fn one(hook: &Value, path: &Path, mutating: bool, errors: &mut Errors) {
    qualified(hook.text("name"), &path.of("name"), errors);
    let rules = path.of("rules");
    for (i, rule) in hook.items("rules").iter().enumerate() {
        matching::rule(rule, &rules.at(i), errors);
    }
    errors.optional_choice(hook, path, "failurePolicy", matching::FAILURE_POLICIES);
    match hook.text("sideEffects") {
        "" => errors.required(&path.of("sideEffects"), "must specify one of None, NoneOnDryRun"),
        text if SIDE_EFFECTS.contains(&text) => {}
        text => errors.not_supported(&path.of("sideEffects"), text, SIDE_EFFECTS),
    }
    if let Some(t) = hook.int("timeoutSeconds").filter(|t| !(1..=30).contains(t)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.of("timeoutSeconds"), t, why);
    }
    matching::selectors(hook, path, errors);
    if mutating {
        errors.optional_choice(hook, path, "reinvocationPolicy", matching::REINVOCATION_POLICIES);
    }
    client(hook.at("clientConfig"), &path.of("clientConfig"), errors);
    matching::conditions(hook, path, errors);
}

fn qualified(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let wrong = names::dns_subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(path, name, &wrong.join(","));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, name, why);
    }
}

fn review_versions(hook: &Value, path: &Path, errors: &mut Errors) {
    let versions = hook.items("admissionReviewVersions");
    if versions.is_empty() {
        return errors.required(path, "must specify one of v1, v1beta1");
    }
    let mut seen = std::collections::BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        let version = version.as_str().unwrap_or("");
        if !seen.insert(version) {
            errors.invalid(&path.at(i), version, "duplicate version");
            continue;
        }
        errors.all(&path.at(i), version, names::dns_1035_label(version));
    }
    if !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        errors.invalid(path, versions.to_vec(), "must include at least one of v1, v1beta1");
    }
}

fn client(client: &Value, path: &Path, errors: &mut Errors) {
    match (client.at("url").as_str(), client.at("service")) {
        (Some(url), Value::Null) => self::url(url, &path.of("url"), errors),
        (None, service @ Value::Object(_)) => self::service(service, &path.of("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(text: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    if text.chars().any(char::is_control) {
        let why = format!("url must be a valid URL: parse {text:?}: net/url: invalid control character in URL{FORM}");
        return errors.required(path, &why);
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or("")
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        errors.invalid(path, scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, &format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &Path, errors: &mut Errors) {
    if service.text("name").is_empty() {
        errors.required(&path.of("name"), "service name is required");
    }
    if service.text("namespace").is_empty() {
        errors.required(&path.of("namespace"), "service namespace is required");
    }
    let port = service.int("port").unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.of("port"), port, why);
    }
    let at = path.of("path");
    let text = service.text("path");
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return errors.invalid(&at, text, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        errors.invalid(&at, text, "must start with a '/'");
    }
    let mut rest = text.chars();
    rest.next();
    let steps = rest.as_str();
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, text, &format!("segment[{i}] may not be empty"));
        }
        for why in names::dns_subdomain(step).into_iter().filter(|_| !step.is_empty()) {
            errors.invalid(&at, text, &format!("segment[{i}]: {why}"));
        }
    }
}

const BASE: Rules = Rules {
    generation: true,
    row: |o, now| vec![cell::name(o), cell::count(o, "webhooks"), cell::age(o, now)],
    ..Rules::BASE
};

pub(super) static MUTATING: Rules = Rules {
    default: |o| defaults(o, true),
    validate: |o| gather(|errors| validate(o, true, errors)),
    ..BASE
};

pub(super) static VALIDATING: Rules = Rules {
    default: |o| defaults(o, false),
    validate: |o| gather(|errors| validate(o, false, errors)),
    ..BASE
};
