//! Reads the policy tables. They are part of the program, so a mistake in them
//! is a mistake in the program: tests parse them all, and lines that cannot be
//! read give no permission.

use crate::authorization::rules::Rule;
use serde_json::{Value, json};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {
    pub name: String,
    /// Empty: a ClusterRole.
    pub namespace: String,
    /// `aggregate-to-X` labels it carries.
    pub aggregates_to: Vec<String>,
    /// The `aggregate-to-X` label it selects.
    pub aggregates: String,
    pub rules: Vec<Rule>,
    pub bindings: Vec<Binding>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    pub name: String,
    pub subjects: Vec<Value>,
}

pub fn parse(table: &str) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    for line in table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('[') {
            roles.push(header_of(header));
        } else if let Some(role) = roles.last_mut() {
            rule_or_binding(line, role);
        }
    }
    roles
}

fn header_of(header: &str) -> Role {
    let (name, rest) = header.split_once(']').unwrap_or((header, ""));
    let mut role = Role {
        name: name.to_string(),
        ..Role::default()
    };
    for (key, value) in rest.split_whitespace().filter_map(|word| word.split_once('=')) {
        match key {
            "labels" => role.aggregates_to = list(value),
            "aggregates" => role.aggregates = value.to_string(),
            "namespace" => role.namespace = value.to_string(),
            _ => {}
        }
    }
    role
}

fn rule_or_binding(line: &str, role: &mut Role) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["events"] => role.rules.push(Rule {
            verbs: list("create,update,patch"),
            groups: vec![String::new(), "events.k8s.io".into()],
            resources: list("events"),
            ..Rule::default()
        }),
        ["bind", name, subjects @ ..] => {
            let name = if *name == "-" {
                role.name.clone()
            } else {
                (*name).to_string()
            };
            role.bindings.push(Binding {
                name,
                subjects: subjects.iter().filter_map(|s| subject(s)).collect(),
            });
        }
        [verbs, "url", paths] => role.rules.push(Rule {
            verbs: verbs_of(verbs),
            urls: list(paths),
            ..Rule::default()
        }),
        [verbs, groups, resources, names @ ..] => role.rules.push(Rule {
            verbs: verbs_of(verbs),
            groups: groups.split(',').map(group).collect(),
            resources: list(resources),
            names: names.first().map(|names| list(names)).unwrap_or_default(),
            urls: Vec::new(),
        }),
        _ => {}
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_string).collect()
}

fn verbs_of(text: &str) -> Vec<String> {
    list(match text {
        "R" => "get,list,watch",
        "W" => "create,delete,deletecollection,patch,update",
        "RW" => "create,delete,deletecollection,get,list,patch,update,watch",
        "RU" => "get,list,patch,update,watch",
        other => other,
    })
}

fn group(name: &str) -> String {
    match name {
        "core" => String::new(),
        "*" | "apps" | "autoscaling" | "batch" | "extensions" | "policy" => name.to_string(),
        "rbac" => "rbac.authorization.k8s.io".into(),
        "apiserver-internal" => "internal.apiserver.k8s.io".into(),
        other => format!("{other}.k8s.io"),
    }
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    let of = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    match kind {
        "user" => Some(of("User")),
        "group" => Some(of("Group")),
        "sa" => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        }
        _ => None,
    }
}
