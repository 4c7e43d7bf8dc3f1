//! Rows of autoscaling.

mod convert;

mod horizontal_pod_autoscaler;
mod legacy;
mod validate;

use crate::contract::Kind;
use crate::row::{kind, status};
pub(crate) use convert::{v1_to_v2, v2_to_v1};

pub(crate) const GROUP: &str = "autoscaling";
const V2_V1: &[&str] = &["v2", "v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: const { &[status(GROUP, "v2", "HorizontalPodAutoscaler")] },
        columns: horizontal_pod_autoscaler::COLUMNS,
        strategy: &horizontal_pod_autoscaler::STRATEGY,
        ..kind!(
            GROUP,
            V2_V1,
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            true
        )
    }]
}
