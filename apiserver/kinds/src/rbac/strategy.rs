//! Roles and bindings.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::{NameRule, Rules};
use crate::selector;
use crate::tree::{Tree, each, object, set_text};
use jiff::Timestamp;
use serde_json::Value;

const GROUP: &str = super::GROUP;

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("Role", "What is granted."),
    AGE,
    wide("Users", "Users it is granted to."),
    wide("Groups", "Groups it is granted to."),
    wide("ServiceAccounts", "Service accounts it is granted to."),
];

pub(super) mod role {
    use super::*;
    pub(crate) use crate::row::DEFAULT_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        name: NameRule::PathSegment,
        validate: |o| gather(|errors| rules(o, true, errors)),
        ..Rules::BASE
    };
}

pub(super) mod cluster_role {
    use super::*;
    pub(crate) use crate::row::DEFAULT_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        name: NameRule::PathSegment,
        validate: |o| {
            gather(|errors| {
                rules(o, false, errors);
                let list = Path::new("aggregationRule.clusterRoleSelectors");
                if o.has("aggregationRule") && o.items("aggregationRule.clusterRoleSelectors").is_empty() {
                    let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                    errors.required(&list, text);
                }
                for (i, select) in o.items("aggregationRule.clusterRoleSelectors").iter().enumerate() {
                    selector::validate(select, &list.at(i), errors);
                }
            })
        },
        ..Rules::BASE
    };
}

const BINDING: Rules = Rules {
    name: NameRule::PathSegment,
    default: |o| {
        if let Some(role) = object(o, "roleRef") {
            set_text(role, "apiGroup", GROUP);
        }
        for subject in each(o, "subjects") {
            if matches!(subject.text("kind"), "User" | "Group") {
                set_text(subject, "apiGroup", GROUP);
            }
        }
    },
    validate_update: |_, new, old| {
        gather(|errors| {
            if !same(new.at("roleRef"), old.at("roleRef")) {
                errors.invalid(
                    &Path::new("roleRef"),
                    new.at("roleRef").clone(),
                    "cannot change roleRef",
                );
            }
        })
    },
    row: binding_row,
    ..Rules::BASE
};

pub(super) mod role_binding {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = BINDING_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| gather(|errors| binding(o, &["Role", "ClusterRole"], errors)),
        ..BINDING
    };
}

pub(super) mod cluster_role_binding {
    use super::*;
    pub(crate) const COLUMNS: &[Column] = BINDING_COLUMNS;
    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| gather(|errors| binding(o, &["ClusterRole"], errors)),
        ..BINDING
    };
}

fn rules(o: &Value, namespaced: bool, errors: &mut Errors) {
    let list = Path::new("rules");
    for (i, rule) in o.items("rules").iter().enumerate() {
        let path = list.at(i);
        if rule.items("verbs").is_empty() {
            errors.required(&path.of("verbs"), "verbs must contain at least one value");
        }
        let urls = rule.items("nonResourceURLs");
        if !urls.is_empty() {
            if namespaced {
                errors.invalid(
                    &path.of("nonResourceURLs"),
                    urls.to_vec(),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|k| !rule.items(k).is_empty())
            {
                let text = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path.of("nonResourceURLs"), urls.to_vec(), text);
            }
            continue;
        }
        if rule.items("apiGroups").is_empty() {
            errors.required(
                &path.of("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if rule.items("resources").is_empty() {
            errors.required(
                &path.of("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}

fn binding(o: &Value, kinds: &[&str], errors: &mut Errors) {
    let path = Path::new("roleRef");
    let role = o.at("roleRef");
    let namespaced = kinds.len() > 1;
    if role.text("apiGroup") != GROUP {
        errors.not_supported(&path.of("apiGroup"), role.text("apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&role.text("kind")) {
        errors.not_supported(&path.of("kind"), role.text("kind"), kinds);
    }
    match role.text("name") {
        "" => errors.required(&path.of("name"), ""),
        name => errors.all(&path.of("name"), name, names::path_segment(name)),
    }
    let list = Path::new("subjects");
    for (i, subject) in o.items("subjects").iter().enumerate() {
        let path = list.at(i);
        let (name, group) = (subject.text("name"), subject.text("apiGroup"));
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        }
        match subject.text("kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    errors.all(&path.of("name"), name, names::dns_subdomain(name));
                }
                if !group.is_empty() {
                    errors.not_supported(&path.of("apiGroup"), group, &[""]);
                }
                if !namespaced && subject.text("namespace").is_empty() {
                    errors.required(&path.of("namespace"), "");
                }
            }
            kind @ ("User" | "Group") => {
                if name.is_empty() {
                    let text = format!("{} name cannot be empty", kind.to_lowercase());
                    errors.invalid(&path.of("name"), "", &text);
                }
                if group != GROUP {
                    errors.not_supported(&path.of("apiGroup"), group, &[GROUP]);
                }
            }
            other => errors.not_supported(&path.of("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn binding_row(o: &Value, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| -> Value {
        let subjects = o.items("subjects").iter().filter(|s| s.text("kind") == kind);
        let shown = subjects.map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", s.text("namespace"), s.text("name")),
            _ => s.text("name").to_string(),
        });
        shown.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        cell::name(o),
        format!("{}/{}", o.text("roleRef.kind"), o.text("roleRef.name")).into(),
        cell::age(o, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}
