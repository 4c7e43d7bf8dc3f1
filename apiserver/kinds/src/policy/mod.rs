//! Rows of policy.

mod pod_disruption_budget;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "policy";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["pdb"],
        subresources: const { &[status(GROUP, "v1", "PodDisruptionBudget")] },
        columns: pod_disruption_budget::COLUMNS,
        strategy: &pod_disruption_budget::STRATEGY,
        ..kind!(
            GROUP,
            V1,
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "poddisruptionbudget",
            true
        )
    }]
}
