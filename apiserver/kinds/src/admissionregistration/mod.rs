//! Rows of admissionregistration.k8s.io.

mod matching;
mod policy;
mod webhook;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            categories: &["api-extensions"],
            columns: policy::MUTATING_COLUMNS,
            strategy: &policy::MUTATING,
            ..kind!(
                GROUP,
                V1,
                "MutatingAdmissionPolicy",
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicy",
                false
            )
        },
        Kind {
            categories: &["api-extensions"],
            columns: policy::BINDING_COLUMNS,
            strategy: &policy::MUTATING_BINDING,
            ..kind!(
                GROUP,
                V1,
                "MutatingAdmissionPolicyBinding",
                "mutatingadmissionpolicybindings",
                "mutatingadmissionpolicybinding",
                false
            )
        },
        Kind {
            categories: &["api-extensions"],
            columns: webhook::COLUMNS,
            strategy: &webhook::MUTATING,
            ..kind!(
                GROUP,
                V1,
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                "mutatingwebhookconfiguration",
                false
            )
        },
        Kind {
            categories: &["api-extensions"],
            subresources: const { &[status(GROUP, "v1", "ValidatingAdmissionPolicy")] },
            columns: policy::VALIDATING_COLUMNS,
            strategy: &policy::VALIDATING,
            ..kind!(
                GROUP,
                V1,
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
                "validatingadmissionpolicy",
                false
            )
        },
        Kind {
            categories: &["api-extensions"],
            columns: policy::BINDING_COLUMNS,
            strategy: &policy::VALIDATING_BINDING,
            ..kind!(
                GROUP,
                V1,
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
                "validatingadmissionpolicybinding",
                false
            )
        },
        Kind {
            categories: &["api-extensions"],
            columns: webhook::COLUMNS,
            strategy: &webhook::VALIDATING,
            ..kind!(
                GROUP,
                V1,
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                "validatingwebhookconfiguration",
                false
            )
        },
    ]
}
