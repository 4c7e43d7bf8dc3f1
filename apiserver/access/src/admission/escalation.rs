//! Nobody grants what they do not have: writes of roles and bindings.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>.

use super::forbidden;
use crate::authentication::MASTERS;
use crate::authorization::Authorizers;
use crate::authorization::rbac::{GROUP, rules_of_role};
use crate::authorization::rules::{Rule, compact, uncovered};
use crate::contract::{AdmissionRequest, Admitted, Attributes, Decision, Objects, Operation};
use crate::tree::{items, text};
use serde_json::Value;
use skiff_api::ApiError;

/// Missing rules shown in a message; a role can lack thousands.
const SHOWN_MAX: usize = 500;

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    let write = matches!(r.operation, Operation::Create | Operation::Update);
    if r.group != GROUP || !write || !r.subresource.is_empty() || r.user.groups.iter().any(|g| g == MASTERS) {
        return Ok(());
    }
    match r.resource {
        "roles" | "clusterroles" => role(r, objects, authorizers),
        "rolebindings" | "clusterrolebindings" => binding(r, objects, authorizers),
        _ => Ok(()),
    }
}

fn role(r: &AdmissionRequest, objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    let rules = rules_of_role(r.object);
    let selectors = |role: &Value| items(role, "/aggregationRule/clusterRoleSelectors").to_vec();
    let unchanged = r
        .old_object
        .is_some_and(|old| rules_of_role(old) == rules && selectors(old) == selectors(r.object));
    if unchanged
        || has_verb(
            r,
            "escalate",
            r.resource,
            text(r.object, "/metadata/name"),
            objects,
            authorizers,
        )
    {
        return Ok(());
    }
    if !selectors(r.object).is_empty() {
        // What an aggregated role will allow is not known beforehand.
        let all = |list: &str| vec![list.to_string()];
        let everything = [
            Rule {
                verbs: all("*"),
                groups: all("*"),
                resources: all("*"),
                ..Rule::default()
            },
            Rule {
                verbs: all("*"),
                urls: all("*"),
                ..Rule::default()
            },
        ];
        if !missing(r, &everything, objects, authorizers).is_empty() {
            return Err(forbidden(
                r,
                "must have cluster-admin privileges to use the aggregationRule",
            ));
        }
    }
    granting(r, &rules, objects, authorizers)
}

fn binding(r: &AdmissionRequest, objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    let same = |key: &str| r.old_object.is_some_and(|old| old.get(key) == r.object.get(key));
    if same("roleRef") && same("subjects") {
        return Ok(());
    }
    let resource = if text(r.object, "/roleRef/kind") == "Role" {
        "roles"
    } else {
        "clusterroles"
    };
    let name = text(r.object, "/roleRef/name");
    if has_verb(r, "bind", resource, name, objects, authorizers) {
        return Ok(());
    }
    match authorizers.index(objects).referenced(r.namespace, r.object) {
        Some(rules) => granting(r, &rules, objects, authorizers),
        None => Err(ApiError::not_found(GROUP, resource, name)),
    }
}

fn granting(r: &AdmissionRequest, rules: &[Rule], objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    let missing = missing(r, rules, objects, authorizers);
    if missing.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = missing.iter().take(SHOWN_MAX).map(Rule::shown).collect();
    if missing.len() > SHOWN_MAX {
        shown.push(format!("and {} more", missing.len() - SHOWN_MAX));
    }
    let groups: Vec<String> = r.user.groups.iter().map(|group| format!("{group:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        r.user.name,
        groups.join(" "),
        shown.join("\n")
    );
    let faults = authorizers.index(objects).faults(r.user, r.namespace);
    let why = match faults.is_empty() {
        true => why,
        false => format!("{why}; resolution errors: [{}]", faults.join(", ")),
    };
    Err(forbidden(r, &why))
}

fn missing(r: &AdmissionRequest, rules: &[Rule], objects: &dyn Objects, authorizers: &Authorizers) -> Vec<Rule> {
    let index = authorizers.index(objects);
    let held: Vec<Rule> = index.rules_of(r.user, r.namespace).cloned().collect();
    compact(uncovered(&held, rules))
}

fn has_verb(
    r: &AdmissionRequest,
    verb: &str,
    resource: &str,
    name: &str,
    objects: &dyn Objects,
    authorizers: &Authorizers,
) -> bool {
    let attributes = Attributes {
        user: r.user,
        verb,
        group: GROUP,
        version: "*",
        resource,
        subresource: "",
        namespace: r.namespace,
        name,
        path: "",
        field_selector: "",
        label_selector: "",
    };
    matches!(authorizers.authorize(&attributes, objects), Decision::Allow { .. })
}
