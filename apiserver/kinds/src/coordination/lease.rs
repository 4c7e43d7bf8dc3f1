//! Leases.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;

pub(super) const COLUMNS: &[Column] = &[NAME, text("Holder", "Who holds it."), AGE];

pub(super) static STRATEGY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            if let Some(s) = o.int("spec.leaseDurationSeconds").filter(|s| *s <= 0) {
                errors.invalid(&path.of("leaseDurationSeconds"), s, "must be greater than 0");
            }
            errors.non_negative(o.at("spec"), &path, "leaseTransitions");
        })
    },
    row: |o, now| vec![cell::name(o), cell::text(o, "spec.holderIdentity"), cell::age(o, now)],
    ..Rules::BASE
};
