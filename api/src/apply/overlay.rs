//! Merging without ownership: what a mutating admission policy makes of an object.

use super::config;
use super::merge::merge;
use super::shape::Node;
use crate::Value;
use crate::schema::Type;

/// The object with what the configuration says, merged as an apply merges it. What
/// is atomic is refused: who sets a part of it would take the rest away unawares.
/// `Err` says why nothing was merged.
pub fn overlay(ty: &Type, live: &Value, config: &Value) -> Result<Value, String> {
    config::check(ty, config)
        .map_err(|error| format!("failed to convert patch object to typed object: {}", error.message))?;
    let mut found = Vec::new();
    atomics(Node::Struct(ty), config, &mut String::new(), &mut found);
    if !found.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        ));
    }
    let mut merged = live.clone();
    merge(Node::Struct(ty), &mut merged, config);
    Ok(merged)
}

fn atomics(node: Node<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (node, value) {
        (Node::Leaf, Value::Object(_) | Value::Array(_)) => found.push(path.clone()),
        (Node::Struct(_), Value::Object(map)) => {
            for (name, value) in map {
                let member = node.member(name);
                if member.field.is_some() {
                    path.push('.');
                    path.push_str(name);
                    atomics(member.node, value, path, found);
                    path.truncate(length);
                }
            }
        }
        (Node::List(field), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                atomics(Node::of_element(field), item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::lookup_gvk;
    use serde_json::json;

    #[test]
    fn merged_or_refused() {
        let ty = lookup_gvk("", "v1", "Pod").unwrap();
        let live = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let merged = overlay(
            ty,
            &live,
            &json!({"metadata": {"labels": {"b": "2"}},
            "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": "v"}]}], "hostNetwork": true}}),
        );
        assert_eq!(
            merged.unwrap(),
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"hostNetwork": true,
                "containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "v"}]}]}})
        );
        let refused = overlay(
            ty,
            &live,
            &json!({"spec": {"containers": [{"name": "c", "args": ["x"]}]}}),
        );
        assert_eq!(
            refused.unwrap_err(),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
        assert!(overlay(ty, &live, &json!({"spec": {"nothing": 1}})).is_err());
    }
}
