//! What becomes of a definition: which of its names it gets, and its conditions.
//! Source: the conditions as <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>
//! and `kubectl describe crd` show them.

use crate::check::{self, json::Json};
use crate::path::Path;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A condition of the status.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub kind: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Condition {
    pub fn new(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// Names that definitions of one group have already.
#[derive(Debug, Default)]
pub struct Names {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Names {
    /// Takes in what was accepted of another definition of the group.
    pub fn add(&mut self, definition: &Value) {
        let names = &definition["status"]["acceptedNames"];
        let mut add = |text: &str| {
            if !text.is_empty() {
                self.resources.insert(text.to_string());
            }
        };
        add(names.text("plural"));
        add(names.text("singular"));
        for short in names.items("shortNames").iter().filter_map(Value::as_str) {
            add(short);
        }
        for key in ["kind", "listKind"] {
            if !names.text(key).is_empty() {
                self.kinds.insert(names.text(key).to_string());
            }
        }
    }
}

/// The names a definition gets beside the others of its group, and what is to be said
/// of that.
pub fn accept(definition: &Value, others: &Names) -> (Value, Condition) {
    let wanted = &definition["spec"]["names"];
    let before = &definition["status"]["acceptedNames"];
    let mut names = before.as_object().cloned().unwrap_or_default();
    let mut conflict: Option<(&'static str, String)> = None;
    for (key, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        one(
            key,
            reason,
            wanted,
            before,
            &others.resources,
            &mut names,
            &mut conflict,
        );
    }
    short_names(wanted, before, &others.resources, &mut names, &mut conflict);
    for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        one(key, reason, wanted, before, &others.kinds, &mut names, &mut conflict);
    }
    copy("categories", wanted, &mut names);
    for key in ["plural", "kind"] {
        names.entry(key).or_insert_with(|| "".into());
    }
    let condition = match conflict {
        Some((reason, message)) => Condition::new("NamesAccepted", false, reason, message),
        None => Condition::new("NamesAccepted", true, "NoConflicts", "no conflicts found"),
    };
    (Value::Object(names), condition)
}

fn copy(key: &str, wanted: &Value, names: &mut Map<String, Value>) {
    match wanted.get(key) {
        Some(value) => drop(names.insert(key.to_string(), value.clone())),
        None => drop(names.remove(key)),
    }
}

fn one(
    key: &str,
    reason: &'static str,
    wanted: &Value,
    before: &Value,
    used: &BTreeSet<String>,
    names: &mut Map<String, Value>,
    conflict: &mut Option<(&'static str, String)>,
) {
    let text = wanted.text(key);
    if text != before.text(key) && used.contains(text) {
        *conflict = Some((reason, format!("{text:?} is already in use")));
    } else {
        copy(key, wanted, names);
    }
}

fn short_names(
    wanted: &Value,
    before: &Value,
    used: &BTreeSet<String>,
    names: &mut Map<String, Value>,
    conflict: &mut Option<(&'static str, String)>,
) {
    let ours = before.items("shortNames");
    let taken: Vec<String> = wanted
        .items("shortNames")
        .iter()
        .filter(|name| !ours.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| used.contains(*name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    match taken.as_slice() {
        [] => copy("shortNames", wanted, names),
        [one] => *conflict = Some(("ShortNamesConflict", one.clone())),
        many => *conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
}

/// The condition that tells of schemas that are not structural; `None` where all are.
pub fn non_structural(definition: &Value) -> Option<Condition> {
    let mut texts = Vec::new();
    if definition["spec"].flag("preserveUnknownFields") {
        texts.push("spec.preserveUnknownFields: Invalid value: true: must be false".to_string());
    }
    let list = Path::new("spec.versions");
    for (i, version) in definition["spec"].items("versions").iter().enumerate() {
        if let Some(schema) = version["schema"].node("openAPIV3Schema") {
            let at = list.at(i);
            let at = at.of("schema");
            let errors = check::structural_errors(schema, &at.of("openAPIV3Schema"));
            texts.extend(errors.iter().map(ToString::to_string));
        }
    }
    let message = match texts.as_slice() {
        [] => return None,
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Some(Condition::new("NonStructuralSchema", true, "Violations", message))
}

/// The condition of the kind.
pub fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = definition["status"].items("conditions");
    conditions.iter().find(|c| c.text("type") == kind)
}

pub fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|c| c.text("status") == "True")
}

/// Sets a condition; its time changes only with its status. Answers whether anything changed.
pub fn set_condition(definition: &mut Value, new: &Condition, now: &str) -> bool {
    let status = if new.status { "True" } else { "False" };
    let same_status = condition(definition, new.kind).filter(|c| c.text("status") == status);
    let since = same_status.map_or(now, |c| c.text("lastTransitionTime")).to_string();
    let made = json!({
        "type": new.kind, "status": status, "reason": new.reason, "message": new.message,
        "lastTransitionTime": since,
    });
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = definition["status"]["conditions"].as_array_mut() else {
        return false;
    };
    match conditions.iter_mut().find(|c| c.text("type") == new.kind) {
        Some(found) if *found == made => false,
        Some(found) => {
            *found = made;
            true
        }
        None => {
            conditions.push(made);
            true
        }
    }
}
