//! Whether a request meets the rules and selectors of a webhook or policy, and
//! in which form.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules>.

use crate::request::{Form, Gvr, Objects, Request, operation_name};
use serde_json::Value;
use skiff_access::{Objects as Cluster, Operation};
use skiff_api::ApiError;
use skiff_api::selector::{LabelSelector, SelectorError};

/// One of `rules`, `resourceRules`, `excludeResourceRules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, either may be `*`.
    resources: Vec<(String, String)>,
    /// Names of objects, for policies; none: all.
    names: Vec<String>,
    scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    Unknown,
}

impl Rule {
    fn of(rule: &Value) -> Self {
        Self {
            operations: texts(&rule["operations"]),
            groups: texts(&rule["apiGroups"]),
            versions: texts(&rule["apiVersions"]),
            resources: texts(&rule["resources"])
                .into_iter()
                .map(|text| match text.split_once('/') {
                    Some((resource, sub)) => (resource.to_string(), sub.to_string()),
                    None => (text, String::new()),
                })
                .collect(),
            names: texts(&rule["resourceNames"]),
            scope: match rule["scope"].as_str() {
                None | Some("" | "*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Unknown,
            },
        }
    }

    fn takes(&self, request: &Request<'_>, resource: &Gvr<'_>) -> bool {
        self.in_scope(request, resource)
            && one_of(&self.operations, operation_name(request.operation))
            && one_of(&self.groups, resource.group)
            && one_of(&self.versions, resource.version)
            && self.resources.iter().any(|(name, sub)| {
                (name == "*" || name == resource.resource) && (sub == "*" || sub == request.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }

    /// A Namespace has itself as namespace and is of the cluster nevertheless.
    fn in_scope(&self, request: &Request<'_>, resource: &Gvr<'_>) -> bool {
        let is_namespace = (resource.group, resource.version, resource.resource) == ("", "v1", "namespaces");
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => !is_namespace && !request.namespace.is_empty(),
            Scope::Cluster => is_namespace || request.namespace.is_empty(),
            Scope::Unknown => false,
        }
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_string).collect()
}

fn one_of(wanted: &[String], actual: &str) -> bool {
    wanted.iter().any(|w| w == "*" || w == actual)
}

/// What a request must meet: the rules and selectors of a webhook, or a
/// policy's `matchConstraints` or a binding's `matchResources`.
#[derive(Debug, Clone)]
pub struct Constraints {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// A webhook without rules is never called; a policy's match without rules takes all.
    empty_takes_all: bool,
    equivalent: bool,
    namespace: Result<LabelSelector, SelectorError>,
    object: Result<LabelSelector, SelectorError>,
}

impl Constraints {
    /// Of a webhook.
    pub fn of_webhook(hook: &Value) -> Self {
        Self::read(hook, "rules", false)
    }

    /// Of a policy or binding; absent ones take everything.
    pub fn of_resources(resources: &Value) -> Self {
        Self::read(resources, "resourceRules", true)
    }

    fn read(value: &Value, rules: &str, empty_takes_all: bool) -> Self {
        let list = |key: &str| value[key].as_array().into_iter().flatten().map(Rule::of).collect();
        let selector = |key: &str| match value.get(key).filter(|s| !s.is_null()) {
            None => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_object(selector),
        };
        Self {
            rules: list(rules),
            exclude: list("excludeResourceRules"),
            empty_takes_all,
            equivalent: value["matchPolicy"] != "Exact",
            namespace: selector("namespaceSelector"),
            object: selector("objectSelector"),
        }
    }

    /// The form of the request that is met, if one is. An error counts only where
    /// everything else fits: what does not concern a request must not fail it.
    pub fn meets<'r>(
        &self,
        request: &Request<'r>,
        objects: Objects<'_>,
        cluster: &dyn Cluster,
    ) -> Result<Option<Form<'r>>, ApiError> {
        let namespace = self.takes_namespace(request, objects, cluster);
        if matches!(namespace, Ok(false)) {
            return Ok(None);
        }
        let object = self.takes_object(objects);
        if matches!(object, Ok(false)) || self.find(&self.exclude, request).is_some() {
            return Ok(None);
        }
        let form = if self.rules.is_empty() && self.empty_takes_all {
            Some(request.form)
        } else {
            self.find(&self.rules, request)
        };
        if form.is_some() {
            namespace?;
            object?;
        }
        Ok(form)
    }

    /// The request's own form first; then earlier rules before later ones.
    fn find<'r>(&self, rules: &[Rule], request: &Request<'r>) -> Option<Form<'r>> {
        if rules.iter().any(|rule| rule.takes(request, &request.form.resource)) {
            return Some(request.form);
        }
        if !self.equivalent {
            return None;
        }
        rules.iter().find_map(|rule| {
            let mut others = request.equivalents.iter();
            others.find(|form| rule.takes(request, &form.resource)).copied()
        })
    }

    fn takes_namespace(
        &self,
        request: &Request<'_>,
        objects: Objects<'_>,
        cluster: &dyn Cluster,
    ) -> Result<bool, ApiError> {
        let is_namespace = request.form.resource.resource == "namespaces";
        if request.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = self.namespace.as_ref().map_err(ApiError::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        // The cluster does not know yet what the request is about.
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && request.subresource.is_empty() && written {
            return Ok(selector.matches_object(objects.object));
        }
        match cluster.get("", "namespaces", "", request.namespace) {
            Some(namespace) => Ok(selector.matches_object(&namespace)),
            None => Err(ApiError::not_found("", "namespaces", request.namespace)),
        }
    }

    fn takes_object(&self, objects: Objects<'_>) -> Result<bool, ApiError> {
        let selector = self.object.as_ref().map_err(ApiError::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        // Options of a connection have no metadata, so no labels to select by.
        let takes = |object: &Value| object.get("metadata").is_some() && selector.matches_object(object);
        Ok(takes(objects.object) || takes(objects.old))
    }
}

#[cfg(test)]
#[path = "matching_test.rs"]
mod tests;
