//! What an applied configuration must be: fields that the type has, items that
//! can be told apart. Its values are checked with the merged object.

use super::shape::{Node, item_element, keys_of, path_text};
use crate::schema::Type;
use crate::{ApiError, Value};

/// Faults reported at once; the rest would not help anybody.
const FAULTS_MAX: usize = 100;
/// No type nests so deep; recursion over a client's tree must end.
const DEPTH_MAX: usize = 200;

pub(super) fn check(ty: &Type, config: &Value) -> Result<(), ApiError> {
    let mut walk = Walk::default();
    walk.value(Node::Struct(ty), config);
    if walk.faults.is_empty() {
        return Ok(());
    }
    let text = |key: &str| config["metadata"][key].as_str().unwrap_or("");
    let why = match walk.faults.as_slice() {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let (group, version, kind) = ty.gvk();
    Err(ApiError::new(
        500,
        "",
        format!(
            "failed to create typed patch object ({}/{}; {}, Kind={kind}): {why}",
            text("namespace"),
            text("name"),
            crate::schema::api_version(group, version)
        ),
    ))
}

#[derive(Default)]
struct Walk {
    path: Vec<String>,
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, why: &str) {
        if self.faults.len() < FAULTS_MAX {
            let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
            let colon = if path.is_empty() { "" } else { ": " };
            self.faults.push(format!("{}{colon}{why}", path_text(&path)));
        }
    }

    fn value(&mut self, node: Node<'_>, value: &Value) {
        if self.path.len() > DEPTH_MAX {
            self.fault("nested too deeply");
            return;
        }
        match (node, value) {
            (_, Value::Null) | (Node::Leaf | Node::Deduced, _) => {}
            (Node::List(field), Value::Array(items)) => self.items(field, items),
            (Node::List(_), other) => self.fault(&format!("expected list, got {other}")),
            (_, Value::Object(map)) => {
                for (name, child) in map {
                    let member = node.member(name);
                    self.path.push(format!("f:{name}"));
                    if matches!(node, Node::Struct(ty) if !ty.open) && member.field.is_none() {
                        self.fault("field not declared in schema");
                    } else {
                        self.value(member.node, child);
                    }
                    self.path.pop();
                }
            }
            (_, other) => self.fault(&format!("expected map, got {other}")),
        }
    }

    fn items(&mut self, field: &crate::schema::Field, items: &[Value]) {
        let mut seen: Vec<String> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(key) = item_element(field, item) else {
                let keys: Vec<String> = keys_of(field).iter().map(|k| format!("{k:?}")).collect();
                let why = match (keys.as_slice(), item) {
                    ([], _) => "associative list without keys has an element that is not a scalar".to_string(),
                    (_, Value::Object(_)) => format!(
                        "associative list with keys has an element that omits key field {} (and doesn't have default value)",
                        keys.join(" ")
                    ),
                    _ => "associative list with keys may not have non-map elements".to_string(),
                };
                self.fault(&format!("element {index}: {why}"));
                continue;
            };
            if seen.contains(&key) {
                self.fault(&format!("duplicate entries for key {}", path_text(&[&key])));
                continue;
            }
            self.path.push(key.clone());
            self.value(Node::of_element(field), item);
            self.path.pop();
            seen.push(key);
        }
    }
}
