//! Webhooks as their configurations say.

use crate::conditions::Conditions;
use crate::expressions::{Variables, namespace_of, request_value, resource_of};
use crate::matching::Constraints;
use crate::request::{Form, Objects, Request};
use crate::review::ReviewVersion;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_cel::Authorizer;
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
#[derive(Debug)]
pub struct Hook {
    pub name: String,
    pub configuration: String,
    /// Tells it from all others: configuration, name, and which of that name.
    pub id: String,
    pub constraints: Constraints,
    pub(crate) conditions: Conditions,
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

impl Hook {
    /// Whether its match conditions let it be asked about objects shown in `form`.
    pub fn conditions_hold(
        &self,
        request: &Request<'_>,
        form: &Form<'_>,
        shown: Objects<'_>,
        authorizer: &dyn Authorizer,
    ) -> Result<bool, ApiError> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let variables = Variables {
            request: &request_value(request, form),
            object: shown.object,
            old: shown.old,
            params: &Value::Null,
            // Upstream shows conditions no namespace either.
            namespace: &namespace_of(None),
            authorizer,
            resource: resource_of(request),
        };
        self.conditions.hold(&variables, self.failure_policy).map_err(|why| {
            let resource = request.form.resource;
            ApiError::forbidden(resource.group, resource.resource, request.name, &why)
        })
    }
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
    Hook {
        id: format!("{configuration}/{name}/{count}"),
        constraints: Constraints::of_webhook(hook),
        conditions: Conditions::of(&hook["matchConditions"], false),
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
