//! Rows of admissionregistration.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            categories: &["api-extensions"],
            columns: strategy::mutating_admission_policy::COLUMNS,
            strategy: &strategy::mutating_admission_policy::STRATEGY,
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
            columns: strategy::mutating_admission_policy_binding::COLUMNS,
            strategy: &strategy::mutating_admission_policy_binding::STRATEGY,
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
            columns: strategy::mutating_webhook_configuration::COLUMNS,
            strategy: &strategy::mutating_webhook_configuration::STRATEGY,
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
            columns: strategy::validating_admission_policy::COLUMNS,
            strategy: &strategy::validating_admission_policy::STRATEGY,
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
            columns: strategy::validating_admission_policy_binding::COLUMNS,
            strategy: &strategy::validating_admission_policy_binding::STRATEGY,
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
            columns: strategy::validating_webhook_configuration::COLUMNS,
            strategy: &strategy::validating_webhook_configuration::STRATEGY,
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
