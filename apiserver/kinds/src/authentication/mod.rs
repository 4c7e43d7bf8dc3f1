//! Rows of authentication.k8s.io.

use crate::contract::Kind;
use crate::row::{CREATE, kind};

pub(crate) const GROUP: &str = "authentication.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            verbs: CREATE,
            // self_subject_review
            ..kind!(
                GROUP,
                V1,
                "SelfSubjectReview",
                "selfsubjectreviews",
                "selfsubjectreview",
                false
            )
        },
        Kind {
            verbs: CREATE,
            // token_review
            ..kind!(GROUP, V1, "TokenReview", "tokenreviews", "tokenreview", false)
        },
    ]
}
