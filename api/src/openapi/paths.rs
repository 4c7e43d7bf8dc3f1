//! Paths and operations of resources, with the query parameters that clients look for.

use super::names::{camel, operation_id, scoped, tag};
use super::operations::{
    self, ANYTHING, CUSTOM_PATCHES, DELETE, ENCODINGS, LIST, Operation, PATCH, PATCHES, PRETTY, Parameter, STREAMS,
    WRITE,
};
use super::schemas::{Flavor, Schemas};
use super::{Resource, connect, group_version_path, plain};
use crate::Value;
use serde_json::Map;

pub(super) fn of(resources: &[&Resource], schemas: &mut Schemas<'_>) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        plain::resource_list(&mut paths, resource, schemas);
        let mut of = Of {
            resource,
            schemas,
            paths: &mut paths,
        };
        of.all();
    }
    paths
}

/// The paths of one resource.
struct Of<'a, 's, 'm> {
    resource: &'a Resource,
    schemas: &'m mut Schemas<'s>,
    paths: &'m mut Map<String, Value>,
}

impl<'a> Of<'a, '_, '_> {
    fn all(&mut self) {
        let resource = self.resource;
        let base = format!("/{}", group_version_path(&resource.group, &resource.version));
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let plural = &resource.plural;
        let (collection, item) = (
            format!("{base}{scope}/{plural}"),
            format!("{base}{scope}/{plural}/{{name}}"),
        );
        let operations = self.collection();
        self.put(&collection, operations, &[]);
        let operations = self.item();
        self.put(&item, operations, &[]);
        let everywhere = format!("{base}/{plural}");
        if resource.namespaced && self.can("list") {
            let mut list = self.list();
            list.id = self.id("list", "", &format!("{}ForAllNamespaces", resource.kind));
            // Upstream has these parameters beside the operation.
            list.query.clear();
            self.put(&everywhere, vec![list], &LIST);
        }
        if self.can("watch") {
            let watched = |path: &str| path.replacen(&base, &format!("{base}/watch"), 1);
            let of = self.scoped(&resource.kind);
            let list = self.watch("watchlist", self.id("watch", "", &format!("{of}List")));
            self.put(&watched(&collection), vec![list], &LIST);
            let one = self.watch("watch", self.id("watch", "", &of));
            self.put(&watched(&item), vec![one], &LIST);
            if resource.namespaced {
                let id = self.id("watch", "", &format!("{}ListForAllNamespaces", resource.kind));
                let all = self.watch("watchlist", id);
                self.put(&watched(&everywhere), vec![all], &LIST);
            }
        }
        for sub in &resource.subresources {
            if let Some((operations, shared)) = connect::operations(resource, sub) {
                for (tail, operations) in operations {
                    self.put(&format!("{item}/{}{tail}", sub.name), operations, shared);
                }
                continue;
            }
            let operations = self.subresource(sub);
            let shared = if sub.name == "log" { &connect::LOG[..] } else { &[] };
            self.put(&format!("{item}/{}", sub.name), operations, shared);
        }
    }

    fn can(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|v| v == verb)
    }

    fn gvk(&self) -> [&'a str; 3] {
        [&self.resource.group, &self.resource.version, &self.resource.kind]
    }

    /// `NamespacedPod`, `Node`.
    fn scoped(&self, what: &str) -> String {
        scoped(self.resource, what)
    }

    fn id(&self, verb: &str, middle: &str, what: &str) -> String {
        operation_id(self.resource, verb, middle, what)
    }

    fn operation(&self, method: &'static str, action: &'static str, verb: &str, description: &str) -> Operation<'a> {
        Operation {
            method,
            id: self.id(verb, "", &self.scoped(&self.resource.kind)),
            action,
            description: format!("{description} {}", self.resource.kind),
            query: Vec::new(),
            body: None,
            answer: Value::Null,
            answers: &ENCODINGS,
            codes: &[200],
            gvk: Some(self.gvk()),
        }
    }

    fn list(&mut self) -> Operation<'a> {
        Operation {
            query: LIST.to_vec(),
            answer: self.schemas.list(self.resource),
            answers: &STREAMS,
            ..self.operation("get", "list", "list", "list or watch objects of kind")
        }
    }

    fn watch(&mut self, action: &'static str, id: String) -> Operation<'a> {
        Operation {
            id,
            answer: self.schemas.meta("WatchEvent"),
            answers: &STREAMS,
            ..self.operation(
                "get",
                action,
                "watch",
                "watch changes (deprecated: use the 'watch' parameter with a list operation) of",
            )
        }
    }

    fn collection(&mut self) -> Vec<Operation<'a>> {
        let mut operations = Vec::new();
        if self.can("list") {
            operations.push(self.list());
        }
        if self.can("create") {
            let object = self.schemas.resource(self.resource);
            operations.push(self.create(object));
        }
        if self.can("deletecollection") {
            let of_lists = LIST
                .into_iter()
                .filter(|(name, _)| !matches!(*name, "watch" | "allowWatchBookmarks"));
            let query = of_lists.chain(DELETE).collect();
            let answer = self.schemas.meta("Status");
            let mut delete = self.delete("deletecollection", "delete collection of", query, answer);
            delete.id = self.id("delete", "Collection", &self.scoped(&self.resource.kind));
            delete.codes = &[200];
            operations.push(delete);
        }
        operations
    }

    fn create(&self, object: Value) -> Operation<'a> {
        Operation {
            query: WRITE.to_vec(),
            body: Some((object.clone(), &ANYTHING, true)),
            answer: object,
            codes: &[200, 201, 202],
            ..self.operation("post", "post", "create", "create a")
        }
    }

    fn delete(
        &mut self,
        action: &'static str,
        description: &str,
        query: Vec<Parameter>,
        answer: Value,
    ) -> Operation<'a> {
        let options = self.schemas.meta("DeleteOptions");
        Operation {
            query,
            body: Some((options, &ANYTHING, false)),
            answer,
            codes: &[200, 202],
            ..self.operation("delete", action, "delete", description)
        }
    }

    fn item(&mut self) -> Vec<Operation<'a>> {
        let object = self.schemas.resource(self.resource);
        let mut operations = self.read_write(
            &self.resource.verbs,
            &object,
            ["the specified", "the specified", "the specified"],
        );
        if self.can("delete") {
            let answer = if answers_deleted(self.resource) {
                object
            } else {
                self.schemas.meta("Status")
            };
            operations.push(self.delete("delete", "delete a", DELETE.to_vec(), answer));
        }
        operations
    }

    fn read_write(&mut self, verbs: &[String], object: &Value, what: [&str; 3]) -> Vec<Operation<'a>> {
        let has = |verb: &str| verbs.iter().any(|v| v == verb);
        let mut operations = Vec::new();
        if has("get") {
            let read = self.operation("get", "get", "read", &format!("read {}", what[0]));
            operations.push(Operation {
                answer: object.clone(),
                ..read
            });
        }
        if has("update") {
            operations.push(Operation {
                query: WRITE.to_vec(),
                body: Some((object.clone(), &ANYTHING, true)),
                answer: object.clone(),
                codes: &[200, 201],
                ..self.operation("put", "put", "replace", &format!("replace {}", what[1]))
            });
        }
        if has("patch") {
            let types: &'static [&'static str] = if self.resource.schema.is_some() {
                &CUSTOM_PATCHES
            } else {
                &PATCHES
            };
            operations.push(Operation {
                query: PATCH.to_vec(),
                body: Some((self.schemas.patch(), types, true)),
                answer: object.clone(),
                codes: &[200, 201],
                ..self.operation("patch", "patch", "patch", &format!("partially update {}", what[2]))
            });
        }
        operations
    }

    fn subresource(&mut self, sub: &'a super::Subresource) -> Vec<Operation<'a>> {
        let own = sub.kind.is_empty() || (sub.kind == self.resource.kind && sub.group == self.resource.group);
        let (object, gvk) = if own {
            (self.schemas.resource(self.resource), self.gvk())
        } else {
            let gvk = [sub.group.as_str(), &sub.version, &sub.kind];
            (self.schemas.kind((gvk[0], gvk[1], gvk[2])), gvk)
        };
        let what = format!("{} of the specified", sub.name);
        let mut operations = self.read_write(&sub.verbs, &object, [&what, &what, &what]);
        if sub.verbs.iter().any(|v| v == "create") {
            operations.push(self.create(object));
        }
        let kind = &self.resource.kind;
        for operation in &mut operations {
            let verb = match operation.method {
                "get" => "read",
                "put" => "replace",
                "post" => "create",
                other => other,
            };
            operation.id = self.id(verb, "", &self.scoped(&format!("{kind}{}", camel(&sub.name, true))));
            operation.gvk = Some(gvk);
            if sub.name == "log" {
                operation.answer = serde_json::json!({"type": "string"});
                operation.answers = &connect::LOG_ANSWERS;
            }
        }
        operations
    }

    fn put(&mut self, path: &str, operations: Vec<Operation<'_>>, shared: &[Parameter]) {
        put(self.paths, self.resource, self.schemas.flavor, path, operations, shared);
    }
}

/// Kinds whose deletion answers with what was deleted.
fn answers_deleted(resource: &Resource) -> bool {
    match resource.group.as_str() {
        "" => matches!(
            resource.plural.as_str(),
            "pods"
                | "podtemplates"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "resourcequotas"
                | "services"
                | "serviceaccounts"
        ),
        "storage.k8s.io" => resource.plural != "csistoragecapacities",
        _ => false,
    }
}

fn put(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    flavor: Flavor,
    path: &str,
    operations: Vec<Operation<'_>>,
    shared: &[Parameter],
) {
    if operations.is_empty() {
        return;
    }
    let name = format!("name of the {}", resource.kind);
    let in_path = [
        ("name", name.as_str()),
        (
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ),
        ("path", "path is the URL path to use for the current proxy request"),
    ];
    let mut parameters: Vec<Value> = Vec::new();
    for (name, description) in in_path {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(operations::parameter((name, "string"), "path", description, flavor));
        }
    }
    let connects = operations.iter().all(|o| o.action == "connect");
    let pretty = [PRETTY];
    let query = if connects { &[][..] } else { &pretty };
    for query in query.iter().chain(shared) {
        parameters.push(operations::parameter(*query, "query", "", flavor));
    }
    let mut item = Map::from_iter([("parameters".to_string(), Value::Array(parameters))]);
    let tag = tag(resource);
    for operation in operations {
        item.insert(
            operation.method.to_string(),
            operations::written(operation, &tag, flavor),
        );
    }
    paths.insert(path.to_string(), Value::Object(item));
}
