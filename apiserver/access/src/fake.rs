//! Objects for tests: a list in memory, whose generations count changes.

use crate::contract::{AdmissionRequest, Objects, Operation, UserInfo};
use crate::tree::text;
use serde_json::Value;
use std::sync::Arc;

#[derive(Default)]
pub struct Fake {
    objects: Vec<(String, String, Arc<Value>)>,
    generation: u64,
}

impl Fake {
    pub fn with(list: Vec<Value>) -> Self {
        let mut fake = Self::default();
        for object in list {
            fake.put(object);
        }
        fake
    }

    pub fn put(&mut self, object: Value) {
        let api_version = text(&object, "/apiVersion");
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group).to_string();
        let kind = text(&object, "/kind").to_ascii_lowercase();
        let resource = match kind.strip_suffix('s') {
            Some(_) if kind.ends_with("ss") => format!("{kind}es"),
            Some(_) => kind,
            None => format!("{kind}s"),
        };
        self.delete(
            &group,
            &resource,
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name"),
        );
        self.objects.push((group, resource, Arc::new(object)));
        self.generation += 1;
    }

    pub fn delete(&mut self, group: &str, resource: &str, namespace: &str, name: &str) {
        self.objects.retain(|(g, r, object)| {
            !(g == group
                && r == resource
                && text(object, "/metadata/namespace") == namespace
                && text(object, "/metadata/name") == name)
        });
        self.generation += 1;
    }
}

impl Objects for Fake {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.list(group, resource, namespace)
            .into_iter()
            .find(|object| text(object, "/metadata/name") == name && text(object, "/metadata/namespace") == namespace)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.objects
            .iter()
            .filter(|(g, r, object)| {
                g == group
                    && r == resource
                    && (namespace.is_empty() || text(object, "/metadata/namespace") == namespace)
            })
            .map(|(_, _, object)| Arc::clone(object))
            .collect()
    }

    fn generation(&self, _group: &str, _resource: &str) -> u64 {
        self.generation
    }
}

pub fn user(name: &str, groups: &[&str]) -> UserInfo {
    crate::authentication::authenticated(
        name,
        "",
        groups.iter().map(ToString::to_string).collect(),
        Default::default(),
    )
}

/// A request to admission; `path` is `group/resource/subresource`.
pub fn request<'a>(
    user: &'a UserInfo,
    operation: Operation,
    path: &'a str,
    namespace: &'a str,
    name: &'a str,
    object: &'a mut Value,
    old_object: Option<&'a Value>,
) -> AdmissionRequest<'a> {
    let mut parts = path.split('/');
    let mut next = || parts.next().unwrap_or("");
    let (group, resource, subresource) = (next(), next(), next());
    AdmissionRequest {
        operation,
        user,
        group,
        version: "v1",
        kind: "",
        resource,
        subresource,
        namespace,
        name,
        dry_run: false,
        object,
        old_object,
        options: &Value::Null,
        warnings: Vec::new(),
    }
}
