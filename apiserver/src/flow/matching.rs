//! Which flow schema a request belongs to, and which flow within it. Pure.

use crate::registry::text_at;
use crate::request::RequestInfo;
use serde_json::Value;
use skiff_access::UserInfo;
use std::hash::{Hash, Hasher};

const ANY: &str = "*";

/// A FlowSchema, read.
#[derive(Debug, Clone)]
pub struct Schema {
    pub name: String,
    pub uid: String,
    pub precedence: i64,
    /// The priority level that it leads to.
    pub level: String,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
    /// Part of every flow's hash: flows of two schemas are different flows.
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

#[derive(Debug, Clone)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, Clone)]
enum Subject {
    User(String),
    Group(String),
    /// The user name, or its part before the account's name if any account will do.
    ServiceAccount {
        name: String,
        any: bool,
    },
    Nobody,
}

#[derive(Debug, Clone)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster: bool,
}

#[derive(Debug, Clone)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value[key].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_string)).collect()
}

fn rows<T>(value: &Value, key: &str, read: impl Fn(&Value) -> T) -> Vec<T> {
    value[key].as_array().into_iter().flatten().map(read).collect()
}

impl Schema {
    pub fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let name = text_at(object, &["metadata", "name"]);
        Self {
            name: name.to_string(),
            uid: text_at(object, &["metadata", "uid"]).to_string(),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            level: text_at(spec, &["priorityLevelConfiguration", "name"]).to_string(),
            distinguisher: match text_at(spec, &["distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: rows(spec, "rules", |rule| Rule {
                subjects: rows(rule, "subjects", subject),
                resources: rows(rule, "resourceRules", |r| ResourceRule {
                    verbs: texts(r, "verbs"),
                    groups: texts(r, "apiGroups"),
                    resources: texts(r, "resources"),
                    namespaces: texts(r, "namespaces"),
                    cluster: r["clusterScope"] == true,
                }),
                paths: rows(rule, "nonResourceRules", |r| PathRule {
                    verbs: texts(r, "verbs"),
                    paths: texts(r, "nonResourceURLs"),
                }),
            }),
            seed: hash_of(name),
        }
    }

    pub fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|s| s.is(user))
                && if info.is_resource {
                    rule.resources.iter().any(|r| r.matches(info))
                } else {
                    rule.paths.iter().any(|r| r.matches(info))
                }
        })
    }

    /// What tells the flow apart within the schema.
    pub fn distinguisher<'a>(&self, user: &'a UserInfo, info: &'a RequestInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        }
    }

    pub fn flow(&self, distinguisher: &str) -> u64 {
        self.seed ^ hash_of(distinguisher).rotate_left(17)
    }
}

fn hash_of(text: &str) -> u64 {
    // The standard hasher with fixed keys: equal on every server, good enough for dealing queues.
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn subject(value: &Value) -> Subject {
    match text_at(value, &["kind"]) {
        "User" => Subject::User(text_at(value, &["user", "name"]).to_string()),
        "Group" => Subject::Group(text_at(value, &["group", "name"]).to_string()),
        "ServiceAccount" => {
            let (namespace, name) = (
                text_at(value, &["serviceAccount", "namespace"]),
                text_at(value, &["serviceAccount", "name"]),
            );
            let any = name == ANY;
            Subject::ServiceAccount {
                name: format!("system:serviceaccount:{namespace}:{}", if any { "" } else { name }),
                any,
            }
        }
        _ => Subject::Nobody,
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == ANY || *name == user.name,
            Self::Group(name) => name == ANY || user.groups.iter().any(|g| g == name),
            Self::ServiceAccount { name, any: true } => user.name.starts_with(name.as_str()),
            Self::ServiceAccount { name, any: false } => *name == user.name,
            Self::Nobody => false,
        }
    }
}

fn holds(list: &[String], text: &str) -> bool {
    list.iter().any(|entry| entry == ANY || entry == text)
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        holds(&self.verbs, info.verb)
            && holds(&self.groups, &info.group)
            && self.resources.iter().any(|r| is_resource(r, info))
            && if info.namespace.is_empty() {
                self.cluster
            } else {
                holds(&self.namespaces, &info.namespace)
            }
    }
}

fn is_resource(rule: &str, info: &RequestInfo) -> bool {
    if rule == ANY {
        return true;
    }
    match rule.split_once('/') {
        None => info.subresource.is_empty() && rule == info.resource,
        Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        holds(&self.verbs, info.verb)
            && self.paths.iter().any(|rule| match rule.strip_suffix('*') {
                Some(prefix) => info.path.starts_with(prefix),
                None => *rule == info.path,
            })
    }
}

/// Sorted as they are tried: by precedence, then by name.
pub fn sorted(mut schemas: Vec<Schema>) -> Vec<Schema> {
    schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
    schemas
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap;
    use super::*;
    use crate::request::parse_info;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..UserInfo::default()
        }
    }

    /// The schema of a request, by upstream's own objects.
    #[test]
    fn suggested_schemas_tell_requests_apart() {
        let objects = bootstrap::wanted();
        let schemas = objects
            .iter()
            .map(|w| &w.object)
            .filter(|o| o["kind"] == "FlowSchema")
            .map(Schema::of);
        let schemas = sorted(schemas.collect());
        let auth = "system:authenticated";
        let account = "system:serviceaccounts";
        let cases = [
            ("admin", vec!["system:masters", auth], "GET /api/v1/pods", "exempt"),
            (
                "system:anonymous",
                vec!["system:unauthenticated"],
                "GET /healthz",
                "probes",
            ),
            ("jane", vec![auth], "GET /livez", "probes"),
            ("jane", vec![auth], "GET /api/v1/pods", "global-default"),
            (
                "system:node:a",
                vec!["system:nodes", auth],
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a",
                "system-node-high",
            ),
            (
                "system:node:a",
                vec!["system:nodes", auth],
                "PATCH /api/v1/nodes/a/status",
                "system-node-high",
            ),
            (
                "system:node:a",
                vec!["system:nodes", auth],
                "GET /api/v1/pods",
                "system-nodes",
            ),
            (
                "system:kube-scheduler",
                vec![auth],
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/s",
                "system-leader-election",
            ),
            (
                "system:kube-scheduler",
                vec![auth],
                "GET /api/v1/pods",
                "kube-scheduler",
            ),
            (
                "system:kube-controller-manager",
                vec![auth],
                "PUT /api/v1/namespaces/a/endpoints/e",
                "endpoint-controller",
            ),
            (
                "system:serviceaccount:kube-system:endpoint-controller",
                vec![account, auth],
                "PUT /api/v1/namespaces/a/endpoints/e",
                "endpoint-controller",
            ),
            (
                "system:serviceaccount:kube-system:x",
                vec![account, auth],
                "GET /api/v1/pods",
                "kube-system-service-accounts",
            ),
            (
                "system:serviceaccount:default:x",
                vec![account, auth],
                "GET /api/v1/pods",
                "service-accounts",
            ),
            (
                "system:serviceaccount:kube-systemic:x",
                vec![account, auth],
                "GET /api/v1/pods",
                "service-accounts",
            ),
        ];
        for (name, groups, line, wanted) in cases {
            let (method, path) = line.split_once(' ').unwrap();
            let info = parse_info(&method.parse().unwrap(), path, false, None).unwrap();
            let user = user(name, &groups);
            let found = schemas.iter().find(|s| s.matches(&user, &info)).unwrap();
            assert_eq!(found.name, wanted, "{name} {line}");
        }
    }

    #[test]
    fn flows_differ_by_what_distinguishes_them() {
        let object = |kind: &str| serde_json::json!({"metadata": {"name": "f"}, "spec": {"distinguisherMethod": {"type": kind}}});
        let info = parse_info(&http::Method::GET, "/api/v1/namespaces/a/pods", false, None).unwrap();
        let jane = user("jane", &[]);
        let of = |kind: &str| Schema::of(&object(kind)).distinguisher(&jane, &info).to_string();
        assert_eq!(
            (of("ByUser"), of("ByNamespace"), of("")),
            ("jane".into(), "a".into(), String::new())
        );
        let schema = Schema::of(&object("ByUser"));
        assert_ne!(schema.flow("jane"), schema.flow("joe"));
        assert_eq!(schema.flow("jane"), Schema::of(&object("ByUser")).flow("jane"));
    }
}
