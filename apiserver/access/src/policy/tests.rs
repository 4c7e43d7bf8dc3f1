use super::*;
use std::collections::BTreeSet;

fn role<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|o| text(o, "/kind") == kind && text(o, "/metadata/name") == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn every_role_has_rules_and_a_unique_name() {
    let mut seen = BTreeSet::new();
    for object in bootstrap_objects(&[("client-ca-file", "pem".into())]) {
        let key = (
            text(&object, "/kind").to_string(),
            text(&object, "/metadata/namespace").to_string(),
            text(&object, "/metadata/name").to_string(),
        );
        assert!(seen.insert(key.clone()), "{key:?} twice");
        if key.0.ends_with("Role") {
            assert!(!items(&object, "/rules").is_empty(), "{key:?} has no rules");
            for rule in items(&object, "/rules") {
                let of_urls = rule.get("nonResourceURLs").is_some();
                assert!(of_urls != rule.get("resources").is_some(), "{key:?}: {rule}");
                assert!(!items(rule, "/verbs").is_empty());
            }
            assert_eq!(
                text(&object, "/metadata/labels/kubernetes.io~1bootstrapping"),
                "rbac-defaults"
            );
        }
    }
}

#[test]
fn every_line_of_the_tables_is_read() {
    for table in [CLUSTER_ROLES, CONTROLLER_ROLES, NAMESPACE_ROLES] {
        let lines = table
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#') && !l.starts_with('['));
        let roles = table::parse(table);
        let read: usize = roles.iter().map(|r| r.rules.len() + r.bindings.len()).sum();
        assert_eq!(read, lines.count());
        let bound: usize =
            table.matches("user:").count() + table.matches("group:").count() + table.matches("sa:").count();
        let subjects: usize = roles.iter().flat_map(|r| &r.bindings).map(|b| b.subjects.len()).sum();
        assert_eq!(subjects, bound);
    }
}

#[test]
fn every_binding_names_a_role() {
    let objects = bootstrap_objects(&[]);
    for binding in objects.iter().filter(|o| text(o, "/kind").ends_with("Binding")) {
        let target = role(&objects, text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        if text(target, "/metadata/namespace").is_empty() {
            assert_eq!(text(binding, "/kind"), "ClusterRoleBinding");
        }
    }
}

#[test]
fn aggregation_is_a_chain_and_view_cannot_read_secrets() {
    let objects = bootstrap_objects(&[]);
    let rules = |name: &str| rules_of_role(role(&objects, "ClusterRole", name));
    let allows = |name: &str, verb: &str, group: &str, resource: &str| {
        rules(name).iter().any(|rule| {
            rule.verbs.iter().any(|v| v == verb)
                && rule.groups.iter().any(|g| g == group)
                && rule.resources.iter().any(|r| r == resource)
        })
    };
    for (name, verb, group, resource, expected) in [
        ("view", "get", "", "pods", true),
        ("view", "get", "", "secrets", false),
        ("view", "create", "", "pods", false),
        ("view", "get", "", "pods/exec", false),
        ("view", "get", "rbac.authorization.k8s.io", "roles", false),
        ("edit", "get", "", "pods", true),
        ("edit", "get", "", "secrets", true),
        ("edit", "create", "apps", "deployments", true),
        ("edit", "create", "rbac.authorization.k8s.io", "roles", false),
        ("edit", "update", "", "pods/status", false),
        ("edit", "create", "", "resourcequotas", false),
        ("admin", "get", "", "pods", true),
        ("admin", "delete", "", "secrets", true),
        ("admin", "create", "rbac.authorization.k8s.io", "rolebindings", true),
        ("admin", "update", "", "resourcequotas", false),
        ("admin", "update", "", "namespaces", false),
    ] {
        assert_eq!(
            allows(name, verb, group, resource),
            expected,
            "{name} {verb} {group}/{resource}"
        );
    }
}

#[test]
fn controllers_are_bound_to_their_own_service_account() {
    let objects = bootstrap_objects(&[]);
    let binding = role(&objects, "ClusterRoleBinding", "system:controller:job-controller");
    assert_eq!(items(binding, "/subjects")[0]["name"], "job-controller");
    assert_eq!(items(binding, "/subjects")[0]["namespace"], "kube-system");
    assert!(items(role(&objects, "ClusterRoleBinding", "system:node"), "/subjects").is_empty());
}
