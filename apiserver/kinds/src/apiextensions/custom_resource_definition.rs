//! Custom resource definitions: names and defaults. Schemas are checked where
//! they are compiled.

use crate::check::Path;
use crate::core::pod::gather;
use crate::names;
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_int, set_text};
use serde_json::{Value, json};
use skiff_api::FieldError;

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
    validate,
    validate_update: |sub, new, old| {
        gather(|errors| {
            if !sub.is_empty() {
                return;
            }
            errors.immutable(new, old, "spec.group");
            let established = old
                .items("status.conditions")
                .iter()
                .any(|c| c.text("type") == "Established" && c.text("status") == "True");
            if established {
                for at in ["spec.scope", "spec.names.kind", "spec.names.plural"] {
                    errors.immutable(new, old, at);
                }
            }
        })
    },
    ..Rules::SPLIT
};

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        let (group, plural) = (spec.text("group"), spec.text("names.plural"));
        if group.is_empty() {
            errors.required(&path.of("group"), "");
        } else {
            errors.all(&path.of("group"), group, names::dns_subdomain(group));
            if !group.contains('.') {
                errors.invalid(&path.of("group"), group, "should be a domain with at least one dot");
            }
        }
        let name = o.text("metadata.name");
        if !name.is_empty() && name != format!("{plural}.{group}") {
            errors.invalid(
                &Path::new("metadata.name"),
                name,
                "must be spec.names.plural+\".\"+spec.group",
            );
        }
        errors.choice(spec, &path, "scope", &["Cluster", "Namespaced"]);
        let at = path.of("names");
        for key in ["plural", "singular", "kind", "listKind"] {
            match spec.at("names").text(key) {
                "" => errors.required(&at.of(key), ""),
                text => errors.all(&at.of(key), text, names::dns_1035_label(&text.to_lowercase())),
            }
        }
        let list = path.of("versions");
        let versions = spec.items("versions");
        if versions.iter().filter(|v| v.flag("storage")).count() != 1 {
            errors.invalid(
                &list,
                versions.to_vec(),
                "must have exactly one version marked as storage version",
            );
        }
        for (i, version) in versions.iter().enumerate() {
            let path = list.at(i);
            let name = version.text("name");
            errors.all(&path.of("name"), name, names::dns_1035_label(name));
            if !version.has("schema.openAPIV3Schema") {
                let at = path.of("schema").of("openAPIV3Schema").to_string();
                errors.0.push(FieldError::required(at, "schemas are required"));
            }
        }
    })
}
