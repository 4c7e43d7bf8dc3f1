//! A pod's volumes on this node: made before its containers, taken away after.
//!
//! ```text
//! pod --kind--> payload (files) --atomic--> directory
//!        |----> empty_dir, host_path, image        |--mounts, sub_path--> container
//!        \----> provider, claimed (claims)  --------/
//! ```

pub mod atomic;
mod claimed;
mod empty_dir;
mod host_path;
pub mod image;
mod kind;
mod mount_point;
pub mod payload;
pub mod provider;
pub mod setup;
mod sub_path;
pub mod teardown;
pub mod token;
pub mod usage;
mod variable_files;

pub use kind::{Kind, volume_path};
pub use mount_point::{below as mounts_below, unmount_all};
pub use variable_files::read as variable_files;

use crate::config::Config;
use crate::error::Error;
use crate::pod::environment::{Facts, Lookup, quoted};
use crate::pod::node::Shared;
use crate::pod::{api, spec};
use crate::users::Mapping;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use payload::TokenRequest;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What all pods of the node share about volumes.
pub struct Volumes {
    pub provider: Arc<dyn provider::Provider>,
    pub patience: setup::Patience,
}

impl Volumes {
    pub fn new(client: kube::Client) -> Self {
        Self {
            provider: Arc::new(claimed::Claimed::new(client)),
            patience: setup::Patience::default(),
        }
    }
}

/// A volume that is not ready, and why.
#[derive(Debug)]
pub struct Failed {
    pub volume: String,
    pub error: Error,
}

impl Failed {
    /// As kubelet's event words it.
    pub fn message(&self) -> String {
        // Of a claim it is the volume that has the name.
        let name = match &self.error {
            Error::Mount { volume, .. } => quoted(volume),
            _ => quoted(&self.volume),
        };
        format!("MountVolume.SetUp failed for volume {name} : {}", self.error.chain())
    }
}

/// Makes (or refreshes) every volume of the pod that is made here, and says which
/// could not be made. One that fails holds up no other. Idempotent.
pub fn mount_all(
    config: &Config,
    pod: &Pod,
    lookup: &dyn Lookup,
    facts: &Facts,
    tokens: &BTreeMap<TokenRequest, String>,
    stamp: &str,
) -> Vec<Failed> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let made = make(config, pod, volume, lookup, facts, tokens, stamp);
            made.err().map(|error| Failed {
                volume: volume.name.clone(),
                error,
            })
        })
        .collect()
}

/// The group that owns the pod's volumes.
pub fn group(pod: &Pod) -> Option<u32> {
    let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    security.and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok())
}

fn make(
    config: &Config,
    pod: &Pod,
    volume: &Volume,
    lookup: &dyn Lookup,
    facts: &Facts,
    tokens: &BTreeMap<TokenRequest, String>,
    stamp: &str,
) -> Result<(), Error> {
    let (kind, path, group) = (Kind::of(volume), volume_path(config, pod, volume), group(pod));
    if let Some(files) = payload::files(pod, volume, lookup, facts, tokens) {
        let files = files.map_err(Error::Volume)?;
        if kind.in_memory() {
            mount_point::memory(&path, "tmpfs", "", group)?;
        } else if !path.is_dir() {
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
            mount_point::open_to_all(&path, group)?;
        }
        return atomic::write(&path, &files, group, stamp);
    }
    match (&volume.empty_dir, &volume.host_path, &pod.spec) {
        (Some(source), _, Some(pod_spec)) => empty_dir::make(&path, source, pod_spec, facts, group),
        (_, Some(source), _) => host_path::prepare(source).map_err(Error::Volume),
        // Made elsewhere.
        _ => Ok(()),
    }
}

/// Whether mounts of the container are to be read-only with all that is mounted in them,
/// and the runtime can do that.
pub async fn recursive_read_only(shared: &Shared, pod: &Pod, container: &Container) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    if !mounts.any(|m| matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"))) {
        return false;
    }
    let handler = api::runtime_handler(shared, pod).await.unwrap_or_default();
    let (handlers, _) = shared.runtime.abilities().await.unwrap_or_default();
    let known = handlers.iter().find(|h| h.name == handler);
    known
        .and_then(|h| h.features.as_ref())
        .is_some_and(|f| f.recursive_read_only_mounts)
}

/// How the runtime is to mount.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// It makes mounts read-only with all that is in them.
    pub recursive: bool,
    /// The pod's own users: the owners of files are to be seen as if they were the pod's.
    pub users: Option<Mapping>,
}

impl Manner {
    pub fn bind(&self, container_path: &str, host_path: &str) -> cri::Mount {
        self.mapped(cri::Mount {
            container_path: container_path.into(),
            host_path: host_path.into(),
            ..Default::default()
        })
    }

    fn mapped(&self, mount: cri::Mount) -> cri::Mount {
        let lines = || self.users.map(Mapping::lines).unwrap_or_default();
        cri::Mount {
            uid_mappings: lines(),
            gid_mappings: lines(),
            ..mount
        }
    }
}

/// The container's mounts of its volumes. `expand` resolves `subPathExpr`; its error,
/// as all others here, is worded for the user.
pub fn mounts(
    config: &Config,
    pod: &Pod,
    container: &Container,
    manner: &Manner,
    expand: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<cri::Mount>, Error> {
    let volumes: BTreeMap<&str, &Volume> = pod
        .spec
        .iter()
        .flat_map(|s| s.volumes.iter().flatten())
        .map(|v| (v.name.as_str(), v))
        .collect();
    let mut result = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes
            .get(wanted.name.as_str())
            .ok_or_else(|| Error::Volume(format!("volume {} not found", quoted(&wanted.name))))?;
        let sub = sub_path_of(wanted, &expand)?;
        let slot = config
            .pod_dir(spec::uid(pod))
            .join("volume-subpaths")
            .join(&wanted.name)
            .join(&container.name)
            .join(index.to_string());
        let recursive = recursively(wanted, manner.recursive)?;
        let mount = one_mount(config, pod, container, (volume, wanted), sub.as_deref(), &slot)?;
        let mount = cri::Mount {
            recursive_read_only: recursive,
            ..mount
        };
        // An image's files are mounted as an overlay, which no kernel maps.
        result.push(match Kind::of(volume) {
            Kind::Image => mount,
            _ => manner.mapped(mount),
        });
    }
    Ok(result)
}

fn sub_path_of(wanted: &VolumeMount, expand: impl Fn(&str) -> Result<String, String>) -> Result<Option<String>, Error> {
    let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(sub), _) if !sub.is_empty() => sub.clone(),
        (_, Some(text)) if !text.is_empty() => expand(text).map_err(Error::Volume)?,
        _ => return Ok(None),
    };
    sub_path::check(&sub).map_err(Error::Volume)?;
    Ok(Some(sub).filter(|s| !s.is_empty()))
}

/// `able`: what the runtime can do.
fn recursively(wanted: &VolumeMount, able: bool) -> Result<bool, Error> {
    match wanted.recursive_read_only.as_deref() {
        Some("Enabled") if !able => Err(Error::Volume(format!(
            "volume {} requested recursive read-only mode, but it is not supported by the runtime",
            quoted(&wanted.name)
        ))),
        Some("Enabled" | "IfPossible") => Ok(able && wanted.read_only == Some(true)),
        _ => Ok(false),
    }
}

fn one_mount(
    config: &Config,
    pod: &Pod,
    container: &Container,
    (volume, wanted): (&Volume, &VolumeMount),
    sub: Option<&str>,
    slot: &Path,
) -> Result<cri::Mount, Error> {
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    let mut host = volume_path(config, pod, volume);
    if let Some(sub) = sub {
        let shared = propagation == cri::MountPropagation::PropagationBidirectional;
        host = sub_path::bind(&host, sub, slot, shared).map_err(|error| {
            let (name, container) = (quoted(&wanted.name), quoted(&container.name));
            tracing::warn!(
                error = error.chain(),
                pod = spec::full_name(pod),
                "cannot bind a subPath"
            );
            Error::Volume(format!(
                "failed to prepare subPath for volumeMount {name} of container {container}"
            ))
        })?;
    }
    Ok(cri::Mount {
        container_path: absolute(&wanted.mount_path),
        host_path: host.display().to_string(),
        readonly: wanted.read_only.unwrap_or(false) || Kind::of(volume) == Kind::Image,
        propagation: propagation as i32,
        ..Default::default()
    })
}

/// A path without a leading slash is one from the container's root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mounts_are_mapped_for_users_of_the_pods_own() {
        let pod = json!({"metadata": {"uid": "u", "name": "p", "namespace": "n"}, "spec": {
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "i", "image": {"reference": "x"}}],
            "containers": [{"name": "c", "volumeMounts": [
                {"name": "e", "mountPath": "/e"}, {"name": "i", "mountPath": "/i"}]}]}});
        let pod: Pod = serde_json::from_value(pod).expect("valid");
        let container = &pod.spec.as_ref().expect("one").containers[0];
        let config = Config::new("n", Path::new("/d"));
        for (users, expected) in [
            (None, [None, None]),
            (Some(Mapping { first: 65_536 }), [Some(65_536), None]),
        ] {
            let manner = Manner {
                users,
                ..Manner::default()
            };
            let mounts = mounts(&config, &pod, container, &manner, |text| Ok(text.to_owned())).expect("made");
            let firsts = mounts.iter().map(|m| {
                assert_eq!(m.uid_mappings, m.gid_mappings);
                m.uid_mappings.first().map(|line| line.host_id)
            });
            assert_eq!(firsts.collect::<Vec<_>>(), expected);
            let own = manner.bind("/etc/hosts", "/h");
            assert_eq!(own.uid_mappings.first().map(|line| line.host_id), expected[0]);
        }
    }

    #[test]
    fn recursive_where_it_is_asked_and_can_be() {
        let refusal = "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime";
        for (mode, read_only, able, expected) in [
            (None, true, true, Ok(false)),
            (Some("Disabled"), true, true, Ok(false)),
            (Some("IfPossible"), true, true, Ok(true)),
            (Some("IfPossible"), true, false, Ok(false)),
            (Some("IfPossible"), false, true, Ok(false)),
            (Some("Enabled"), true, true, Ok(true)),
            (Some("Enabled"), true, false, Err(refusal.to_owned())),
        ] {
            let mount = json!({"name": "v", "mountPath": "/v", "readOnly": read_only, "recursiveReadOnly": mode});
            let mount: VolumeMount = serde_json::from_value(mount).expect("valid");
            assert_eq!(
                recursively(&mount, able).map_err(|e| e.to_string()),
                expected,
                "{mode:?}"
            );
        }
    }
}
