//! Controller revisions: immutable snapshots of templates.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Controller", "What the revision is of."),
    integer("Revision", "Number of the revision."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            if !o.has("data") {
                errors.required(&Path::new("data"), "data is mandatory");
            }
            if let Some(n) = o.int("revision").filter(|n| *n < 0) {
                errors.invalid(&Path::new("revision"), n, "must be greater than or equal to 0");
            }
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "data")),
    row: |o, now| {
        let owner = o
            .items("metadata.ownerReferences")
            .iter()
            .find(|r| r.flag("controller"));
        let shown: Value = match owner {
            Some(r) => {
                let group = r
                    .text("apiVersion")
                    .split_once('/')
                    .map(|(g, _)| format!(".{g}"))
                    .unwrap_or_default();
                format!("{}{group}/{}", r.text("kind").to_lowercase(), r.text("name")).into()
            }
            None => "<none>".into(),
        };
        vec![cell::name(o), shown, cell::number(o, "revision"), cell::age(o, now)]
    },
    ..Rules::BASE
};
