//! What a Job's policies say: whether a failed pod counts, and whether enough has succeeded. Pure.

use std::collections::BTreeSet;

use crate::key::Key;
use crate::slim::{ContainerStatus, Pod};
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};

use super::indexes;

/// What becomes of a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Count,
    Ignore,
    /// Its index is not tried again.
    FailIndex,
    /// The Job fails at once, for this reason.
    FailJob(String),
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let main = status.container_statuses.iter().flatten();
        main.chain(status.init_container_statuses.iter().flatten())
    })
}

/// The message where the rule matches the pod.
fn matched(rule: &PodFailurePolicyRule, index: usize, pod: &Pod) -> Option<String> {
    let key = Key::of(&pod.metadata);
    let action = &rule.action;
    if let Some(wanted) = &rule.on_exit_codes {
        let of_container = |status: &&ContainerStatus| {
            let named = wanted.container_name.as_deref();
            named.is_none_or(|named| named == status.name)
        };
        return containers(pod).filter(of_container).find_map(|status| {
            let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
            let listed = wanted.values.contains(&code);
            let fits = match wanted.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            (code != 0 && fits).then(|| {
                format!(
                    "Container {} for pod {key} failed with exit code {code} matching {action} rule at index {index}",
                    status.name
                )
            })
        });
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    rule.on_pod_conditions.iter().flatten().find_map(|wanted| {
        let status = wanted.status.as_deref().unwrap_or("True");
        let mut all = conditions.unwrap_or_default().iter();
        all.any(|known| known.type_ == wanted.type_ && known.status == status)
            .then(|| {
                let kind = &wanted.type_;
                format!("Pod {key} has condition {kind} matching {action} rule at index {index}")
            })
    })
}

/// The first rule that matches decides; without one the failure counts.
pub fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let mut decided = rules.iter().enumerate().filter_map(|(index, rule)| {
        let message = matched(rule, index, pod)?;
        Some(match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(message),
            _ => Verdict::Count,
        })
    });
    decided.next().unwrap_or(Verdict::Count)
}

/// The message where the succeeded indexes satisfy a rule of the success policy.
pub fn succeeded(job: &Job, completed: &BTreeSet<i32>) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let completions = spec.completions?;
    let rules = &spec.success_policy.as_ref()?.rules;
    let at = rules.iter().position(|rule| {
        let among = rule
            .succeeded_indexes
            .as_deref()
            .map(|text| indexes::parse(text, completions));
        let done = among
            .as_ref()
            .map_or(completed.len(), |among| among.intersection(completed).count());
        let needed = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        done >= needed.or(among.map(|among| among.len())).unwrap_or(usize::MAX)
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: Value) -> Job {
        let mut full = json!({"template": {}, "completions": 5});
        full.as_object_mut()
            .expect("a map")
            .extend(spec.as_object().expect("a map").clone());
        serde_json::from_value(json!({"spec": full})).expect("a job")
    }

    fn failed(code: i32, condition: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {
            "conditions": [{"type": condition, "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": false, "image": "", "imageID": "", "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}],
        }}))
        .expect("a pod")
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let job = job(json!({"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 42]}},
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [1]}},
        ]}}));
        assert_eq!(verdict(&job, &failed(42, "DisruptionTarget")), Verdict::Ignore);
        let message = "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(verdict(&job, &failed(42, "Ready")), Verdict::FailJob(message.into()));
        assert_eq!(verdict(&job, &failed(7, "Ready")), Verdict::FailIndex);
        assert_eq!(verdict(&job, &failed(1, "Ready")), Verdict::Count);
        assert_eq!(
            verdict(&job, &failed(0, "Ready")),
            Verdict::Count,
            "exit code 0 matches nothing"
        );
    }

    #[test]
    fn success_needs_the_indexes_or_their_number() {
        let check = |rule: Value, done: &[i32]| {
            succeeded(
                &job(json!({"successPolicy": {"rules": [rule]}})),
                &done.iter().copied().collect(),
            )
            .is_some()
        };
        assert!(check(json!({"succeededIndexes": "0-1"}), &[0, 1]));
        assert!(!check(json!({"succeededIndexes": "0-1"}), &[0, 2]));
        assert!(check(json!({"succeededCount": 2}), &[0, 4]));
        assert!(!check(json!({"succeededCount": 2, "succeededIndexes": "0-2"}), &[0, 4]));
        assert!(check(json!({"succeededCount": 2, "succeededIndexes": "0-2"}), &[0, 2]));
    }
}
