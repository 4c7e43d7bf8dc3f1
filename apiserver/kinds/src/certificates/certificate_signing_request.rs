//! Certificate signing requests. Who asks (`spec.username`, `groups`, `uid`) is
//! written by the server before these rules.

use super::request;
use crate::age;
use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules, copy};
use crate::tree::{Tree, object};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who should sign."),
    text("Requestor", "Who asks."),
    text("RequestedDuration", "How long the certificate should live."),
    text("Condition", "Approved, denied, pending; issued."),
];

pub(super) static STRATEGY: Rules = Rules {
    name: NameRule::PathSegment,
    apart: &["approval"],
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({});
        }
    },
    prepare_update: |sub, new, old| match sub {
        // An approval brings conditions and nothing else.
        "approval" => {
            let conditions = new.at("status").get("conditions").cloned();
            copy(new, old, "spec");
            copy(new, old, "status");
            match (conditions, object(new, "status").and_then(Value::as_object_mut)) {
                (Some(conditions), Some(status)) => drop(status.insert("conditions".into(), conditions)),
                (None, Some(status)) => drop(status.remove("conditions")),
                (_, None) => {}
            }
        }
        _ => copy(new, old, "spec"),
    },
    validate_create: |o| {
        gather(|errors| {
            spec(o.at("spec"), errors);
            conditions(o, None, errors);
        })
    },
    validate_update: |sub, new, old| {
        gather(|errors| {
            conditions(new, Some(old), errors);
            kept(sub, new, old, errors);
            certificate(sub, new, old, errors);
        })
    },
    row: |o, now| {
        let duration: Value = match o.int("spec.expirationSeconds") {
            Some(seconds) => age::duration(seconds).into(),
            None => "<none>".into(),
        };
        vec![
            cell::name(o),
            cell::age(o, now),
            cell::text_or(o, "spec.signerName", "<none>"),
            cell::text(o, "spec.username"),
            duration,
            condition(o).into(),
        ]
    },
    fields: |o| vec![("spec.signerName", o.text("spec.signerName").into())],
    field_names: &["spec.signerName"],
    ..Rules::STATUS
};

fn condition(o: &Value) -> String {
    let has = |kind: &str| o.items("status.conditions").iter().any(|c| c.text("type") == kind);
    let mut text = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_string();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !o.text("status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const EXPIRATION_SECONDS_MIN: i64 = 600;

fn spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let request = spec.text("request");
    if let Err(fault) = request::check(request) {
        errors.invalid(&path.of("request"), request, &fault);
    }
    let (usages, at) = (spec.items("usages"), path.of("usages"));
    if usages.is_empty() {
        errors.required(&at, "");
    }
    let texts = || usages.iter().map(|u| u.as_str().unwrap_or("")).enumerate();
    for (i, usage) in texts().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.not_supported(&at.at(i), usage, USAGES);
    }
    let mut seen = BTreeSet::new();
    for (i, usage) in texts() {
        if !seen.insert(usage) {
            errors.duplicate(&at.at(i), usage);
        }
    }
    let (signer, at) = (spec.text("signerName"), path.of("signerName"));
    if signer == "kubernetes.io/legacy-unknown" {
        let text = "the legacy signerName is not allowed via this API version";
        errors.invalid(&at, signer, text);
    } else {
        signer_name(signer, &at, errors);
    }
    if let Some(s) = spec.int("expirationSeconds").filter(|s| *s < EXPIRATION_SECONDS_MIN) {
        errors.invalid(
            &path.of("expirationSeconds"),
            s,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
}

/// Room for a domain, a slash, and a namespaced name.
const SIGNER_BYTES_MAX: usize = 253 + 1 + 253 + 1 + 63;

/// `example.com/signer`: each label of the domain, each part of the path on its own.
fn signer_name(signer: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = signer.split('/').collect();
    let (domain, rest) = match parts[..] {
        _ if signer.is_empty() => return errors.required(path, ""),
        [domain, rest] => (domain, rest),
        _ => {
            let text = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return errors.invalid(path, signer, text);
        }
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    let mut labels = |whole: &str, rule: fn(&str) -> Vec<String>| {
        for label in whole.split('.') {
            for fault in rule(label) {
                errors.invalid(path, whole, &format!("validating label {label:?}: {fault}"));
            }
        }
    };
    labels(domain, names::dns_label);
    labels(rest, names::dns_subdomain);
    if !domain.contains('.') {
        let text = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, text);
    }
    if signer.len() > SIGNER_BYTES_MAX {
        errors.too_long(path, SIGNER_BYTES_MAX);
    }
}

const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// What was wrong before (doubles, both decisions) may stay wrong.
fn conditions(o: &Value, old: Option<&Value>, errors: &mut Errors) {
    let list = Path::new("status.conditions");
    let before: Vec<&str> = old
        .map(|o| o.items("status.conditions").iter().map(|c| c.text("type")).collect())
        .unwrap_or_default();
    let both = DECISIONS.iter().all(|d| before.contains(d));
    let doubles = before.iter().collect::<BTreeSet<_>>().len() < before.len();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (i, condition) in o.items("status.conditions").iter().enumerate() {
        let path = list.at(i);
        let kind = condition.text("type");
        if kind.is_empty() && !before.contains(&"") {
            errors.required(&path.of("type"), "");
        }
        let allowed: &[&str] = if DECISIONS.contains(&kind) || kind == "Failed" {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        errors.choice(condition, &path, "status", allowed);
        let other = DECISIONS
            .iter()
            .find(|d| **d != kind)
            .filter(|_| DECISIONS.contains(&kind));
        if other.is_some_and(|other| seen.contains(other)) && !both {
            let text = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path.of("type"), kind, text);
        }
        if !seen.insert(kind) && !doubles {
            errors.duplicate(&path.of("type"), kind);
        }
    }
}

/// Decisions are made through `approval` only and for good; a failure stays too.
fn kept(sub: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let of = |o: &'_ Value, kind: &str| -> Vec<Value> {
        let conditions = o.items("status.conditions").iter();
        conditions.filter(|c| c.text("type") == kind).cloned().collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() < before.len() {
            errors.forbidden(&path, &format!("updates may not remove a condition of type {kind:?}"));
        }
        if sub == "approval" || kind == "Failed" {
            continue;
        }
        if now.len() > before.len() {
            errors.forbidden(&path, &format!("updates may not add a condition of type {kind:?}"));
        } else if now.len() == before.len() && !same(&now.into(), &before.into()) {
            errors.forbidden(&path, &format!("updates may not modify a condition of type {kind:?}"));
        }
    }
}

/// The signer writes the certificate once, through `status`.
fn certificate(sub: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status.certificate");
    let (now, before) = (new.text("status.certificate"), old.text("status.certificate"));
    if now == before {
        return;
    }
    if let Err(fault) = request::check_certificate(now) {
        errors.invalid(&path, "<certificate data>", &fault);
    }
    if sub != "status" {
        errors.forbidden(&path, "updates may not set certificate content");
    } else if !before.is_empty() {
        errors.forbidden(&path, "updates may not modify existing certificate content");
    }
}
