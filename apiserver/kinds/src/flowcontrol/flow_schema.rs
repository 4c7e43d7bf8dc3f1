//! Flow schemas: which requests go to which priority level.

use super::{conditions, mandatory};
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_int};
use serde_json::Value;

const PRECEDENCE_MAX: i64 = 10000;
const VERBS: [&str; 11] = [
    "connect",
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
    "*",
];

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("PriorityLevel", "Priority level it leads to."),
    integer("MatchingPrecedence", "Lower numbers are tried first."),
    text("DistinguisherMethod", "How flows are told apart."),
    AGE,
    text("MissingPL", "Whether its priority level is missing."),
];

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        if let Some(spec) = object(o, "spec") {
            set_int(spec, "matchingPrecedence", 1000);
        }
    },
    validate: |o| gather(|errors| validate(o, errors)),
    row: |o, now| {
        let missing = o
            .items("status.conditions")
            .iter()
            .find(|c| c.text("type") == "Dangling");
        vec![
            cell::name(o),
            cell::text(o, "spec.priorityLevelConfiguration.name"),
            cell::number(o, "spec.matchingPrecedence"),
            cell::text_or(o, "spec.distinguisherMethod.type", "<none>"),
            cell::age(o, now),
            missing.map_or("?", |c| c.text("status")).into(),
        ]
    },
    ..Rules::SPLIT
};

fn validate(o: &Value, errors: &mut Errors) {
    let spec = o.at("spec");
    let path = Path::new("spec");
    let at = path.of("matchingPrecedence");
    let precedence = spec.int("matchingPrecedence").unwrap_or(0);
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        errors.invalid(&at, precedence, &format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && o.text("metadata.name") != "exempt" {
        errors.invalid(
            &at,
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
    if spec.has("distinguisherMethod") {
        let kind = spec.text("distinguisherMethod.type");
        if !matches!(kind, "ByUser" | "ByNamespace") {
            let method = path.of("distinguisherMethod");
            errors.not_supported(&method.of("type"), kind, &["ByNamespace", "ByUser"]);
        }
    }
    let level = path.of("priorityLevelConfiguration");
    match spec.text("priorityLevelConfiguration.name") {
        "" => errors.required(&level.of("name"), "must reference a priority level"),
        name => errors.all(&level.of("name"), name, names::dns_subdomain(name)),
    }
    let rules = path.of("rules");
    for (index, rule) in spec.items("rules").iter().enumerate() {
        self::rule(rule, &rules.at(index), errors);
    }
    mandatory(o, "FlowSchema", None, errors);
    conditions(o, errors);
}

fn rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let (subjects, resources, paths) = (
        path.of("subjects"),
        path.of("resourceRules"),
        path.of("nonResourceRules"),
    );
    if rule.items("subjects").is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for (index, one) in rule.items("subjects").iter().enumerate() {
        subject(one, &subjects.at(index), errors);
    }
    if rule.items("resourceRules").is_empty() && rule.items("nonResourceRules").is_empty() {
        errors.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for (index, one) in rule.items("resourceRules").iter().enumerate() {
        resource_rule(one, &resources.at(index), errors);
    }
    for (index, one) in rule.items("nonResourceRules").iter().enumerate() {
        path_rule(one, &paths.at(index), errors);
    }
}

/// Kinds of subjects, and the member that describes each.
const SUBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
    ("Group", "group"),
];

fn subject(subject: &Value, path: &Path, errors: &mut Errors) {
    let kind = subject.text("kind");
    let Some((_, member)) = SUBJECTS.iter().find(|(name, _)| *name == kind) else {
        errors.not_supported(&path.of("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let at = path.of(member);
    if !subject.at(member).is_object() {
        errors.required(&at, &format!("{member} is required when subject kind is '{kind}'"));
    } else {
        let name = subject.at(member).text("name");
        if name.is_empty() {
            errors.required(&at.of("name"), "");
        } else if kind == "ServiceAccount" && name != "*" {
            errors.all(&at.of("name"), name, names::dns_subdomain(name));
        }
        if kind == "ServiceAccount" {
            match subject.at(member).text("namespace") {
                "" => errors.required(&at.of("namespace"), "must specify namespace for service account"),
                namespace => errors.all(&at.of("namespace"), namespace, names::dns_label(namespace)),
            }
        }
    }
    for (other, member) in SUBJECTS.iter().filter(|(name, _)| *name != kind) {
        if subject.has(member) {
            let text = format!("{member} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.of(member), &text);
        }
    }
}

fn has_any(list: &[Value]) -> bool {
    list.iter().any(|entry| entry == "*")
}

fn verbs(rule: &Value, path: &Path, errors: &mut Errors) {
    let (list, at) = (rule.items("verbs"), path.of("verbs"));
    if list.is_empty() {
        errors.required(&at, "verbs must contain at least one value");
    } else if has_any(list) {
        if list.len() > 1 {
            errors.invalid(&at, list.to_vec(), "if '*' is present, must not specify other verbs");
        }
    } else if let Some(unknown) = list.iter().find(|v| !VERBS.iter().any(|known| *v == known)) {
        errors.not_supported(&at, unknown.as_str().unwrap_or(""), &VERBS[..VERBS.len() - 1]);
    }
}

/// A list that must not be empty, and in which `*` stands alone.
fn list(rule: &Value, path: &Path, key: &str, required: &str, others: &str, errors: &mut Errors) {
    let (list, at) = (rule.items(key), path.of(key));
    if list.is_empty() {
        errors.required(&at, required);
    } else if list.len() > 1 && has_any(list) {
        errors.invalid(
            &at,
            list.to_vec(),
            &format!("if '*' is present, must not specify other {others}"),
        );
    }
}

fn resource_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, path, errors);
    let required = "resource rules must supply at least one api group";
    list(rule, path, "apiGroups", required, "api groups", errors);
    let required = "resource rules must supply at least one resource";
    list(rule, path, "resources", required, "resources", errors);
    let (namespaces, at) = (rule.items("namespaces"), path.of("namespaces"));
    if namespaces.is_empty() && !rule.flag("clusterScope") {
        errors.required(
            &at,
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if has_any(namespaces) {
        if namespaces.len() > 1 {
            errors.invalid(
                &at,
                namespaces.to_vec(),
                "if '*' is present, must not specify other namespaces",
            );
        }
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            let namespace = namespace.as_str().unwrap_or("");
            for fault in names::dns_label(namespace) {
                let text = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
                errors.invalid(&at.at(index), namespace, &text);
            }
        }
    }
}

fn path_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, path, errors);
    let required = "nonResourceURLs must contain at least one value";
    list(rule, path, "nonResourceURLs", required, "non-resource URLs", errors);
    let urls = rule.items("nonResourceURLs");
    if has_any(urls) {
        return;
    }
    let at = path.of("nonResourceURLs");
    for (index, url) in urls.iter().enumerate() {
        let url = url.as_str().unwrap_or("");
        if let Some(fault) = url_fault(url) {
            errors.invalid(&at.at(index), url, fault);
        }
    }
}

fn url_fault(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    if url.is_empty() {
        Some("must not be empty")
    } else if url == "/" {
        None
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || (stars == 1 && !url.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}
