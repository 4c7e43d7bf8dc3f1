//! The pod that a Job starts. Pure.

use crate::slim::Pod;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::key::{annotation, name, namespace};
use crate::pods::{NewPod, from_template};

pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// One pod to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct New {
    /// Its completion index, where the Job is indexed.
    pub index: Option<i32>,
    /// How often the index has failed before, where each index has its own limit.
    pub failures: Option<Failures>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub counted: i32,
    pub ignored: i32,
}

pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|known| known == TRACKING)
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?.parse().ok()
}

/// Failures of the index before this pod.
pub fn failures_before(pod: &Pod) -> Failures {
    let read = |key| {
        annotation(&pod.metadata, key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    Failures {
        counted: read(FAILURES),
        ignored: read(IGNORED),
    }
}

pub fn pod(job: &Job, new: &New, owner: OwnerReference) -> NewPod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let own_name = name(&job.metadata);
    let mut pod = from_template(&template, namespace(&job.metadata), own_name, owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|known| known == TRACKING) {
        finalizers.push(TRACKING.to_string());
    }
    let Some(index) = new.index else { return pod };
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_string(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_string(), index.to_string());
    if let Some(failures) = new.failures {
        annotations.insert(FAILURES.to_string(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED.to_string(), failures.ignored.to_string());
        }
    }
    pod.metadata.generate_name = Some(name_prefix(own_name, index));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{own_name}-{index}"));
    let variable = EnvVar {
        name: "JOB_COMPLETION_INDEX".to_string(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..Default::default()
        }),
    };
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|known| known.name == variable.name) {
            variables.push(variable.clone());
        }
    }
    pod
}

/// The index stays in the name, however long the Job's is.
fn name_prefix(job: &str, index: i32) -> String {
    /// Of a generated name, before its random end.
    const PREFIX_MAX: usize = 58;
    let end = format!("-{index}-");
    let room = PREFIX_MAX.saturating_sub(end.len());
    let kept: String = job.chars().take(room).collect();
    format!("{kept}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::controller_reference;
    use serde_json::json;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "n", "uid": "u"},
            "spec": {"template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"hostname": "mine", "containers": [
                    {"name": "c"}, {"name": "d", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "own"}]},
                ]},
            }},
        }))
        .expect("a job");
        let new = New {
            index: Some(7),
            failures: None,
        };
        let made = pod(&job, &new, controller_reference("batch/v1", "Job", &job.metadata));
        assert_eq!(made.metadata.generate_name.as_deref(), Some("j-7-"));
        assert_eq!(made.metadata.finalizers.as_deref(), Some(&[TRACKING.to_string()][..]));
        for place in [&made.metadata.labels, &made.metadata.annotations] {
            assert_eq!(
                place.as_ref().and_then(|all| all.get(INDEX)).map(String::as_str),
                Some("7")
            );
        }
        let spec = made.spec.expect("a spec");
        assert_eq!(spec.hostname.as_deref(), Some("j-7"));
        let value = |container: usize| serde_json::to_value(&spec.containers[container].env).expect("JSON");
        assert_eq!(
            value(0),
            json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef":
                {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}])
        );
        assert_eq!(value(1), json!([{"name": "JOB_COMPLETION_INDEX", "value": "own"}]));
    }

    #[test]
    fn long_names_keep_their_index() {
        assert_eq!(name_prefix("job", 12), "job-12-");
        let long = name_prefix(&"x".repeat(63), 12345);
        assert_eq!(long, format!("{}-12345-", "x".repeat(51)));
    }
}
