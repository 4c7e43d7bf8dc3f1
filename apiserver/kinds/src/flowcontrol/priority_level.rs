//! Priority levels: how many requests run at once, and what happens to more.

use super::{conditions, mandatory};
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_default, set_int};
use serde_json::Value;

/// As upstream; more would only cost memory.
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of a flow's hash that dealing its queues may use up.
const HASH_BITS_MAX: u32 = 60;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Type", "Limited or Exempt."),
    text("NominalConcurrencyShares", "Its share of the server's concurrency."),
    text("Queues", "Number of queues."),
    text("HandSize", "Queues that a flow may use."),
    text("QueueLengthLimit", "Longest queue."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
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
    validate: |o| gather(|errors| validate(o, errors)),
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

fn validate(o: &Value, errors: &mut Errors) {
    let (spec, path) = (o.at("spec"), Path::new("spec"));
    let kind = spec.text("type");
    if (o.text("metadata.name") == "exempt") != (kind == "Exempt") {
        errors.invalid(
            &path.of("type"),
            kind,
            "type must be 'Exempt' if and only if name is 'exempt'",
        );
    }
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                errors.forbidden(&path.of("limited"), "must be nil if the type is not Limited");
            }
            if spec.has("exempt") {
                shares(spec.at("exempt"), &path.of("exempt"), errors);
            }
        }
        "Limited" => {
            if spec.has("exempt") {
                errors.forbidden(&path.of("exempt"), "must be nil if the type is Limited");
            }
            if spec.has("limited") {
                limited(spec.at("limited"), &path.of("limited"), errors);
            } else {
                errors.required(&path.of("limited"), "must not be empty when type is Limited");
            }
        }
        _ => errors.not_supported(&path.of("type"), kind, &["Exempt", "Limited"]),
    }
    mandatory(o, "PriorityLevelConfiguration", Some("exempt"), errors);
    conditions(o, errors);
}

fn shares(value: &Value, path: &Path, errors: &mut Errors) {
    if let Some(n) = value.int("nominalConcurrencyShares").filter(|n| *n < 0) {
        errors.invalid(
            &path.of("nominalConcurrencyShares"),
            n,
            "must be a non-negative integer",
        );
    }
    if let Some(n) = value.int("lendablePercent").filter(|n| !(0..=100).contains(n)) {
        errors.invalid(&path.of("lendablePercent"), n, "must be between 0 and 100, inclusive");
    }
}

fn limited(value: &Value, path: &Path, errors: &mut Errors) {
    shares(value, path, errors);
    if let Some(n) = value.int("borrowingLimitPercent").filter(|n| *n < 0) {
        let text = "if specified, must be a non-negative integer";
        errors.invalid(&path.of("borrowingLimitPercent"), n, text);
    }
    let (response, at) = (value.at("limitResponse"), path.of("limitResponse"));
    match response.text("type") {
        "Reject" if response.has("queuing") => {
            let text = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&at.of("queuing"), text);
        }
        "Reject" => {}
        "Queue" if response.has("queuing") => queuing(response.at("queuing"), &at.of("queuing"), errors),
        "Queue" => {
            let text = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&at.of("queuing"), text);
        }
        kind => errors.not_supported(&at.of("type"), kind, &["Queue", "Reject"]),
    }
}

fn queuing(value: &Value, path: &Path, errors: &mut Errors) {
    let number = |key: &str| value.int(key).unwrap_or(0);
    let (queues, hand, length) = (number("queues"), number("handSize"), number("queueLengthLimit"));
    if length <= 0 {
        errors.invalid(&path.of("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.of("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        errors.invalid(
            &path.of("queues"),
            queues,
            &format!("must not be greater than {QUEUES_MAX}"),
        );
    }
    let at = path.of("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at, hand, &format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS_MAX {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        errors.invalid(&at, hand, &text);
    }
}

/// Bits of a hash that dealing such a hand uses up; cut off once they are too many.
fn entropy_bits(queues: i64, hand: i64) -> u32 {
    let mut bits = 0.0_f64;
    for dealt in 0..hand {
        // At most ten million.
        #[allow(clippy::cast_precision_loss)]
        let left = (queues - dealt) as f64;
        bits += left.log2();
        if bits > f64::from(HASH_BITS_MAX) {
            return HASH_BITS_MAX + 1;
        }
    }
    // At most 60.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bits = bits.ceil() as u32;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dealing_uses_bits() {
        assert_eq!(entropy_bits(128, 8), 56);
        assert_eq!(entropy_bits(64, 8), 48);
        assert_eq!(entropy_bits(2, 1), 1);
        assert_eq!(entropy_bits(1, 1), 0);
        assert_eq!(entropy_bits(10_000_000, 3), 61);
        assert_eq!(entropy_bits(10_000_000, 10_000_000), 61);
    }
}
