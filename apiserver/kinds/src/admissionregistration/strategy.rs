//! Webhook configurations and admission policies with their bindings.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::selector;
use crate::tree::{Tree, each, existing, object, set_default, set_int, set_text};
use jiff::Timestamp;
use serde_json::{Value, json};

const WEBHOOK_COLUMNS: &[Column] = &[NAME, integer("Webhooks", "Number of webhooks."), AGE];
const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("PolicyName", "Policy it binds."),
    text("ParamRef", "Parameters it binds it with."),
    AGE,
];

fn match_rules(rules: &mut Value, list: &str) {
    for rule in each(rules, list) {
        set_text(rule, "scope", "*");
    }
}

fn webhook_defaults(o: &mut Value, mutating: bool) {
    for hook in each(o, "webhooks").filter(|h| h.is_object()) {
        set_text(hook, "failurePolicy", "Fail");
        set_text(hook, "matchPolicy", "Equivalent");
        set_default(hook, "namespaceSelector", json!({}));
        set_default(hook, "objectSelector", json!({}));
        set_default(hook, "timeoutSeconds", 10);
        if mutating {
            set_text(hook, "reinvocationPolicy", "Never");
        }
        match_rules(hook, "rules");
        if let Some(service) = existing(hook, "clientConfig").and_then(|c| existing(c, "service")) {
            set_int(service, "port", 443);
        }
    }
}

fn webhooks(o: &Value, errors: &mut Errors) {
    let list = Path::new("webhooks");
    let mut seen = std::collections::BTreeSet::new();
    for (i, hook) in o.items("webhooks").iter().enumerate() {
        let path = list.at(i);
        let name = hook.text("name");
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else {
            errors.all(&path.of("name"), name, names::dns_subdomain(name));
            if name.split('.').count() < 3 {
                errors.invalid(
                    &path.of("name"),
                    name,
                    "should be a domain with at least three segments separated by dots",
                );
            }
            if !seen.insert(name) {
                errors.duplicate(&path.of("name"), name);
            }
        }
        if hook.items("admissionReviewVersions").is_empty() {
            errors.required(&path.of("admissionReviewVersions"), "must specify one of v1, v1beta1");
        }
        if !matches!(hook.text("sideEffects"), "None" | "NoneOnDryRun") {
            if hook.text("sideEffects").is_empty() {
                errors.required(&path.of("sideEffects"), "must specify one of None, NoneOnDryRun");
            } else {
                errors.not_supported(
                    &path.of("sideEffects"),
                    hook.text("sideEffects"),
                    &["None", "NoneOnDryRun"],
                );
            }
        }
        errors.optional_choice(hook, &path, "failurePolicy", &["Fail", "Ignore"]);
        errors.optional_choice(hook, &path, "matchPolicy", &["Equivalent", "Exact"]);
        if let Some(t) = hook.int("timeoutSeconds").filter(|t| !(1..=30).contains(t)) {
            let text = if t > 30 {
                "the timeout value must be between 1 and 30 seconds"
            } else {
                "the timeout cannot be smaller than 1 second"
            };
            errors.invalid(&path.of("timeoutSeconds"), t, text);
        }
        selector::validate(hook.at("namespaceSelector"), &path.of("namespaceSelector"), errors);
        selector::validate(hook.at("objectSelector"), &path.of("objectSelector"), errors);
        let client = hook.at("clientConfig");
        if client.has("url") == client.has("service") {
            errors.required(&path.of("clientConfig"), "exactly one of url or service is required");
        }
    }
}

const WEBHOOKS: Rules = Rules {
    generation: true,
    validate: |o| gather(|errors| webhooks(o, errors)),
    row: |o, now| vec![cell::name(o), cell::count(o, "webhooks"), cell::age(o, now)],
    ..Rules::BASE
};

pub(super) mod mutating_webhook_configuration {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = WEBHOOK_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| webhook_defaults(o, true),
        ..WEBHOOKS
    };
}

pub(super) mod validating_webhook_configuration {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = WEBHOOK_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| webhook_defaults(o, false),
        ..WEBHOOKS
    };
}

fn match_resources(resources: &mut Value) {
    set_text(resources, "matchPolicy", "Equivalent");
    set_default(resources, "namespaceSelector", json!({}));
    set_default(resources, "objectSelector", json!({}));
    match_rules(resources, "resourceRules");
    match_rules(resources, "excludeResourceRules");
}

fn policy_defaults(o: &mut Value) {
    let Some(spec) = object(o, "spec") else { return };
    set_text(spec, "failurePolicy", "Fail");
    if let Some(constraints) = existing(spec, "matchConstraints") {
        match_resources(constraints);
    }
}

fn binding_defaults(o: &mut Value) {
    if let Some(resources) = object(o, "spec").and_then(|s| existing(s, "matchResources")) {
        match_resources(resources);
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

fn policy_name(o: &Value, errors: &mut Errors) {
    errors.text_required(o.at("spec"), &Path::new("spec"), "policyName");
}

pub(super) mod validating_admission_policy {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        integer("Validations", "Number of validations."),
        text("ParamKind", "Kind of its parameters."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: policy_defaults,
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({});
            }
        },
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                let spec = o.at("spec");
                if spec.items("validations").is_empty() && spec.items("auditAnnotations").is_empty() {
                    errors.required(
                        &path.of("validations"),
                        "validations or auditAnnotations must be specified",
                    );
                }
                if spec.items("matchConstraints.resourceRules").is_empty() {
                    errors.required(&path.of("matchConstraints"), "");
                }
                let list = path.of("validations");
                for (i, validation) in spec.items("validations").iter().enumerate() {
                    if validation.text("expression").trim().is_empty() {
                        errors.required(&list.at(i).of("expression"), "expression is not specified");
                    }
                }
            })
        },
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
}

pub(super) mod validating_admission_policy_binding {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = BINDING_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        default: binding_defaults,
        validate: |o| {
            gather(|errors| {
                policy_name(o, errors);
                if o.items("spec.validationActions").is_empty() {
                    errors.required(
                        &Path::new("spec.validationActions"),
                        "at least one validation action is required",
                    );
                }
            })
        },
        row: binding_row,
        ..Rules::BASE
    };
}

pub(super) mod mutating_admission_policy {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        integer("Mutations", "Number of mutations."),
        text("ParamKind", "Kind of its parameters."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        default: |o| {
            policy_defaults(o);
            if let Some(spec) = object(o, "spec") {
                set_text(spec, "reinvocationPolicy", "Never");
            }
        },
        validate: |o| {
            gather(|errors| {
                if o.items("spec.mutations").is_empty() {
                    errors.required(&Path::new("spec.mutations"), "mutations must contain at least one item");
                }
            })
        },
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
}

pub(super) mod mutating_admission_policy_binding {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = BINDING_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        generation: true,
        default: binding_defaults,
        validate: |o| gather(|errors| policy_name(o, errors)),
        row: binding_row,
        ..Rules::BASE
    };
}
