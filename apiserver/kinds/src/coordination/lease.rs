//! Leases.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;

pub(super) const COLUMNS: &[Column] = &[NAME, text("Holder", "Who holds it."), AGE];

/// How Kubernetes itself can choose a holder.
const STRATEGIES: &[&str] = &["OldestEmulationVersion"];

pub(super) static STRATEGY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            if let Some(s) = o.int("spec.leaseDurationSeconds").filter(|s| *s <= 0) {
                errors.invalid(&path.of("leaseDurationSeconds"), s, "must be greater than 0");
            }
            errors.non_negative(o.at("spec"), &path, "leaseTransitions");
            let strategy = o.text("spec.strategy");
            if o.at("spec.strategy").is_string() {
                // Upstream names the field twice.
                let at = path.of("strategy");
                let at = at.of("strategy");
                if strategy.contains('/') {
                    errors.all(&at, strategy, names::qualified_name(strategy));
                } else if strategy != STRATEGIES[0] {
                    errors.not_supported(&at, strategy, STRATEGIES);
                }
            }
            if strategy.is_empty() && !o.text("spec.preferredHolder").is_empty() {
                let text = "may only be specified if `strategy` is defined";
                errors.forbidden(&path.of("preferredHolder"), text);
            }
        })
    },
    row: |o, now| vec![cell::name(o), cell::text(o, "spec.holderIdentity"), cell::age(o, now)],
    ..Rules::BASE
};
