//! Rows of authorization.k8s.io.

use crate::contract::Kind;
use crate::row::{CREATE, kind};

pub(crate) const GROUP: &str = "authorization.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            verbs: CREATE,
            // local_subject_access_review
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
            // self_subject_access_review
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
            // self_subject_rules_review
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
            // subject_access_review
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
