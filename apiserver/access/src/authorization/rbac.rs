//! RBAC: roles and bindings compiled into an index by subject. Pure once built;
//! the index is valid for the generations it was built from.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

use super::rules::Rule;
use crate::authentication::service_account;
use crate::contract::{Attributes, Objects, UserInfo};
use crate::tree::{items, selects, text};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

pub const GROUP: &str = "rbac.authorization.k8s.io";
pub const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// A binding as seen from one of its subjects.
struct Grant {
    /// `RBAC: allowed by ...`, in upstream's words.
    reason: String,
    /// What the binding names, or why there is no such thing.
    rules: Result<Arc<Vec<Rule>>, Arc<str>>,
}

impl Grant {
    fn rules(&self) -> &[Rule] {
        self.rules.as_ref().map_or(&[], |rules| rules.as_slice())
    }
}

/// Grants by subject; service accounts are users.
#[derive(Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

pub struct Index {
    pub generations: [u64; 4],
    cluster: Grants,
    namespaces: HashMap<String, Grants>,
    cluster_roles: HashMap<String, Arc<Vec<Rule>>>,
    roles: HashMap<(String, String), Arc<Vec<Rule>>>,
}

impl Index {
    pub fn build(objects: &dyn Objects, generations: [u64; 4]) -> Self {
        let stored = objects.list(GROUP, "clusterroles", "");
        let cluster_roles: HashMap<String, Arc<Vec<Rule>>> = stored
            .iter()
            .map(|role| {
                (
                    text(role, "/metadata/name").to_string(),
                    Arc::new(cluster_role_rules(role, &stored)),
                )
            })
            .collect();
        let roles: HashMap<(String, String), Arc<Vec<Rule>>> = objects
            .list(GROUP, "roles", "")
            .iter()
            .map(|role| {
                let key = (
                    text(role, "/metadata/namespace").to_string(),
                    text(role, "/metadata/name").to_string(),
                );
                (key, Arc::new(rules_of_role(role)))
            })
            .collect();
        let mut index = Self {
            generations,
            cluster: Grants::default(),
            namespaces: HashMap::new(),
            cluster_roles,
            roles,
        };
        for binding in sorted(objects.list(GROUP, "clusterrolebindings", "")) {
            let name = text(&binding, "/metadata/name");
            let rules = index.referenced("", &binding).ok_or_else(|| absent(&binding));
            let by = format!("ClusterRoleBinding {name:?} of {}", shown_role(&binding));
            add(&mut index.cluster, &binding, "", &by, &rules);
        }
        for binding in sorted(objects.list(GROUP, "rolebindings", "")) {
            let namespace = text(&binding, "/metadata/namespace");
            let name = text(&binding, "/metadata/name");
            let rules = index.referenced(namespace, &binding).ok_or_else(|| absent(&binding));
            let by = format!(
                "RoleBinding {:?} of {}",
                format!("{name}/{namespace}"),
                shown_role(&binding)
            );
            add(
                index.namespaces.entry(namespace.to_string()).or_default(),
                &binding,
                namespace,
                &by,
                &rules,
            );
        }
        index
    }

    /// The reason, if a rule allows it.
    pub fn allows(&self, a: &Attributes) -> Option<String> {
        self.grants(a.user, if a.path.is_empty() { a.namespace } else { "" })
            .find(|grant| grant.rules().iter().any(|rule| rule.allows(a)))
            .map(|grant| grant.reason.clone())
    }

    /// All rules of a user: cluster-wide and, unless it is empty, in the namespace.
    pub fn rules_of<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Rule> {
        self.grants(user, namespace).flat_map(|grant| grant.rules().iter())
    }

    /// Why some of a user's bindings give nothing: their roles are not there.
    pub fn faults(&self, user: &UserInfo, namespace: &str) -> Vec<String> {
        let mut faults: Vec<String> = Vec::new();
        for fault in self
            .grants(user, namespace)
            .filter_map(|grant| grant.rules.as_ref().err())
        {
            if !faults.iter().any(|f| **f == **fault) {
                faults.push(fault.to_string());
            }
        }
        faults
    }

    /// Rules of the role that a binding (or role reference) names.
    pub fn referenced(&self, namespace: &str, binding: &Value) -> Option<Arc<Vec<Rule>>> {
        let name = text(binding, "/roleRef/name");
        match text(binding, "/roleRef/kind") {
            "ClusterRole" => self.cluster_roles.get(name).cloned(),
            "Role" if !namespace.is_empty() => self.roles.get(&(namespace.to_string(), name.to_string())).cloned(),
            _ => None,
        }
    }

    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let scoped = self.namespaces.get(namespace).filter(|_| !namespace.is_empty());
        [Some(&self.cluster), scoped]
            .into_iter()
            .flatten()
            .flat_map(move |grants| {
                let of_groups = user.groups.iter().filter_map(|group| grants.groups.get(group));
                grants.users.get(&user.name).into_iter().chain(of_groups).flatten()
            })
    }
}

/// Rules of a Role or ClusterRole as written in it.
pub fn rules_of_role(role: &Value) -> Vec<Rule> {
    items(role, "/rules").iter().map(Rule::from_value).collect()
}

/// With an aggregation rule also those of the roles it selects, so that a new
/// role counts before its rules were copied.
fn cluster_role_rules(role: &Value, all: &[Arc<Value>]) -> Vec<Rule> {
    let mut rules = rules_of_role(role);
    let nothing = Value::Null;
    for selector in items(role, "/aggregationRule/clusterRoleSelectors") {
        for other in all {
            let labels = other.pointer("/metadata/labels").unwrap_or(&nothing);
            if text(other, "/metadata/name") != text(role, "/metadata/name") && selects(selector, labels) {
                for rule in rules_of_role(other) {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
    }
    rules
}

/// By namespace and name, so that reasons do not depend on the order of a list.
fn sorted(mut bindings: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    bindings.sort_by(|a, b| {
        let key = |v: &Value| {
            (
                text(v, "/metadata/namespace").to_string(),
                text(v, "/metadata/name").to_string(),
            )
        };
        key(a).cmp(&key(b))
    });
    bindings
}

fn shown_role(binding: &Value) -> String {
    format!(
        "{} {:?}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    )
}

/// As upstream says that the role of a binding is not there.
fn absent(binding: &Value) -> Arc<str> {
    let kind = text(binding, "/roleRef/kind").to_lowercase();
    format!("{kind}.{GROUP} {:?} not found", text(binding, "/roleRef/name")).into()
}

fn add(
    grants: &mut Grants,
    binding: &Value,
    binding_namespace: &str,
    by: &str,
    rules: &Result<Arc<Vec<Rule>>, Arc<str>>,
) {
    for subject in items(binding, "/subjects") {
        let name = text(subject, "/name");
        let (by_subject, key, shown) = match text(subject, "/kind") {
            "User" => (&mut grants.users, name.to_string(), format!("User {name:?}")),
            "Group" => (&mut grants.groups, name.to_string(), format!("Group {name:?}")),
            "ServiceAccount" => {
                let namespace = match text(subject, "/namespace") {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                if namespace.is_empty() {
                    continue;
                }
                let shown = format!("ServiceAccount {:?}", format!("{name}/{namespace}"));
                (&mut grants.users, service_account::user_name(namespace, name), shown)
            }
            _ => continue,
        };
        let reason = format!("RBAC: allowed by {by} to {shown}");
        by_subject.entry(key).or_default().push(Grant {
            reason,
            rules: rules.clone(),
        });
    }
}
