//! Admission policies and their bindings. Expressions are compiled where they
//! are used, in admission; here is what can be told without.

use super::matching;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::selector;
use crate::tree::{Tree, existing, object, set_text};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) const VALIDATING_COLUMNS: &[Column] = &[
    NAME,
    integer("Validations", "Number of validations."),
    text("ParamKind", "Kind of its parameters."),
    AGE,
];
pub(super) const MUTATING_COLUMNS: &[Column] = &[
    NAME,
    integer("Mutations", "Number of mutations."),
    text("ParamKind", "Kind of its parameters."),
    AGE,
];
pub(super) const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("PolicyName", "Policy it binds."),
    text("ParamRef", "Parameters it binds it with."),
    AGE,
];

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const ANNOTATIONS_MAX: usize = 20;
/// Longest expression of an audit annotation, in bytes.
const ANNOTATION_EXPRESSION_MAX: usize = 5 * 1024;

fn policy_defaults(o: &mut Value) {
    let Some(spec) = object(o, "spec") else { return };
    set_text(spec, "failurePolicy", "Fail");
    if let Some(constraints) = existing(spec, "matchConstraints") {
        matching::default_resources(constraints);
    }
}

fn binding_defaults(o: &mut Value) {
    if let Some(resources) = object(o, "spec").and_then(|s| existing(s, "matchResources")) {
        matching::default_resources(resources);
    }
}

fn param_kind(o: &Value) -> Value {
    match o.at("spec.paramKind") {
        Value::Null => "<unset>".into(),
        kind => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")).into(),
    }
}

fn binding_row(o: &Value, now: Timestamp) -> Vec<Value> {
    let p = o.at("spec.paramRef");
    let shown = match (p.is_object(), p.text("name"), p.text("namespace")) {
        (false, _, _) => "<unset>".to_string(),
        (true, "", _) if p.has("selector") => selector::text(p.at("selector")),
        (true, name, "") => name.to_string(),
        (true, name, namespace) => format!("{namespace}/{name}"),
    };
    vec![
        cell::name(o),
        cell::text(o, "spec.policyName"),
        shown.into(),
        cell::age(o, now),
    ]
}

/// What both kinds of policies have.
fn policy(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.choice(spec, path, "failurePolicy", matching::FAILURE_POLICIES);
    if spec.has("paramKind") {
        validate_param_kind(spec.at("paramKind"), &path.of("paramKind"), errors);
    }
    let constraints = path.of("matchConstraints");
    if spec.has("matchConstraints") {
        matching::resources(spec.at("matchConstraints"), &constraints, errors);
        if spec.items("matchConstraints.resourceRules").is_empty() {
            errors.required(&constraints.of("resourceRules"), "");
        }
    } else {
        errors.required(&constraints, "");
    }
    matching::conditions(spec, path, errors);
    let list = path.of("variables");
    for (i, variable) in spec.items("variables").iter().enumerate() {
        let at = list.at(i);
        let name = variable.text("name");
        if name.trim().is_empty() {
            errors.required(&at.of("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&at.of("name"), name, "name is not a valid CEL identifier");
        }
        expression(variable, &at, "expression", errors);
    }
}

fn expression(parent: &Value, path: &Path, key: &str, errors: &mut Errors) {
    if parent.text(key).trim().is_empty() {
        errors.required(&path.of(key), &format!("{key} is not specified"));
    }
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let fits = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.starts_with(|c: char| fits(c) && !c.is_ascii_digit()) && name.chars().all(fits) && !RESERVED.contains(&name)
}

fn validate_param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    let (at, version) = (path.of("apiVersion"), kind.text("apiVersion"));
    if version.is_empty() {
        errors.required(&at, "");
    } else if version.matches('/').count() > 1 {
        errors.invalid(&at, version, &format!("unexpected GroupVersion string: {version}"));
    } else {
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        let wrong = names::dns_subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            errors.invalid(&at, group, &wrong.join(","));
        }
        let wrong = names::dns_1035_label(short);
        if short.is_empty() {
            errors.invalid(&at, version, "version must be specified");
        } else if !wrong.is_empty() {
            errors.invalid(&at, short, &wrong.join(","));
        }
    }
    let name = kind.text("kind");
    let wrong = names::dns_1035_label(&name.to_ascii_lowercase());
    if name.is_empty() {
        errors.required(&path.of("kind"), "");
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.invalid(&path.of("kind"), name, &why);
    }
}

fn validations(o: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = o.at("spec");
    policy(spec, &path, errors);
    if spec.items("validations").is_empty() && spec.items("auditAnnotations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.of("validations"), why);
        errors.required(&path.of("auditAnnotations"), why);
        return;
    }
    let list = path.of("validations");
    for (i, validation) in spec.items("validations").iter().enumerate() {
        let at = list.at(i);
        expression(validation, &at, "expression", errors);
        let (message, by_expression) = (validation.text("message"), validation.text("messageExpression"));
        if !by_expression.is_empty() && by_expression.trim().is_empty() {
            errors.invalid(
                &at.of("messageExpression"),
                by_expression,
                "must be non-empty if specified",
            );
        }
        if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.of("message"), message, "message must be non-empty if specified");
        } else if message.trim().contains(['\n', '\r']) {
            errors.invalid(&at.of("message"), message, "message must not contain line breaks");
        }
        errors.optional_choice(validation, &at, "reason", REASONS);
    }
    annotations(o, &path.of("auditAnnotations"), errors);
}

fn annotations(o: &Value, path: &Path, errors: &mut Errors) {
    let annotations = o.items("spec.auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(path, annotations.to_vec(), &why);
    }
    let name = o.text("metadata.name");
    let mut seen = BTreeSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let (at, key) = (path.at(i), annotation.text("key"));
        if name.is_empty() {
            errors.invalid(&at.of("key"), key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{name}/{key}");
            errors.all(&at.of("key"), &whole, names::qualified_name(&whole));
        }
        expression(annotation, &at, "valueExpression", errors);
        if annotation.text("valueExpression").trim().len() > ANNOTATION_EXPRESSION_MAX {
            let why = format!("must not exceed {ANNOTATION_EXPRESSION_MAX} bytes in length");
            errors.required(&at.of("valueExpression"), &why);
        }
        if !seen.insert(key) {
            errors.duplicate(&at.of("key"), key);
        }
    }
}

fn mutations(o: &Value, errors: &mut Errors) {
    const TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];
    let path = Path::new("spec");
    let spec = o.at("spec");
    policy(spec, &path, errors);
    let list = path.of("mutations");
    if spec.items("mutations").is_empty() {
        errors.required(&list, "mutations must contain at least one item");
    }
    for (i, mutation) in spec.items("mutations").iter().enumerate() {
        let at = list.at(i);
        errors.choice(mutation, &at, "patchType", TYPES);
        let forms = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
        for (kind, key) in forms {
            let wanted = mutation.text("patchType") == kind;
            if wanted && !mutation.has(key) {
                errors.required(&at.of(key), &format!("must be specified when patchType is {kind}"));
            } else if wanted {
                expression(mutation.at(key), &at.of(key), "expression", errors);
            } else if mutation.has(key) && !mutation.text("patchType").is_empty() {
                errors.invalid_unshown(
                    &at.of(key),
                    &format!("must not be specified when patchType is not {kind}"),
                );
            }
        }
    }
    errors.choice(spec, &path, "reinvocationPolicy", matching::REINVOCATION_POLICIES);
}

fn binding(o: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = o.at("spec");
    let name = spec.text("policyName");
    if name.is_empty() {
        errors.required(&path.of("policyName"), "");
    } else {
        errors.all(&path.of("policyName"), name, names::dns_subdomain(name));
    }
    if spec.has("paramRef") {
        param_ref(spec.at("paramRef"), &path.of("paramRef"), errors);
    }
    if spec.has("matchResources") {
        // Upstream's own spelling of the path.
        matching::resources(spec.at("matchResources"), &path.of("matchResouces"), errors);
    }
}

fn param_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    let name = reference.text("name");
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        errors.all(&path.of("name"), name, names::path_segment(name));
        if reference.has("selector") {
            errors.forbidden(&path.of("name"), both);
        }
    }
    if reference.has("selector") {
        selector::validate(reference.at("selector"), &path.of("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.of("selector"), both);
        }
    }
    if name.is_empty() && !reference.has("selector") {
        errors.required(path, "one of name or selector must be specified");
    }
    errors.choice(reference, path, "parameterNotFoundAction", &["Deny", "Allow"]);
}

fn actions(o: &Value, errors: &mut Errors) {
    let path = Path::new("spec.validationActions");
    let list = o.items("spec.validationActions");
    let mut seen = BTreeSet::new();
    for (i, action) in list.iter().enumerate() {
        let action = action.as_str().unwrap_or("");
        if !ACTIONS.contains(&action) {
            errors.not_supported(&path.at(i), action, ACTIONS);
        }
        if !seen.insert(action) {
            errors.duplicate(&path.at(i), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.invalid(&path, list.to_vec(), why);
    }
    if seen.is_empty() {
        errors.required(&path, "at least one validation action is required");
    }
}

pub(super) static VALIDATING: Rules = Rules {
    default: policy_defaults,
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({});
        }
    },
    validate: |o| gather(|errors| validations(o, errors)),
    row: |o, now| {
        vec![
            cell::name(o),
            cell::count(o, "spec.validations"),
            param_kind(o),
            cell::age(o, now),
        ]
    },
    ..Rules::SPLIT
};

pub(super) static VALIDATING_BINDING: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            binding(o, errors);
            actions(o, errors);
        })
    },
    ..MUTATING_BINDING_BASE
};

const MUTATING_BINDING_BASE: Rules = Rules {
    generation: true,
    default: binding_defaults,
    validate: |o| gather(|errors| binding(o, errors)),
    row: binding_row,
    ..Rules::BASE
};

pub(super) static MUTATING_BINDING: Rules = MUTATING_BINDING_BASE;

pub(super) static MUTATING: Rules = Rules {
    generation: true,
    default: |o| {
        policy_defaults(o);
        if let Some(spec) = object(o, "spec") {
            set_text(spec, "reinvocationPolicy", "Never");
        }
    },
    validate: |o| gather(|errors| mutations(o, errors)),
    row: |o, now| {
        vec![
            cell::name(o),
            cell::count(o, "spec.mutations"),
            param_kind(o),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};
