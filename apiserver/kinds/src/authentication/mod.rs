//! Rows of authentication.k8s.io.

use crate::contract::Kind;
use crate::row::{CREATE, kind};
use crate::rules::{NameRule, Rules};

pub(crate) const GROUP: &str = "authentication.k8s.io";
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
                "SelfSubjectReview",
                "selfsubjectreviews",
                "selfsubjectreview",
                false
            )
        },
        Kind {
            verbs: CREATE,
            strategy: &REVIEW,
            ..kind!(GROUP, V1, "TokenReview", "tokenreviews", "tokenreview", false)
        },
    ]
}
