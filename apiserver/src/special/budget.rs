//! What an eviction takes off a PodDisruptionBudget, and when it may not. Pure.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

use crate::registry::text_at;
use serde_json::{Value, json};
use skiff_api::ApiError;

/// Pods that may be on their way out at once, as upstream: more means that the
/// controller has not looked for a long time.
const DISRUPTED_PODS_MAX: usize = 2000;
/// When to ask again about a budget that was not looked at yet.
const UNSEEN_RETRY_SECONDS: u64 = 10;

/// The budget after one more eviction; `None` if this pod costs it nothing.
pub(super) fn spend(budget: &Value, pod: &Value, now: &str) -> Result<Option<Value>, ApiError> {
    let name = text_at(budget, &["metadata", "name"]);
    let status = &budget["status"];
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    if !is_ready(pod) {
        let healthy = count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy");
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || healthy {
            return Ok(None);
        }
    }
    if count("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(&why, Some(UNSEEN_RETRY_SECONDS)));
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden(name, "pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"]
        .as_object()
        .is_some_and(|pods| pods.len() > DISRUPTED_PODS_MAX)
    {
        return Err(forbidden(
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let failed = conditions.find(|c| c["type"] == "DisruptionAllowed" && c["reason"] == "SyncFailed");
        let why = match failed {
            Some(condition) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                text_at(condition, &["message"])
            ),
            None => format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                count("desiredHealthy"),
                count("currentHealthy")
            ),
        };
        return Err(refused(&why, None));
    }
    let mut spent = budget.clone();
    spent["status"]["disruptionsAllowed"] = (allowed - 1).into();
    spent["status"]["disruptedPods"][text_at(pod, &["metadata", "name"])] = now.into();
    if allowed == 1 {
        let conditions = spent["status"]["conditions"].as_array_mut().into_iter().flatten();
        for condition in conditions.filter(|c| c["type"] == "DisruptionAllowed" && c["status"] == "True") {
            condition["status"] = "False".into();
            condition["reason"] = "InsufficientPods".into();
            condition["lastTransitionTime"] = now.into();
        }
    }
    Ok(Some(spent))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn refused(why: &str, retry_seconds: Option<u64>) -> ApiError {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::too_many_requests(text, 0);
    let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
    // Clients try again by themselves where this is set.
    if let Some(seconds) = retry_seconds {
        details["retryAfterSeconds"] = seconds.into();
    }
    error.details = Some(details);
    error
}

fn forbidden(name: &str, why: &str) -> ApiError {
    ApiError::forbidden("policy", "poddisruptionbudgets", name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evictions_spend_the_budget() {
        let budget = |status: Value| json!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": status});
        let ready = json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let unready = json!({"metadata": {"name": "p"}, "status": {}});
        let one = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3,
            "conditions": [{"type": "DisruptionAllowed", "status": "True"}]});
        let spent = spend(&budget(one.clone()), &ready, "t").unwrap().unwrap();
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert_eq!(spent["status"]["disruptedPods"], json!({"p": "t"}));
        assert_eq!(spent["status"]["conditions"][0]["status"], "False");
        let error = spend(&spent, &ready, "t").unwrap_err();
        assert_eq!(error.code, 429);
        assert_eq!(
            error.details.unwrap()["causes"][0]["message"],
            "The disruption budget b needs 2 healthy pods and has 3 currently"
        );
        assert_eq!(
            spend(&spent, &unready, "t").unwrap(),
            None,
            "an unready pod of a healthy budget is free"
        );
        let unseen = spend(&budget(json!({})), &ready, "t").unwrap_err();
        assert_eq!(unseen.details.unwrap()["retryAfterSeconds"], 10);
        assert_eq!(
            spend(&budget(json!({"observedGeneration": 1})), &unready, "t")
                .unwrap_err()
                .code,
            429
        );
    }
}
