//! Taints and who tolerates them. Pure.

use k8s_openapi::api::core::v1::{Taint, Toleration};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tolerated {
    key: String,
    operator: String,
    value: String,
    effect: String,
}

impl Tolerated {
    pub fn new(toleration: &Toleration) -> Self {
        Self {
            key: toleration.key.clone().unwrap_or_default(),
            operator: toleration.operator.clone().unwrap_or_default(),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration.effect.clone().unwrap_or_default(),
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        let value = taint.value.as_deref().unwrap_or_default();
        if !(self.effect.is_empty() || self.effect == taint.effect) || !(self.key.is_empty() || self.key == taint.key) {
            return false;
        }
        let numbers = || Some((value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match self.operator.as_str() {
            "" | "Equal" => self.value == value,
            "Exists" => true,
            "Gt" => numbers().is_some_and(|(have, bound)| have > bound),
            "Lt" => numbers().is_some_and(|(have, bound)| have < bound),
            _ => false,
        }
    }
}

pub fn tolerates(tolerations: &[Tolerated], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// What an unschedulable node is as good as tainted with.
pub fn unschedulable_taint() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}

/// The taint keeps pods out that do not tolerate it.
pub fn bars(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operators_effects_and_keys() {
        let taint = Taint {
            key: "gpu".into(),
            value: Some("5".into()),
            effect: "NoExecute".into(),
            ..Taint::default()
        };
        for (toleration, expected) in [
            (
                json!({"key": "gpu", "operator": "Equal", "value": "5", "effect": "NoExecute"}),
                true,
            ),
            (json!({"key": "gpu", "value": "5"}), true),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "value": "no"}), false),
            (json!({"key": "cpu", "operator": "Exists"}), false),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
                false,
            ),
            (json!({"key": "gpu", "operator": "Gt", "value": "4"}), true),
            (json!({"key": "gpu", "operator": "Gt", "value": "5"}), false),
            (json!({"key": "gpu", "operator": "Lt", "value": "6"}), true),
            (json!({"key": "gpu", "operator": "Lt", "value": "x"}), false),
            (json!({"key": "gpu", "operator": "Odd", "value": "5"}), false),
        ] {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&[Tolerated::new(&parsed)], &taint), expected, "{toleration}");
        }
        assert!(!tolerates(&[], &taint));
    }
}
