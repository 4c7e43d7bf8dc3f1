//! Paths and operations of resources, with the query parameters that clients look for.

use super::schemas::{Flavor, Schemas};
use super::{Resource, Subresource, group_version_path};
use crate::Value;
use crate::schema::META_V1;
use serde_json::{Map, json};

const JSON: &str = "application/json";
const BODIES: [&str; 3] = [JSON, "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const DRY_RUN: (&str, &str) = ("dryRun", "string");
const MANAGER: (&str, &str) = ("fieldManager", "string");
const VALIDATION: (&str, &str) = ("fieldValidation", "string");
const PRETTY: (&str, &str) = ("pretty", "string");
const LIST: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: [(&str, &str); 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// One operation before it is written down.
struct Operation<'a> {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// First word of the operation id.
    verb: &'static str,
    query: Vec<(&'a str, &'a str)>,
    body: Option<(Value, &'static [&'static str])>,
    answer: Value,
    gvk: [&'a str; 3],
}

pub(super) fn of(resources: &[&Resource], schemas: &mut Schemas<'_>) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        let base = format!("/{}", group_version_path(&resource.group, &resource.version));
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{base}{scope}/{}", resource.plural);
        put(
            &mut paths,
            &collection,
            resource,
            "",
            collection_operations(resource, schemas),
            schemas.flavor,
        );
        put(
            &mut paths,
            &format!("{collection}/{{name}}"),
            resource,
            "",
            item_operations(resource, schemas),
            schemas.flavor,
        );
        if resource.namespaced && has(&resource.verbs, "list") {
            let list = vec![list_operation(resource, schemas)];
            put(
                &mut paths,
                &format!("{base}/{}", resource.plural),
                resource,
                "ForAllNamespaces",
                list,
                schemas.flavor,
            );
        }
        for sub in &resource.subresources {
            let operations = subresource_operations(resource, sub, schemas);
            put(
                &mut paths,
                &format!("{collection}/{{name}}/{}", sub.name),
                resource,
                &sub.name,
                operations,
                schemas.flavor,
            );
        }
    }
    Value::Object(paths)
}

fn has(verbs: &[String], verb: &str) -> bool {
    verbs.iter().any(|v| v == verb)
}

fn gvk(resource: &Resource) -> [&str; 3] {
    [&resource.group, &resource.version, &resource.kind]
}

fn list_operation<'a>(resource: &'a Resource, schemas: &mut Schemas<'_>) -> Operation<'a> {
    let answer = schemas.list(resource);
    Operation {
        method: "get",
        action: "list",
        verb: "list",
        query: LIST.to_vec(),
        body: None,
        answer,
        gvk: gvk(resource),
    }
}

fn collection_operations<'a>(resource: &'a Resource, schemas: &mut Schemas<'_>) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    if has(&resource.verbs, "list") {
        operations.push(list_operation(resource, schemas));
    }
    if has(&resource.verbs, "create") {
        let object = schemas.resource(resource);
        operations.push(Operation {
            method: "post",
            action: "post",
            verb: "create",
            query: vec![DRY_RUN, MANAGER, VALIDATION],
            body: Some((object.clone(), &BODIES)),
            answer: object,
            gvk: gvk(resource),
        });
    }
    if has(&resource.verbs, "deletecollection") {
        let mut query = LIST.to_vec();
        query.retain(|(name, _)| !matches!(*name, "watch" | "allowWatchBookmarks"));
        query.extend(DELETE);
        operations.push(delete_operation(
            "deletecollection",
            "deleteCollection",
            query,
            resource,
            schemas,
        ));
    }
    operations
}

fn delete_operation<'a>(
    action: &'static str,
    verb: &'static str,
    query: Vec<(&'a str, &'a str)>,
    resource: &'a Resource,
    schemas: &mut Schemas<'_>,
) -> Operation<'a> {
    let options = schemas.reference_name(&format!("{META_V1}.DeleteOptions"));
    let answer = schemas.reference_name(&format!("{META_V1}.Status"));
    Operation {
        method: "delete",
        action,
        verb,
        query,
        body: Some((options, &BODIES)),
        answer,
        gvk: gvk(resource),
    }
}

fn item_operations<'a>(resource: &'a Resource, schemas: &mut Schemas<'_>) -> Vec<Operation<'a>> {
    let object = schemas.resource(resource);
    let mut operations = read_write(&resource.verbs, &object, gvk(resource));
    if has(&resource.verbs, "delete") {
        operations.push(delete_operation("delete", "delete", DELETE.to_vec(), resource, schemas));
    }
    operations
}

fn read_write<'a>(verbs: &[String], object: &Value, gvk: [&'a str; 3]) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    if has(verbs, "get") {
        let answer = object.clone();
        operations.push(Operation {
            method: "get",
            action: "get",
            verb: "read",
            query: vec![],
            body: None,
            answer,
            gvk,
        });
    }
    let write = vec![DRY_RUN, MANAGER, VALIDATION];
    if has(verbs, "update") {
        let (body, answer) = (Some((object.clone(), &BODIES[..])), object.clone());
        operations.push(Operation {
            method: "put",
            action: "put",
            verb: "replace",
            query: write.clone(),
            body,
            answer,
            gvk,
        });
    }
    if has(verbs, "patch") {
        let mut query = write;
        query.push(("force", "boolean"));
        let (body, answer) = (Some((json!({"type": "object"}), &PATCHES[..])), object.clone());
        operations.push(Operation {
            method: "patch",
            action: "patch",
            verb: "patch",
            query,
            body,
            answer,
            gvk,
        });
    }
    operations
}

fn subresource_operations<'a>(
    resource: &'a Resource,
    sub: &'a Subresource,
    schemas: &mut Schemas<'_>,
) -> Vec<Operation<'a>> {
    let (object, gvk) = if sub.kind.is_empty() {
        (schemas.resource(resource), gvk(resource))
    } else {
        (
            schemas.kind(&sub.group, &sub.version, &sub.kind, None),
            [sub.group.as_str(), &sub.version, &sub.kind],
        )
    };
    let mut operations = read_write(&sub.verbs, &object, gvk);
    if has(&sub.verbs, "create") {
        let query = vec![DRY_RUN, MANAGER, VALIDATION];
        let body = Some((object.clone(), &BODIES[..]));
        operations.push(Operation {
            method: "post",
            action: "post",
            verb: "create",
            query,
            body,
            answer: object,
            gvk,
        });
    }
    operations
}

fn put(
    paths: &mut Map<String, Value>,
    path: &str,
    resource: &Resource,
    suffix: &str,
    operations: Vec<Operation<'_>>,
    flavor: Flavor,
) {
    if operations.is_empty() {
        return;
    }
    let mut shared: Vec<Value> = Vec::new();
    for name in ["name", "namespace"] {
        if path.contains(&format!("{{{name}}}")) {
            shared.push(parameter(name, "string", "path", flavor));
        }
    }
    shared.push(parameter(PRETTY.0, PRETTY.1, "query", flavor));
    let mut item = Map::from_iter([("parameters".to_string(), Value::Array(shared))]);
    for operation in operations {
        let id = operation_id(operation.verb, resource, suffix);
        item.insert(operation.method.to_string(), written(&operation, &id, resource, flavor));
    }
    paths.insert(path.to_string(), Value::Object(item));
}

fn parameter(name: &str, ty: &str, place: &str, flavor: Flavor) -> Value {
    let mut made = json!({"name": name, "in": place});
    match flavor {
        Flavor::V2 => {
            made["type"] = ty.into();
            made["uniqueItems"] = true.into();
        }
        Flavor::V3 => made["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if place == "path" {
        made["required"] = true.into();
    }
    made
}

fn written(operation: &Operation<'_>, id: &str, resource: &Resource, flavor: Flavor) -> Value {
    let mut parameters: Vec<Value> = operation
        .query
        .iter()
        .map(|(name, ty)| parameter(name, ty, "query", flavor))
        .collect();
    let [group, version, kind] = operation.gvk;
    let tag = if resource.group.is_empty() {
        "core".to_string()
    } else {
        camel(&resource.group, false)
    };
    let mut made = json!({
        "operationId": id,
        "tags": [format!("{tag}_{}", resource.version)],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let content = |types: &[&str], schema: &Value| -> Value {
        types
            .iter()
            .map(|t| ((*t).to_string(), json!({"schema": schema})))
            .collect::<Map<String, Value>>()
            .into()
    };
    match (flavor, &operation.body) {
        (Flavor::V2, body) => {
            made["produces"] = BODIES.to_vec().into();
            made["consumes"] = body.as_ref().map_or(vec!["*/*"], |(_, types)| types.to_vec()).into();
            if let Some((schema, _)) = body {
                parameters.push(
                    json!({"name": "body", "in": "body", "required": operation.method != "delete", "schema": schema}),
                );
            }
            made["responses"] = json!({"200": {"description": "OK", "schema": operation.answer}, "401": {"description": "Unauthorized"}});
        }
        (Flavor::V3, body) => {
            if let Some((schema, types)) = body {
                made["requestBody"] = json!({"content": content(types, schema)});
            }
            let answer = content(&BODIES, &operation.answer);
            made["responses"] =
                json!({"200": {"description": "OK", "content": answer}, "401": {"description": "Unauthorized"}});
        }
    }
    made["parameters"] = parameters.into();
    made
}

/// `createAppsV1NamespacedDeployment`, `patchCoreV1NodeStatus`.
fn operation_id(verb: &str, resource: &Resource, suffix: &str) -> String {
    let group = if resource.group.is_empty() {
        "Core".to_string()
    } else {
        camel(&resource.group, true)
    };
    let (for_all, sub) = if suffix == "ForAllNamespaces" {
        (true, suffix.to_string())
    } else {
        (false, camel(suffix, true))
    };
    let scope = if resource.namespaced && !for_all {
        "Namespaced"
    } else {
        ""
    };
    format!(
        "{verb}{group}{}{scope}{}{sub}",
        camel(&resource.version, true),
        resource.kind
    )
}

/// `networking.k8s.io` to `Networking`: the first label says it, as upstream has it.
fn camel(text: &str, upper: bool) -> String {
    let text = text.trim_end_matches(".k8s.io").trim_end_matches(".authorization");
    let mut out = String::with_capacity(text.len());
    let mut raise = upper;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(if raise { c.to_ascii_uppercase() } else { c });
            raise = false;
        } else {
            raise = true;
        }
    }
    out
}
