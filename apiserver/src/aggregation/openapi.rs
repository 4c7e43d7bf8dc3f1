//! Extension servers' OpenAPI v2 documents, cut to what they answer here and
//! joined with this server's. Pure.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const REFERENCE: &str = "#/definitions/";
/// Definitions deeper than this are not followed; real ones are some twenty deep.
const DEPTH_MAX: usize = 128;

/// The paths of one group version with the definitions that they use; `None`: there are none.
pub fn cut(document: &Value, group: &str, version: &str) -> Option<Value> {
    let whole = format!("/apis/{group}/{version}");
    let below = format!("{whole}/");
    let paths: Map<String, Value> = document["paths"]
        .as_object()?
        .iter()
        .filter(|(path, _)| path.trim_end_matches('/') == whole || path.starts_with(&below))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return None;
    }
    let all = document["definitions"].as_object();
    let mut used = BTreeSet::new();
    let mut next = BTreeSet::new();
    paths.values().for_each(|item| references(item, &mut next, 0));
    while let Some(name) = next.pop_first() {
        if let Some(definition) = all.and_then(|all| all.get(&name))
            && used.insert(name)
        {
            let mut more = BTreeSet::new();
            references(definition, &mut more, 0);
            next.extend(more.into_iter().filter(|name| !used.contains(name)));
        }
    }
    let definitions: Map<String, Value> = used
        .into_iter()
        .filter_map(|name| Some((name.clone(), all?.get(&name)?.clone())))
        .collect();
    Some(serde_json::json!({"paths": paths, "definitions": definitions}))
}

fn references(value: &Value, found: &mut BTreeSet<String>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(REFERENCE))
            {
                found.insert(name.to_string());
            }
            map.values().for_each(|v| references(v, found, depth + 1));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, found, depth + 1)),
        _ => {}
    }
}

/// Adds what was cut from another server's document. A definition that means
/// something else here is added under a name of its own; paths that are taken stay.
pub fn join(document: &mut Value, other: &Value) {
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let empty = Map::new();
    let theirs = other["definitions"].as_object().unwrap_or(&empty);
    let ours = document["definitions"].as_object().unwrap_or(&empty);
    for (name, definition) in theirs {
        if ours.get(name).is_none_or(|own| own == definition) {
            continue;
        }
        let free = (2..)
            .map(|n| format!("{name}_v{n}"))
            .find(|new| !ours.contains_key(new) && !theirs.contains_key(new));
        if let Some(free) = free {
            renamed.insert(name.clone(), free);
        }
    }
    for (place, items) in [
        ("definitions", theirs),
        ("paths", other["paths"].as_object().unwrap_or(&empty)),
    ] {
        let Some(target) = document[place].as_object_mut() else {
            continue;
        };
        for (name, item) in items {
            let mut item = item.clone();
            if !renamed.is_empty() {
                rename(&mut item, &renamed, 0);
            }
            let name = if place == "definitions" {
                renamed.get(name).unwrap_or(name)
            } else {
                name
            };
            target.entry(name.clone()).or_insert(item);
        }
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, v) in map.iter_mut() {
                let new = match (key.as_str(), v.as_str()) {
                    ("$ref", Some(text)) => text.strip_prefix(REFERENCE).and_then(|name| renamed.get(name)),
                    _ => None,
                };
                match new {
                    Some(new) => *v = format!("{REFERENCE}{new}").into(),
                    None => rename(v, renamed, depth + 1),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, renamed, depth + 1)),
        _ => {}
    }
}

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "options", "head"];

/// A v2 document (as cut) in the form of v3, for servers that have no v3 of their own.
pub fn to_v3(v2: &Value) -> Value {
    let mut paths = v2["paths"].clone();
    for item in paths.as_object_mut().into_iter().flat_map(Map::values_mut) {
        parameters_to_v3(item, false);
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                operation_to_v3(operation);
            }
        }
    }
    let mut document = serde_json::json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths, "components": {"schemas": v2["definitions"]},
    });
    references_to_v3(&mut document, 0);
    document
}

fn operation_to_v3(operation: &mut Value) {
    let types = |operation: &Value, key: &str| -> Vec<String> {
        let listed = operation[key].as_array().into_iter().flatten();
        let found: Vec<String> = listed.filter_map(|t| t.as_str().map(str::to_string)).collect();
        if found.is_empty() {
            vec!["application/json".into()]
        } else {
            found
        }
    };
    let (consumes, produces) = (types(operation, "consumes"), types(operation, "produces"));
    let content = |types: &[String], schema: &Value| -> Value {
        types
            .iter()
            .map(|t| (t.clone(), serde_json::json!({"schema": schema})))
            .collect::<Map<_, _>>()
            .into()
    };
    let body = operation["parameters"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["in"] == "body"))
        .cloned();
    if let Some(body) = body {
        operation["requestBody"] =
            serde_json::json!({"content": content(&consumes, &body["schema"]), "required": body["required"] == true});
    }
    parameters_to_v3(operation, true);
    for response in operation["responses"]
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        if let Some(schema) = response.as_object_mut().and_then(|r| r.remove("schema")) {
            response["content"] = content(&produces, &schema);
        }
    }
    if let Some(map) = operation.as_object_mut() {
        for key in ["consumes", "produces", "schemes"] {
            map.remove(key);
        }
    }
}

/// What says of a v2 parameter what it holds stands in a schema in v3.
fn parameters_to_v3(holder: &mut Value, in_operation: bool) {
    let Some(list) = holder.get_mut("parameters").and_then(Value::as_array_mut) else {
        return;
    };
    list.retain(|p| p["in"] != "body");
    for parameter in list.iter_mut() {
        let Some(map) = parameter.as_object_mut() else { continue };
        let mut schema = Map::new();
        for key in ["type", "format", "uniqueItems", "items", "enum", "default"] {
            if let Some(value) = map.remove(key) {
                schema.insert(key.into(), value);
            }
        }
        if !schema.is_empty() {
            map.insert("schema".into(), schema.into());
        }
    }
    if list.is_empty()
        && in_operation
        && let Some(map) = holder.as_object_mut()
    {
        map.remove("parameters");
    }
}

fn references_to_v3(value: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, v) in map.iter_mut() {
                let name = v
                    .as_str()
                    .filter(|_| key == "$ref")
                    .and_then(|r| r.strip_prefix(REFERENCE));
                match name.map(|name| format!("#/components/schemas/{name}")) {
                    Some(new) => *v = new.into(),
                    None => references_to_v3(v, depth + 1),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| references_to_v3(v, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn theirs() -> Value {
        json!({
            "paths": {
                "/apis/g.io/v1/things": {"get": {"schema": {"$ref": "#/definitions/Thing"}}},
                "/apis/g.io/v1/": {"get": {}}, "/apis/g.io/v10/x": {}, "/version/": {"get": {"$ref": "#/definitions/Info"}},
            },
            "definitions": {
                "Thing": {"properties": {"meta": {"$ref": "#/definitions/Meta"}, "more": {"items": {"$ref": "#/definitions/Thing"}}}},
                "Meta": {"type": "object"}, "Info": {}, "Unused": {},
            },
        })
    }

    #[test]
    fn only_what_is_answered_here_is_taken() {
        let cut = cut(&theirs(), "g.io", "v1").unwrap();
        let keys = |key: &str| cut[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("paths"), ["/apis/g.io/v1/", "/apis/g.io/v1/things"]);
        assert_eq!(keys("definitions"), ["Meta", "Thing"]);
        assert!(super::cut(&theirs(), "other", "v1").is_none());
        assert!(super::cut(&json!([]), "g.io", "v1").is_none());
    }

    #[test]
    fn a_definition_that_differs_gets_a_name_of_its_own() {
        let mut document = json!({"paths": {"/a": {}}, "definitions": {"Meta": {"type": "string"}, "Own": {}}});
        join(&mut document, &cut(&theirs(), "g.io", "v1").unwrap());
        assert_eq!(document["definitions"]["Meta"], json!({"type": "string"}));
        assert_eq!(document["definitions"]["Meta_v2"], json!({"type": "object"}));
        assert_eq!(
            document["definitions"]["Thing"]["properties"]["meta"]["$ref"],
            "#/definitions/Meta_v2"
        );
        assert_eq!(
            document["paths"]["/apis/g.io/v1/things"]["get"]["schema"]["$ref"],
            "#/definitions/Thing"
        );
        assert_eq!(document["paths"]["/a"], json!({}));
    }

    #[test]
    fn an_older_document_becomes_a_newer_one() {
        let v2 = json!({
            "paths": {"/apis/g.io/v1/things": {"post": {
                "consumes": ["application/json"], "produces": ["application/yaml"],
                "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Thing"}},
                    {"name": "dryRun", "in": "query", "type": "string"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Thing"}}},
            }}},
            "definitions": {"Thing": {"properties": {"self": {"$ref": "#/definitions/Thing"}}}},
        });
        let schema = json!({"schema": {"$ref": "#/components/schemas/Thing"}});
        let made = to_v3(&v2);
        assert_eq!(
            made["components"]["schemas"]["Thing"]["properties"]["self"],
            schema["schema"]
        );
        assert_eq!(
            made["paths"]["/apis/g.io/v1/things"]["post"],
            json!({
                "requestBody": {"content": {"application/json": schema}, "required": true},
                "parameters": [{"name": "dryRun", "in": "query", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "OK", "content": {"application/yaml": schema}}},
            })
        );
    }
}
