//! Rows of autoscaling.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "autoscaling";
const V2_V1: &[&str] = &["v2", "v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: const { &[status(GROUP, "v2", "HorizontalPodAutoscaler")] },
        // horizontal_pod_autoscaler
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

pub(crate) fn v1_to_v2(_o: &mut serde_json::Value) {}
pub(crate) fn v2_to_v1(_o: &mut serde_json::Value) {}
