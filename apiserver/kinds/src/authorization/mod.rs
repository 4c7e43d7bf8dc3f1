//! Rows of authorization.k8s.io.

use crate::contract::Kind;
use crate::row::{CREATE, kind};
use crate::rules::{NameRule, Rules};

pub(crate) const GROUP: &str = "authorization.k8s.io";
const V1: &[&str] = &["v1"];

/// Reviews are answered, never stored: no name is asked for.
static REVIEW: Rules = Rules {
    name: NameRule::Any,
    ..Rules::BASE
};

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            verbs: CREATE,
            strategy: &REVIEW,
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
            strategy: &REVIEW,
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
            strategy: &REVIEW,
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
            strategy: &REVIEW,
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
