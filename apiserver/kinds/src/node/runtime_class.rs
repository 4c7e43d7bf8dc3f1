//! Runtime classes.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::{gather, scheduling};
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;

pub(super) const COLUMNS: &[Column] = &[NAME, text("Handler", "Configuration of the container runtime."), AGE];

pub(super) static STRATEGY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            let handler = o.text("handler");
            errors.all(&Path::new("handler"), handler, names::dns_label(handler));
            let at = Path::new("scheduling.tolerations");
            scheduling::tolerations(o.items("scheduling.tolerations"), &at, errors);
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "handler")),
    row: |o, now| vec![cell::name(o), cell::text(o, "handler"), cell::age(o, now)],
    ..Rules::BASE
};
