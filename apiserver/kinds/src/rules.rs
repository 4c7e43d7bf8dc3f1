//! `Rules`: the one implementation of `Strategy`. A kind's strategy is a value of
//! function pointers over a base, so that a kind states only what is its own;
//! the status split, the generation and the checks of `metadata` live here once.

use crate::check::Errors;
use crate::contract::Strategy;
use crate::meta;
use crate::tree::Tree;
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::FieldError;

/// What a name of the kind must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain, the usual one.
    Subdomain,
    /// DNS-1123 label (namespaces, ...).
    Label,
    /// DNS-1123 label since relaxed service names (services, which were DNS-1035 labels before).
    Service,
    /// Anything that fits into one path segment (RBAC kinds).
    PathSegment,
    /// Checked by the kind itself, or never stored.
    Any,
}

/// A kind's strategy, as a table of functions.
pub struct Rules {
    pub name: NameRule,
    /// The kind has a `status` subresource: `status` is kept apart from the rest.
    pub status: bool,
    /// A create may bring its status along (nodes register with it).
    pub status_at_creation: bool,
    /// The kind keeps `metadata.generation`, bumped when something besides
    /// metadata and status changes.
    pub generation: bool,
    /// Whether an update counts as one of the desired state, and so bumps the generation.
    pub bumps: fn(&Value, &Value) -> bool,
    /// Subresources that `prepare_update` splits itself.
    pub apart: &'static [&'static str],
    pub default: fn(&mut Value),
    pub prepare_create: fn(&mut Value),
    /// After the status split, before the generation.
    pub prepare_update: fn(&str, &mut Value, &Value),
    pub validate: fn(&Value) -> Vec<FieldError>,
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    pub validate_update: fn(&str, &Value, &Value) -> Vec<FieldError>,
    pub warnings: fn(&Value) -> Vec<String>,
    /// Every update warns, not only one that bumps the generation.
    pub warns_always: bool,
    pub row: fn(&Value, Timestamp) -> Vec<Value>,
    pub fields: fn(&Value) -> Vec<(&'static str, String)>,
    pub field_names: &'static [&'static str],
    pub grace: fn(&Value, Option<i64>) -> Option<i64>,
}

impl Rules {
    /// No rules at all beyond those of `metadata`.
    pub const BASE: Self = Self {
        name: NameRule::Subdomain,
        status: false,
        status_at_creation: false,
        generation: false,
        bumps: desired_state_changed,
        apart: &[],
        default: |_| {},
        prepare_create: |_| {},
        prepare_update: |_, _, _| {},
        validate: |_| Vec::new(),
        validate_create: |_| Vec::new(),
        validate_update: |_, _, _| Vec::new(),
        warnings: |_| Vec::new(),
        warns_always: false,
        row: default_row,
        fields: |_| Vec::new(),
        field_names: &[],
        grace: |_, _| None,
    };
    /// With a status subresource and generations.
    pub const SPLIT: Self = Self {
        status: true,
        generation: true,
        ..Self::BASE
    };
    /// With a status subresource, without generations.
    pub const STATUS: Self = Self {
        status: true,
        ..Self::BASE
    };
    /// As `STATUS`, but a create keeps the status it brings.
    pub const STATUS_AT_CREATION: Self = Self {
        status_at_creation: true,
        ..Self::STATUS
    };
}

/// For kinds without rules of their own: `NAME`, `CREATED AT`.
pub static PLAIN: Rules = Rules::BASE;

fn default_row(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![
        object.at("metadata.name").clone(),
        object.at("metadata.creationTimestamp").clone(),
    ]
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.status && !self.status_at_creation {
            remove(object, "status");
        }
        if self.generation && object["metadata"].is_object() {
            object["metadata"]["generation"] = 1.into();
        }
        (self.prepare_create)(object);
    }

    fn prepare_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if self.apart.contains(&subresource) {
            // The kind's own function does it.
        } else if subresource == "status" && self.status {
            keep_all_but_status(new, old);
        } else if self.status {
            copy(new, old, "status");
        }
        (self.prepare_update)(subresource, new, old);
        if self.generation {
            let before = old.int("metadata.generation").unwrap_or(0);
            let bump = i64::from(subresource != "status" && (self.bumps)(new, old));
            if new["metadata"].is_object() {
                new["metadata"]["generation"] = (before + bump).into();
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors(meta::validate(object, self.name));
        meta::standard_finalizers(object, &mut errors);
        errors.0.extend((self.validate)(object));
        errors.0
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        (self.validate_create)(object)
    }

    fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate_update(new, old);
        errors.extend((self.validate_update)(subresource, new, old));
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        let unchanged = self.generation && new.at("metadata.generation") == old.at("metadata.generation");
        if unchanged && !self.warns_always {
            return Vec::new();
        }
        (self.warnings)(new)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        (self.row)(object, now)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        (self.fields)(object)
    }

    fn field_names(&self) -> &'static [&'static str] {
        self.field_names
    }

    fn grace_period_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        (self.grace)(object, asked)
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

/// Makes `new[key]` what it is in `old`, absent included.
pub(crate) fn copy(new: &mut Value, old: &Value, key: &str) {
    if let Some(map) = new.as_object_mut() {
        match old.get(key) {
            Some(value) => drop(map.insert(key.to_string(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

/// An update of `status` changes status, and of metadata only labels,
/// annotations, finalizers and owner references (the handler keeps the rest).
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let mut metadata = new.get_mut("metadata").map(Value::take).unwrap_or(Value::Null);
    *new = old.clone();
    if let Some(map) = new.as_object_mut() {
        match status {
            Some(status) => drop(map.insert("status".into(), status)),
            None => drop(map.remove("status")),
        }
        if metadata.is_object() {
            // Deletion is decided through DELETE only.
            for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"] {
                copy(&mut metadata, &old["metadata"], key);
            }
            map.insert("metadata".into(), metadata);
        }
    }
}

/// Whether anything besides metadata and status differs.
pub(crate) fn desired_state_changed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new != old;
    };
    let apart = |key: &str| matches!(key, "metadata" | "status" | "apiVersion" | "kind");
    new.iter().any(|(k, v)| !apart(k) && old.get(k) != Some(v))
        || old.keys().any(|k| !apart(k) && !new.contains_key(k))
        // A deletion is a change of desired state too.
        || new.get("metadata").and_then(|m| m.get("deletionTimestamp")).is_some()
            != old.get("metadata").and_then(|m| m.get("deletionTimestamp")).is_some()
}
