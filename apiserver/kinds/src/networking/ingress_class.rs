//! Ingress classes.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, set_default};
use serde_json::Value;

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Controller", "Who serves the class."),
    text("Parameters", "Where its parameters are."),
    AGE,
];

const CONTROLLER_BYTES_MAX: usize = 250;

pub(crate) static STRATEGY: Rules = Rules {
    generation: true,
    default: |o| {
        if let Some(parameters) = existing(o, "spec").and_then(|spec| existing(spec, "parameters")) {
            set_default(parameters, "scope", "Cluster");
        }
    },
    validate: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            let controller = o.text("spec.controller");
            let at = path.of("controller");
            if controller.is_empty() {
                errors.required(&at, "");
            } else {
                if controller.len() > CONTROLLER_BYTES_MAX {
                    errors.too_long(&at, CONTROLLER_BYTES_MAX);
                }
                domain_prefixed(controller, &at, errors);
            }
            if o.has("spec.parameters") {
                parameters(o.at("spec.parameters"), &path.of("parameters"), errors);
            }
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec.controller")),
    row: |o, now| {
        let p = o.at("spec.parameters");
        let parameters = if p.is_object() {
            let group = match p.text("apiGroup") {
                "" => String::new(),
                group => format!(".{group}"),
            };
            format!("{}{group}/{}", p.text("kind"), p.text("name"))
        } else {
            "<none>".to_string()
        };
        let default = o
            .at("metadata.annotations")
            .get("ingressclass.kubernetes.io/is-default-class")
            .is_some_and(|mark| mark == "true");
        let mark = if default { " (default)" } else { "" };
        vec![
            format!("{}{mark}", o.text("metadata.name")).into(),
            cell::text(o, "spec.controller"),
            parameters.into(),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

/// `acme.io/foo`.
fn domain_prefixed(text: &str, path: &Path, errors: &mut Errors) {
    let Some((host, rest)) = text.split_once('/').filter(|(h, r)| !h.is_empty() && !r.is_empty()) else {
        return errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    errors.all(path, host, names::dns_subdomain(host));
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(fine) {
        let why = r"must be a valid HTTP path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, why);
    }
}

fn parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    super::typed_reference(parameters, path, errors);
    let at = path.of("namespace");
    let namespace = parameters.at("namespace").as_str();
    match (parameters.text("scope"), namespace) {
        ("Namespace", None) => errors.required(&at, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(name)) => errors.all(&at, name, names::dns_label(name)),
        ("Cluster", Some(_)) => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", None) => {}
        (other, _) => errors.not_supported(&path.of("scope"), other, &["Cluster", "Namespace"]),
    }
}
