//! Webhooks as their configurations say.

use crate::matching::Constraints;
use crate::review::ReviewVersion;
use serde_json::Value;
use std::sync::Arc;

/// What happens when a webhook or policy cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    Fail,
    Ignore,
}

impl FailurePolicy {
    pub(crate) fn of(value: &Value) -> Self {
        if value["failurePolicy"] == "Ignore" {
            Self::Ignore
        } else {
            Self::Fail
        }
    }
}

/// One webhook of a configuration.
#[derive(Debug, Clone)]
pub struct Hook {
    pub name: String,
    pub configuration: String,
    /// Tells it from all others: configuration, name, and which of that name.
    pub id: String,
    pub constraints: Constraints,
    /// Name and expression.
    pub conditions: Vec<(String, String)>,
    pub failure_policy: FailurePolicy,
    /// Says that dry runs have no effect on it.
    pub dry_run_safe: bool,
    /// Asked again when others changed the object after it.
    pub reinvoked: bool,
    pub timeout_seconds: u64,
    pub review_version: Option<ReviewVersion>,
    /// `clientConfig`, as it is.
    pub client: Value,
}

/// The webhooks of all configurations in the order in which they are asked:
/// by the name of the configuration, then as they are listed.
pub fn hooks(configurations: &[Arc<Value>]) -> Vec<Hook> {
    let mut sorted: Vec<&Arc<Value>> = configurations.iter().collect();
    let name = |configuration: &Value| configuration["metadata"]["name"].as_str().unwrap_or("").to_string();
    sorted.sort_by_key(|configuration| name(configuration));
    let mut hooks = Vec::new();
    for configuration in sorted {
        let of = name(configuration);
        let mut seen = std::collections::BTreeMap::new();
        for hook in configuration["webhooks"].as_array().into_iter().flatten() {
            let text = hook["name"].as_str().unwrap_or("").to_string();
            let count = seen.entry(text.clone()).and_modify(|n| *n += 1).or_insert(0);
            hooks.push(read(hook, of.clone(), text, *count));
        }
    }
    hooks
}

fn read(hook: &Value, configuration: String, name: String, count: usize) -> Hook {
    let conditions = hook["matchConditions"].as_array().into_iter().flatten();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_string();
    Hook {
        id: format!("{configuration}/{name}/{count}"),
        constraints: Constraints::of_webhook(hook),
        conditions: conditions.map(|c| (text(c, "name"), text(c, "expression"))).collect(),
        failure_policy: FailurePolicy::of(hook),
        dry_run_safe: matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
        reinvoked: hook["reinvocationPolicy"] == "IfNeeded",
        timeout_seconds: hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30),
        review_version: hook["admissionReviewVersions"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|version| ReviewVersion::parse(version.as_str()?)),
        client: hook["clientConfig"].clone(),
        name,
        configuration,
    }
}
