//! What events say of a resize, in upstream's words: a phrase, then the resources as JSON. Pure.

use crate::pod::spec;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<&'a ResourceRequirements>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Part<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Part<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

fn parts(containers: &[Container]) -> Vec<Part<'_>> {
    let each = containers.iter().map(|c| Part {
        name: &c.name,
        resources: c.resources.clone().unwrap_or_default(),
    });
    each.collect()
}

/// `phrase` as `Pod resize completed`.
pub fn of(phrase: &str, pod: &Pod, generation: i64, error: &str) -> String {
    let Some(spec) = pod.spec.as_ref() else {
        return phrase.to_owned();
    };
    let summary = Summary {
        resources: spec.resources.as_ref(),
        init_containers: parts(spec::init_containers(spec)),
        containers: parts(&spec.containers),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(text) => format!("{phrase}: {text}"),
        Err(_) => phrase.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn upstreams_words() {
        let needs = json!({"requests": {"cpu": "1", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "demo", "resources": needs}]}}))
            .expect("valid");
        let body = "{\"containers\":[{\"name\":\"demo\",\"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"128Mi\"},\
                    \"requests\":{\"cpu\":\"1\",\"memory\":\"128Mi\"}}}],\"generation\":5";
        assert_eq!(
            of("Pod resize started", &pod, 5, ""),
            format!("Pod resize started: {body}}}")
        );
        assert_eq!(
            of("Pod resize error", &pod, 5, "no"),
            format!("Pod resize error: {body},\"error\":\"no\"}}")
        );
    }
}
