//! Gets a container's image by its pull policy, with kubelet's reasons and words.

use super::node::Shared;
use super::plan::Waiting;
use super::spec::{self, Role};
use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_proto::cri::v1 as cri;

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.into(),
        message,
    }
}

/// The policy that Kubernetes' defaults give an image without one.
fn policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if !image.contains('@') && (!last.contains(':') || last.ends_with(":latest")) => "Always",
        _ => "IfNotPresent",
    }
}

/// Plain syntax only; the registry knows the rest.
fn is_reference(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((left, tag)) if !tag.contains('/') => left,
        _ => name,
    };
    let path = repository.split_once('/').map_or(repository, |(_, rest)| rest);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
    !repository.is_empty() && !path.is_empty() && path.chars().all(allowed)
}

pub async fn ensure(shared: &Shared, pod: &Pod, container: &Container, role: Role) -> Result<cri::Image, Waiting> {
    let reference = container.image.as_deref().unwrap_or_default();
    let field = || Some(spec::field_path(role, &container.name));
    if !is_reference(reference) {
        let message = format!(
            "Failed to apply default image tag \"{reference}\": couldn't parse image name \"{reference}\": invalid reference format"
        );
        shared
            .recorder
            .pod(pod, field(), true, "InspectFailed", message.clone());
        return Err(waiting("InvalidImageName", message));
    }
    let mut imported = shared.images_ready.clone();
    let _ = imported.wait_for(|ready| *ready).await;
    let look_up = || async {
        let found = shared.runtime.image(reference).await;
        found.map_err(|e| waiting("ImageInspectError", e.chain()))
    };
    let policy = policy(container);
    let present = look_up().await?;
    if policy != "Always"
        && let Some(image) = present
    {
        let message = format!("Container image \"{reference}\" already present on machine");
        shared.recorder.pod(pod, field(), false, "Pulled", message);
        return Ok(image);
    }
    if policy == "Never" {
        let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
        shared
            .recorder
            .pod(pod, field(), true, "ErrImageNeverPull", message.clone());
        return Err(waiting("ErrImageNeverPull", message));
    }
    shared
        .recorder
        .pod(pod, field(), false, "Pulling", format!("Pulling image \"{reference}\""));
    let started = std::time::Instant::now();
    match shared.runtime.pull(reference, None, None).await {
        Ok(_) => {
            let took = started.elapsed();
            let image = look_up()
                .await?
                .ok_or_else(|| waiting("ImageInspectError", "image vanished".into()))?;
            let message = format!(
                "Successfully pulled image \"{reference}\" in {took:.3?} ({took:.3?} including waiting). Image size: {} bytes.",
                image.size
            );
            shared.recorder.pod(pod, field(), false, "Pulled", message);
            Ok(image)
        }
        Err(error) => {
            let message = format!("Failed to pull image \"{reference}\": {}", error.rpc());
            shared.recorder.pod(pod, field(), true, "Failed", message.clone());
            shared
                .recorder
                .pod(pod, field(), true, "Failed", "Error: ErrImagePull".into());
            Err(waiting("ErrImagePull", error.rpc()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_syntax() {
        for (image, expected) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("r:5000/web", "Always"),
            ("r:5000/web:1", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
        ] {
            let container = Container {
                image: Some(image.into()),
                ..Default::default()
            };
            assert_eq!(policy(&container), expected, "{image}");
            assert!(is_reference(image), "{image}");
        }
        for bad in ["", "UPPER", "a/B:1", "a b", ":x"] {
            let upper_host = bad == "UPPER";
            assert!(!is_reference(bad), "{bad} {upper_host}");
        }
    }
}
