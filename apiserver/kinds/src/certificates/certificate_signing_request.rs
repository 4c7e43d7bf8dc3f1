//! Certificate signing requests. Who asks (`spec.username`, `groups`, `uid`) is
//! written by the server before these rules.

use crate::age;
use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, object};
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who should sign."),
    text("Requestor", "Who asks."),
    text("RequestedDuration", "How long the certificate should live."),
    text("Condition", "Approved, denied, pending; issued."),
];

pub(super) static STRATEGY: Rules = Rules {
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
            if let (Some(conditions), Some(status)) = (conditions, object(new, "status")) {
                status["conditions"] = conditions;
            }
        }
        _ => copy(new, old, "spec"),
    },
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| {
            let of = |o: &Value, kind: &str| o.items("status.conditions").iter().any(|c| c.text("type") == kind);
            for kind in ["Approved", "Denied"] {
                if of(old, kind) && !of(new, kind) {
                    errors.forbidden(
                        &Path::new("status.conditions"),
                        &format!("updates may not remove a condition of type {kind:?}"),
                    );
                }
                if !of(old, kind) && of(new, kind) && sub != "approval" {
                    errors.forbidden(
                        &Path::new("status.conditions"),
                        &format!("updates may not add a condition of type {kind:?}"),
                    );
                }
            }
            if of(new, "Approved") && of(new, "Denied") {
                let at = Path::new("status.conditions");
                errors.invalid(
                    &at,
                    new.at("status.conditions").clone(),
                    "Approved and Denied conditions are mutually exclusive",
                );
            }
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

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        errors.text_required(spec, &path, "request");
        if spec.items("usages").is_empty() {
            errors.required(&path.of("usages"), "");
        }
        let signer = spec.text("signerName");
        match signer.split_once('/') {
            None if signer.is_empty() => errors.required(&path.of("signerName"), ""),
            None => errors.invalid(
                &path.of("signerName"),
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
            Some((domain, _)) => errors.all(&path.of("signerName"), signer, names::dns_subdomain(domain)),
        }
        if let Some(s) = spec.int("expirationSeconds").filter(|s| *s < 600) {
            errors.invalid(
                &path.of("expirationSeconds"),
                s,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    })
}
