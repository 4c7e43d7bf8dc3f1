//! Runtime classes.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::{gather, scheduling};
use crate::core::resources;
use crate::meta;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::json;
use std::collections::BTreeSet;

pub(super) const COLUMNS: &[Column] = &[NAME, text("Handler", "Configuration of the container runtime."), AGE];

pub(super) static STRATEGY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            let handler = o.text("handler");
            errors.all(&Path::new("handler"), handler, names::dns_label(handler));
            if o.has("overhead") {
                let limits = json!({"limits": o.at("overhead.podFixed")});
                let at = Path::new("overhead");
                resources::requirements(&limits, resources::Of::Container, &BTreeSet::new(), &at, errors);
            }
            let at = Path::new("scheduling.nodeSelector");
            meta::labels(o.at("scheduling.nodeSelector"), &at, errors);
            let at = Path::new("scheduling.tolerations");
            scheduling::tolerations(o.items("scheduling.tolerations"), &at, errors);
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "handler")),
    row: |o, now| vec![cell::name(o), cell::text(o, "handler"), cell::age(o, now)],
    ..Rules::BASE
};
