//! Gets a container's image, and those of its image volumes, by their pull policies,
//! with kubelet's reasons and words.

use super::node::Shared;
use super::plan::Waiting;
use super::spec::{self, Role};
use crate::image::pull::{self, Pulled};
use crate::image::{Reference, go_duration};
use crate::volume::{self, Kind};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use skiff_proto::cri::v1 as cri;

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.into(),
        message,
    }
}

/// An image that is asked for.
struct Wanted<'a> {
    image: &'a str,
    policy: &'a str,
    /// Where in the pod: the events point there.
    field: Option<String>,
}

impl<'a> Wanted<'a> {
    fn new(image: Option<&'a str>, policy: Option<&'a str>, field: Option<String>) -> Self {
        let image = image.unwrap_or_default();
        Self {
            image,
            policy: policy_of(image, policy),
            field,
        }
    }
}

/// The policy that Kubernetes' defaults give an image without one.
fn policy_of<'a>(image: &str, policy: Option<&'a str>) -> &'a str {
    let last = image.rsplit('/').next().unwrap_or_default();
    match policy {
        Some(policy) if !policy.is_empty() => policy,
        _ if !image.contains('@') && (!last.contains(':') || last.ends_with(":latest")) => "Always",
        _ => "IfNotPresent",
    }
}

pub async fn ensure(shared: &Shared, pod: &Pod, container: &Container, role: Role) -> Result<cri::Image, Waiting> {
    for volume in image_volumes(pod, container) {
        let Some(source) = &volume.image else { continue };
        let wanted = Wanted::new(source.reference.as_deref(), source.pull_policy.as_deref(), None);
        let image = get(shared, pod, &wanted).await?;
        let mounted = volume::image::mount(shared, pod, volume, &image).await;
        mounted.map_err(|e| waiting("CreateContainerConfigError", e.chain()))?;
    }
    let field = Some(spec::field_path(role, &container.name));
    let policy = container.image_pull_policy.as_deref();
    get(shared, pod, &Wanted::new(container.image.as_deref(), policy, field)).await
}

fn image_volumes<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = &'a Volume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter(|v| Kind::of(v) == Kind::Image).filter(|v| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|m| m.name == v.name)
    })
}

async fn get(shared: &Shared, pod: &Pod, wanted: &Wanted<'_>) -> Result<cri::Image, Waiting> {
    let result = look_and_pull(shared, pod, wanted).await;
    if let Err(waiting) = &result {
        let text = format!("Error: {}", waiting.reason);
        shared.recorder.pod(pod, wanted.field.clone(), true, "Failed", text);
    }
    result
}

async fn look_and_pull(shared: &Shared, pod: &Pod, wanted: &Wanted<'_>) -> Result<cri::Image, Waiting> {
    let Wanted { image, policy, .. } = wanted;
    let say = |warning: bool, reason: &'static str, text: String| {
        shared.recorder.pod(pod, wanted.field.clone(), warning, reason, text);
    };
    let reference = Reference::parse(image).map_err(|why| {
        let message =
            format!("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {why}");
        say(true, "InspectFailed", message.clone());
        waiting("InvalidImageName", message)
    })?;
    let mut imported = shared.images_ready.clone();
    let _ = imported.wait_for(|ready| *ready).await;
    let present = match *policy {
        "Always" => None,
        _ => shared.runtime.image(image).await.map_err(|e| {
            let message = format!("Failed to inspect image \"{image}\": {}", e.rpc());
            say(true, "InspectFailed", message.clone());
            waiting("ImageInspectError", message)
        })?,
    };
    let never = || {
        let message = format!("Container image \"{image}\" is not present with pull policy of Never");
        say(true, "ErrImageNeverPull", message.clone());
        waiting("ErrImageNeverPull", message)
    };
    if *policy == "Never" && present.is_none() {
        return Err(never());
    }
    let (logins, missing) = pull::logins(shared, pod, &reference).await;
    if !missing.is_empty() {
        let names = missing.join(", ");
        let text = format!(
            "Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
        );
        shared
            .recorder
            .pod(pod, None, true, "FailedToRetrieveImagePullSecret", text);
    }
    let there = || format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
    if let Some(present) = present {
        if pull::may_use(shared, &reference, &present, &logins) {
            say(false, "Pulled", there());
            return Ok(present);
        }
        if *policy == "Never" {
            return Err(never());
        }
    }
    say(false, "Pulling", format!("Pulling image \"{image}\""));
    let started = std::time::Instant::now();
    match pull::pull(shared, &reference, &logins, *policy == "Always").await {
        Ok(Pulled { image: found, took }) => {
            let text = took.map(|took| {
                let (took, waited) = (go_duration(took), go_duration(started.elapsed()));
                let bytes = found.size;
                format!(
                    "Successfully pulled image \"{image}\" in {took} ({waited} including waiting). \
                     Image size: {bytes} bytes."
                )
            });
            say(false, "Pulled", text.unwrap_or_else(there));
            Ok(found)
        }
        Err(error) => {
            say(true, "Failed", format!("Failed to pull image \"{image}\": {error}"));
            Err(waiting("ErrImagePull", error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_policies() {
        for (image, given, expected) in [
            ("web", None, "Always"),
            ("web:latest", None, "Always"),
            ("r:5000/web", None, "Always"),
            ("r:5000/web:1", None, "IfNotPresent"),
            ("web@sha256:00", None, "IfNotPresent"),
            ("web", Some("Never"), "Never"),
            ("web", Some(""), "Always"),
        ] {
            assert_eq!(policy_of(image, given), expected, "{image}");
        }
    }
}
