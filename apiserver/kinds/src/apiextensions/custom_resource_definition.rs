//! Custom resource definitions: names and defaults. What may be in one is told by
//! the crate that knows what it means.

use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_int, set_text};
use serde_json::json;
use skiff_custom::definition;

pub(super) use crate::row::DEFAULT_COLUMNS as COLUMNS;

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        let Some(spec) = object(o, "spec") else { return };
        if let Some(names) = existing(spec, "names") {
            let kind = names.text("kind").to_string();
            if !kind.is_empty() {
                set_text(names, "singular", &kind.to_lowercase());
                set_text(names, "listKind", &format!("{kind}List"));
            }
        }
        if let Some(conversion) = object(spec, "conversion") {
            set_text(conversion, "strategy", "None");
            let client = existing(conversion, "webhook").and_then(|w| existing(w, "clientConfig"));
            if let Some(service) = client.and_then(|c| existing(c, "service")) {
                set_int(service, "port", 443);
            }
        }
    },
    prepare_create: |o| {
        let stored = o
            .items("spec.versions")
            .iter()
            .find(|v| v.flag("storage"))
            .map(|v| v.text("name").to_string());
        if o.is_object() {
            o["status"] = json!({
                "conditions": [], "acceptedNames": {"plural": "", "kind": ""},
                "storedVersions": stored.into_iter().collect::<Vec<_>>(),
            });
        }
    },
    // What was ever stored stays listed until somebody migrates it.
    prepare_update: |sub, new, _| {
        if !sub.is_empty() {
            return;
        }
        let stored = new
            .items("spec.versions")
            .iter()
            .find(|v| v.flag("storage"))
            .map(|v| v.at("name").clone());
        if let (Some(stored), Some(status)) = (stored, object(new, "status")) {
            let mut all = status.items("storedVersions").to_vec();
            if !all.contains(&stored) {
                all.push(stored);
                status["storedVersions"] = all.into();
            }
        }
    },
    validate_create: definition::validate,
    validate_update: |sub, new, old| match sub {
        "" => definition::validate_update(new, old),
        _ => definition::validate_status(new),
    },
    ..Rules::SPLIT
};
