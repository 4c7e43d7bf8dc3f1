//! The pod that a Job starts. Pure.

use crate::slim::Pod;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::key::{annotation, name, namespace, uid};
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
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(TRACKING.to_string());
    let labels = pod.metadata.labels.get_or_insert_default();
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.insert(format!("{prefix}controller-uid"), uid(&job.metadata).to_string());
        labels.insert(format!("{prefix}job-name"), own_name.to_string());
    }
    let Some(index) = new.index else { return pod };
    labels.insert(INDEX.to_string(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_string(), index.to_string());
    if let Some(failures) = new.failures {
        annotations.insert(FAILURES.to_string(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED.to_string(), failures.ignored.to_string());
        }
    }
    pod.metadata.generate_name = Some(format!("{own_name}-{index}-"));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname.get_or_insert_with(|| format!("{own_name}-{index}"));
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
        container.env.get_or_insert_default().push(variable.clone());
    }
    pod
}
