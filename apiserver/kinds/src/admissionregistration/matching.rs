//! Rules and selectors that webhooks and policies have in common: defaults and
//! validation.

use crate::check::{Errors, Path};
use crate::names;
use crate::selector;
use crate::tree::{Tree, each, set_default, set_text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub(super) const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
/// Most match conditions of one webhook or policy.
const CONDITIONS_MAX: usize = 64;

pub(super) fn default_rules(parent: &mut Value, list: &str) {
    for rule in each(parent, list) {
        set_text(rule, "scope", "*");
    }
}

pub(super) fn default_selectors(parent: &mut Value) {
    set_text(parent, "matchPolicy", "Equivalent");
    set_default(parent, "namespaceSelector", json!({}));
    set_default(parent, "objectSelector", json!({}));
}

/// `matchConstraints` or `matchResources`.
pub(super) fn default_resources(resources: &mut Value) {
    default_selectors(resources);
    default_rules(resources, "resourceRules");
    default_rules(resources, "excludeResourceRules");
}

pub(super) fn selectors(parent: &Value, path: &Path, errors: &mut Errors) {
    errors.optional_choice(parent, path, "matchPolicy", MATCH_POLICIES);
    for key in ["namespaceSelector", "objectSelector"] {
        selector::validate(parent.at(key), &path.of(key), errors);
    }
}

pub(super) fn resources(resources: &Value, path: &Path, errors: &mut Errors) {
    selectors(resources, path, errors);
    for key in ["resourceRules", "excludeResourceRules"] {
        let list = path.of(key);
        for (i, rule) in resources.items(key).iter().enumerate() {
            let at = list.at(i);
            resource_names(rule, &at.of("resourceNames"), errors);
            self::rule(rule, &at, errors);
        }
    }
}

fn resource_names(rule: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, name) in rule.items("resourceNames").iter().enumerate() {
        let name = name.as_str().unwrap_or("");
        errors.all(&path.at(i), name, names::path_segment(name));
        if !seen.insert(name) {
            errors.duplicate(&path.at(i), name);
        }
    }
}

pub(super) fn rule(rule: &Value, path: &Path, errors: &mut Errors) {
    wildcard_alone(rule, path, "operations", "operations", errors);
    let operations = path.of("operations");
    for (i, operation) in rule.items("operations").iter().enumerate() {
        let operation = operation.as_str().unwrap_or("");
        if !OPERATIONS.contains(&operation) {
            errors.not_supported(&operations.at(i), operation, OPERATIONS);
        }
    }
    wildcard_alone(rule, path, "apiGroups", "API groups", errors);
    wildcard_alone(rule, path, "apiVersions", "API versions", errors);
    let versions = path.of("apiVersions");
    for (i, version) in rule.items("apiVersions").iter().enumerate() {
        if version.as_str().is_none_or(str::is_empty) {
            errors.required(&versions.at(i), "");
        }
    }
    rule_resources(rule, &path.of("resources"), errors);
    errors.optional_choice(rule, path, "scope", SCOPES);
}

fn wildcard_alone(rule: &Value, path: &Path, key: &str, what: &str, errors: &mut Errors) {
    let list = rule.items(key);
    if list.is_empty() {
        errors.required(&path.of(key), "");
    } else if list.len() > 1 && list.iter().any(|item| item == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&path.of(key), list.to_vec(), &why);
    }
}

fn rule_resources(rule: &Value, path: &Path, errors: &mut Errors) {
    let list = rule.items("resources");
    if list.is_empty() {
        errors.required(path, "");
    }
    let (mut all_of, mut sub_of_all) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (i, item) in list.iter().enumerate() {
        let text = item.as_str().unwrap_or("");
        if text.is_empty() {
            errors.required(&path.at(i), "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_of.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&path.at(i), text, &why);
        }
        if sub_of_all.contains(sub) {
            let why = format!("if '*/{sub}' is present, must not specify {text}");
            errors.invalid(&path.at(i), text, &why);
        }
        if sub == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            sub_of_all.insert(sub);
        }
    }
    let has = |text: &str| list.iter().any(|item| item == text);
    if list.len() > 1 && has("*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, list.to_vec(), why);
    }
    if has("*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, list.to_vec(), why);
    }
}

/// Names of match conditions; their expressions are admission's to compile.
pub(super) fn conditions(parent: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("matchConditions");
    let conditions = parent.items("matchConditions");
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(&list, conditions.len(), CONDITIONS_MAX);
    }
    let mut seen = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = list.at(i);
        if condition.text("expression").trim().is_empty() {
            errors.required(&at.of("expression"), "");
        }
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&at.of("name"), "");
            continue;
        }
        errors.all(&at.of("name"), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at.of("name"), name);
        }
    }
}
