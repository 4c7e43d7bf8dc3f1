//! Rows of authorization.k8s.io.

use crate::check::{Errors, Path};
use crate::contract::Kind;
use crate::core::pod::gather;
use crate::row::{CREATE, kind};
use crate::rules::{NameRule, Rules};
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const GROUP: &str = "authorization.k8s.io";
const V1: &[&str] = &["v1"];

/// Reviews are answered, never stored: no name is asked for.
const REVIEW: Rules = Rules {
    name: NameRule::Any,
    ..Rules::BASE
};

static RULES: Rules = REVIEW;

static SELF: Rules = Rules {
    validate_create: |o| {
        gather(|errors| {
            asked(o.at("spec"), errors);
            unnamed(o, &[], "must be empty", errors);
        })
    },
    ..REVIEW
};

static SUBJECT: Rules = Rules {
    validate_create: |o| {
        gather(|errors| {
            of_somebody(o.at("spec"), errors);
            unnamed(o, &[], "must be empty", errors);
        })
    },
    ..REVIEW
};

static LOCAL: Rules = Rules {
    validate_create: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            of_somebody(o.at("spec"), errors);
            unnamed(o, &["namespace"], "must be empty except for namespace", errors);
            let namespace = o.text("spec.resourceAttributes.namespace");
            if o.has("spec.resourceAttributes") && namespace != o.text("metadata.namespace") {
                let at = path.of("resourceAttributes");
                errors.invalid(&at.of("namespace"), namespace, "must match metadata.namespace");
            }
            if o.has("spec.nonResourceAttributes") {
                let value = o.at("spec.nonResourceAttributes").clone();
                let text = "disallowed on this kind of request";
                errors.invalid(&path.of("nonResourceAttributes"), value, text);
            }
        })
    },
    ..REVIEW
};

/// One thing is asked about: a resource or a path.
fn asked(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (resource, url) = (spec.has("resourceAttributes"), spec.has("nonResourceAttributes"));
    if resource && url {
        let value = spec.at("nonResourceAttributes").clone();
        let text = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&path.of("nonResourceAttributes"), value, text);
    }
    if !resource && !url {
        let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&path.of("resourceAttributes"), Value::Null, text);
    }
    for key in ["fieldSelector", "labelSelector"] {
        let at = path.of("resourceAttributes");
        selector(spec.at("resourceAttributes").at(key), &at.of(key), errors);
    }
}

/// A selector is written as text or as requirements.
fn selector(selector: &Value, path: &Path, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    let (raw, requirements) = (selector.text("rawSelector"), selector.items("requirements"));
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let text = "may not specified at the same time as requirements";
            errors.invalid(&path.of("rawSelector"), raw, text);
        }
        (true, true) => {
            let text = "when specifying selector, requirements or rawSelector is required";
            errors.required(&path.of("requirements"), text);
        }
        _ => {}
    }
    let list = path.of("requirements");
    for (i, requirement) in requirements.iter().enumerate() {
        let path = list.at(i);
        errors.text_required(requirement, &path, "key");
        let (values, at) = (requirement.items("values"), path.of("values"));
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at, text);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.of("operator"), other, "not a valid selector operator"),
        }
    }
}

fn of_somebody(spec: &Value, errors: &mut Errors) {
    asked(spec, errors);
    if spec.text("user").is_empty() && spec.items("groups").is_empty() {
        let text = "at least one of user or group must be specified";
        errors.invalid(&Path::new("spec.user"), spec.text("user"), text);
    }
}

/// The metadata says nothing besides these members.
fn unnamed(o: &Value, besides: &[&str], text: &str, errors: &mut Errors) {
    let metadata = o.at("metadata");
    let says = |(key, value): (&String, &Value)| {
        let ours = besides.contains(&key.as_str()) || key == "managedFields";
        !ours && !crate::check::same(value, &Value::Null)
    };
    if metadata.as_object().into_iter().flatten().any(says) {
        errors.invalid(&Path::new("metadata"), metadata.clone(), text);
    }
}

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            verbs: CREATE,
            strategy: &LOCAL,
            ..kind!(
                GROUP,
                V1,
                "LocalSubjectAccessReview",
                "localsubjectaccessreviews",
                "localsubjectaccessreview",
                true
            )
        },
        Kind {
            verbs: CREATE,
            strategy: &SELF,
            ..kind!(
                GROUP,
                V1,
                "SelfSubjectAccessReview",
                "selfsubjectaccessreviews",
                "selfsubjectaccessreview",
                false
            )
        },
        Kind {
            verbs: CREATE,
            strategy: &RULES,
            ..kind!(
                GROUP,
                V1,
                "SelfSubjectRulesReview",
                "selfsubjectrulesreviews",
                "selfsubjectrulesreview",
                false
            )
        },
        Kind {
            verbs: CREATE,
            strategy: &SUBJECT,
            ..kind!(
                GROUP,
                V1,
                "SubjectAccessReview",
                "subjectaccessreviews",
                "subjectaccessreview",
                false
            )
        },
    ]
}
