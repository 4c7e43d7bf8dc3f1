//! Flow schemas and priority levels.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_default, set_int};
use serde_json::{Value, json};

fn empty_status(o: &mut Value) {
    if o.is_object() {
        o["status"] = json!({});
    }
}

pub(super) mod flow_schema {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("PriorityLevel", "Priority level it leads to."),
        integer("MatchingPrecedence", "Lower numbers are tried first."),
        text("DistinguisherMethod", "How flows are told apart."),
        AGE,
        text("MissingPL", "Whether its priority level is missing."),
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            if let Some(spec) = object(o, "spec") {
                set_int(spec, "matchingPrecedence", 1000);
            }
        },
        prepare_create: empty_status,
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                errors.range(o.at("spec"), &path, "matchingPrecedence", 1, 10000);
                let at = path.of("priorityLevelConfiguration");
                errors.text_required(o.at("spec.priorityLevelConfiguration"), &at, "name");
            })
        },
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
}

pub(super) mod priority_level_configuration {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Type", "Limited or Exempt."),
        text("NominalConcurrencyShares", "Its share of the server's concurrency."),
        text("Queues", "Number of queues."),
        text("HandSize", "Queues that a flow may use."),
        text("QueueLengthLimit", "Longest queue."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            if let Some(exempt) = existing(spec, "exempt") {
                set_default(exempt, "nominalConcurrencyShares", 0);
                set_default(exempt, "lendablePercent", 0);
            }
            let Some(limited) = existing(spec, "limited") else {
                return;
            };
            set_default(limited, "nominalConcurrencyShares", 30);
            set_default(limited, "lendablePercent", 0);
            if let Some(queuing) = existing(limited, "limitResponse").and_then(|l| existing(l, "queuing")) {
                set_int(queuing, "queues", 64);
                set_int(queuing, "handSize", 8);
                set_int(queuing, "queueLengthLimit", 50);
            }
        },
        prepare_create: empty_status,
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                let kind = o.text("spec.type");
                if !matches!(kind, "Exempt" | "Limited") {
                    errors.not_supported(&path.of("type"), kind, &["Exempt", "Limited"]);
                }
                if kind == "Limited" && !o.has("spec.limited") {
                    errors.required(&path.of("limited"), "must not be empty when type is Limited");
                }
                if let Some(response) = o.at("spec.limited").get("limitResponse") {
                    let at = path.of("limited");
                    let at = at.of("limitResponse");
                    response_type(response, &at, errors);
                }
            })
        },
        row: |o, now| {
            let shares = match o.text("spec.type") {
                "Exempt" => o.at("spec.exempt.nominalConcurrencyShares"),
                _ => o.at("spec.limited.nominalConcurrencyShares"),
            };
            let queuing = o.at("spec.limited.limitResponse.queuing");
            vec![
                cell::name(o),
                cell::text(o, "spec.type"),
                cell::int_or_text(shares, "<none>"),
                cell::int_or_text(queuing.at("queues"), "<none>"),
                cell::int_or_text(queuing.at("handSize"), "<none>"),
                cell::int_or_text(queuing.at("queueLengthLimit"), "<none>"),
                cell::age(o, now),
            ]
        },
        ..Rules::SPLIT
    };

    fn response_type(response: &Value, at: &Path, errors: &mut crate::check::Errors) {
        errors.choice(response, at, "type", &["Queue", "Reject"]);
    }
}
