//! Volumes of claims that lie on this node: `hostPath` and `local`. What a claim stands for is asked of the
//! API once and kept beside the pod, so that a node that reboots alone mounts what it mounted.

use super::provider::{Absent, Provider};
use super::{host_path, mount_point};
use crate::error::Error;
use crate::pod::environment::quoted;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, PodSecurityContext, Volume,
};
use kube::{Api, Client};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where below the pod's directory it is kept what its claims stand for.
const KEPT: &str = "claims";
/// More files than a volume has that is made for a node; beyond, their group is left as it is.
const FILES_MAX: usize = 5_000_000;

/// What is mounted for a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// Name of the PersistentVolume.
    volume: String,
    path: String,
    /// Of a `hostPath`; none: a `local` volume, which must be there and takes the pod's group.
    host_path_type: Option<String>,
}

/// Gives pods the node's own directories that their claims are bound to; anything else is left to [`Absent`].
pub struct Claimed {
    client: Client,
}

impl Claimed {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn ask(&self, namespace: &str, name: &str) -> Result<PersistentVolume, String> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let claim = claims.get(name).await;
        let claim = claim.map_err(|error| format!("failed to fetch PVC from API server: {}", words(&error)))?;
        let own = volume_name(&claim)?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes.get(own).await;
        let volume = volume.map_err(|error| format!("failed to get PV {own} from API server: {}", words(&error)))?;
        belongs(&volume, &claim)?;
        Ok(volume)
    }
}

/// The API's own words.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The name of the pod's claim, and whether the pod only reads it.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), claim.read_only.unwrap_or(false)));
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some((format!("{pod}-{}", volume.name), false))
}

/// The volume of a claim that can be used. Errors are in kubelet's words.
fn volume_name(claim: &PersistentVolumeClaim) -> Result<&str, String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".to_owned());
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let name = name.filter(|name| !name.is_empty());
    name.ok_or_else(|| "PVC has empty pvc.Spec.VolumeName".to_owned())
}

fn belongs(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let own = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!(
            "found PV object {own} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    if reference.uid == claim.metadata.uid {
        return Ok(());
    }
    let (is, wanted) = (
        reference.uid.as_deref().unwrap_or_default(),
        claim.metadata.uid.as_deref().unwrap_or_default(),
    );
    Err(format!(
        "found PV object {own} but its pv.Spec.ClaimRef.UID {is} does not point to claim.UID {wanted}"
    ))
}

/// What of this node the volume is; none if it is something else.
fn source(volume: &PersistentVolume) -> Option<Source> {
    let spec = volume.spec.as_ref()?;
    let own = volume.metadata.name.clone().unwrap_or_default();
    let of = |path: &str, host_path_type: Option<String>| Source {
        volume: own.clone(),
        path: path.to_owned(),
        host_path_type,
    };
    match (&spec.host_path, &spec.local) {
        (Some(host), _) => Some(of(&host.path, Some(host.type_.clone().unwrap_or_default()))),
        (_, Some(local)) => Some(of(&local.path, None)),
        _ => None,
    }
}

/// Why a volume of another kind cannot be mounted here.
fn not_here(volume: &PersistentVolume) -> Error {
    let own = volume.metadata.name.clone().unwrap_or_default();
    let driver = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    let text = match driver {
        Some(csi) => format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {} not found in the list of \
             registered CSI drivers",
            csi.driver
        ),
        None => "no volume plugin matched".to_owned(),
    };
    Error::Mount { volume: own, text }
}

#[async_trait]
impl Provider for Claimed {
    async fn publish(&self, pod: &Pod, volume: &Volume, target: &Path) -> Result<(), Error> {
        let Some((claim, read_only)) = claim_of(pod, volume) else {
            return Absent.publish(pod, volume, target).await;
        };
        if !mount_point::below(target).is_empty() {
            return Ok(());
        }
        let kept = kept(target);
        let source = match read(&kept) {
            Some(source) => source,
            None => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let found = self.ask(namespace, &claim).await;
                let found =
                    found.map_err(|why| Error::Claim(format!("error processing PVC {namespace}/{claim}: {why}")))?;
                source(&found).ok_or_else(|| not_here(&found))?
            }
        };
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.clone());
        let target = target.to_path_buf();
        let mounted = tokio::task::spawn_blocking(move || {
            write(&kept, &source)?;
            bind(&source, &target, read_only, context.as_ref())
        });
        mounted
            .await
            .unwrap_or_else(|error| Err(Error::Volume(error.to_string())))
    }

    /// What is mounted below a pod's directory is unmounted with it.
    async fn unpublish(&self, _pod: &Pod, _target: &Path) -> Result<(), Error> {
        Ok(())
    }
}

/// `<pod>/volumes/<kind>/<name>` -> `<pod>/claims/<name>`.
fn kept(target: &Path) -> PathBuf {
    let pod = target.ancestors().nth(3).unwrap_or(target);
    pod.join(KEPT).join(target.file_name().unwrap_or_default())
}

/// A file that was torn is one that is not there.
fn read(kept: &Path) -> Option<Source> {
    serde_json::from_slice(&std::fs::read(kept).ok()?).ok()
}

fn write(kept: &Path, source: &Source) -> Result<(), Error> {
    let parent = kept.parent().unwrap_or(kept);
    std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let text = serde_json::to_vec(source).map_err(|error| Error::Volume(error.to_string()))?;
    std::fs::write(kept, text).map_err(Error::io("write", kept))
}

fn bind(source: &Source, target: &Path, read_only: bool, context: Option<&PodSecurityContext>) -> Result<(), Error> {
    let failed = |text: String| Error::Mount {
        volume: source.volume.clone(),
        text,
    };
    let path = Path::new(&source.path);
    match &source.host_path_type {
        Some(kind) => {
            let host = HostPathVolumeSource {
                path: source.path.clone(),
                type_: Some(kind.clone()),
            };
            host_path::prepare(&host).map_err(failed)?;
        }
        None if !path.exists() => return Err(failed(format!("path {} does not exist", quoted(&source.path)))),
        None => {}
    }
    let made = if path.is_dir() {
        std::fs::create_dir_all(target)
    } else {
        let parent = target.parent().unwrap_or(target);
        std::fs::create_dir_all(parent).and_then(|()| std::fs::File::create(target).map(drop))
    };
    made.map_err(Error::io("create", target))?;
    if same(path, target) {
        return Ok(());
    }
    let attach = |flags: MsFlags| mount(Some(path), target, None::<&str>, flags, None::<&str>);
    attach(MsFlags::MS_BIND | MsFlags::MS_REC).map_err(|error| {
        let text = format!("failed to mount {} on {}: {error}", source.path, target.display());
        failed(text)
    })?;
    // What is mounted below comes along, and is unmounted here with the pod: here only, for it is the
    // host's. Shared again, so that a container may be given it with its mounts handed on.
    for flags in [MsFlags::MS_SLAVE, MsFlags::MS_SHARED] {
        let flags = flags | MsFlags::MS_REC;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(Error::os("keep apart", target))?;
    }
    if read_only {
        attach(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)
            .map_err(Error::os("mount read-only", target))?;
        return Ok(());
    }
    let group = context.and_then(|context| context.fs_group);
    match group.and_then(|group| u32::try_from(group).ok()) {
        Some(group) if source.host_path_type.is_none() => {
            let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
            give_to(target, group, policy == Some("OnRootMismatch"))
        }
        _ => Ok(()),
    }
}

/// Whether both are one file or directory: then it is mounted there.
fn same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some_and(|found| Some(found) == id(other))
}

/// Gives all there is to the group: files may be written by it, directories hand it on.
/// `if_unlike`: only if the uppermost directory is not its own already.
fn give_to(root: &Path, group: u32, if_unlike: bool) -> Result<(), Error> {
    const DIRECTORY: u32 = 0o2770;
    const FILE: u32 = 0o660;
    let look = |path: &Path| std::fs::symlink_metadata(path).map_err(Error::io("look at", path));
    let found = look(root)?;
    if if_unlike && found.gid() == group && found.mode() & DIRECTORY == DIRECTORY {
        return Ok(());
    }
    // The root comes last: it says that the rest is done.
    let (mut waiting, mut done) = (vec![root.to_path_buf()], Vec::new());
    while let Some(path) = waiting.pop() {
        if done.len() >= FILES_MAX {
            break;
        }
        if look(&path)?.is_dir() {
            let entries = std::fs::read_dir(&path).map_err(Error::io("read", &path))?;
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
        done.push(path);
    }
    for path in done.iter().rev() {
        let meta = look(path)?;
        std::os::unix::fs::lchown(path, None, Some(group)).map_err(Error::io("change the group of", path))?;
        if meta.is_symlink() {
            continue;
        }
        let more = if meta.is_dir() { DIRECTORY } else { FILE };
        let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777 | more);
        std::fs::set_permissions(path, mode).map_err(Error::io("set the mode of", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(meta: Value, phase: &str, volume: &str) -> PersistentVolumeClaim {
        let claim = json!({"metadata": meta, "spec": {"volumeName": volume}, "status": {"phase": phase}});
        serde_json::from_value(claim).expect("a claim")
    }

    fn volume(spec: Value) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).expect("a volume")
    }

    #[test]
    fn claims_that_cannot_be_used() {
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (claim, expected) in [
            (claim(json!({}), "Bound", "v"), Ok("v")),
            (claim(json!({}), "Pending", "v"), Err("PVC is not bound")),
            (claim(json!({}), "Bound", ""), Err("PVC has empty pvc.Spec.VolumeName")),
            (claim(going, "Bound", "v"), Err("PVC is being deleted")),
        ] {
            assert_eq!(volume_name(&claim), expected.map_err(str::to_owned));
        }
        let own = claim(json!({"uid": "u"}), "Bound", "v");
        for (reference, expected) in [
            (json!({"uid": "u"}), None),
            (
                json!({"uid": "w"}),
                Some("found PV object v but its pv.Spec.ClaimRef.UID w does not point to claim.UID u"),
            ),
            (
                json!(null),
                Some("found PV object v but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"),
            ),
        ] {
            let found = belongs(&volume(json!({"claimRef": reference})), &own).err();
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn what_lies_on_the_node() {
        let host = source(&volume(json!({"hostPath": {"path": "/a", "type": "Directory"}}))).expect("here");
        assert_eq!(
            (host.path.as_str(), host.host_path_type.as_deref()),
            ("/a", Some("Directory"))
        );
        let local = source(&volume(json!({"local": {"path": "/b"}}))).expect("here");
        assert_eq!((local.path.as_str(), local.host_path_type), ("/b", None));
        let elsewhere = volume(json!({"csi": {"driver": "d.io", "volumeHandle": "h"}}));
        assert_eq!(source(&elsewhere), None);
        assert!(not_here(&elsewhere).to_string().contains("driver name d.io not found"));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).expect("a pod");
        let of = |volume: Value| claim_of(&pod, &serde_json::from_value(volume).expect("a volume"));
        let named = json!({"name": "x", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
        assert_eq!(of(named), Some(("c".into(), true)));
        let made = json!({"name": "x", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        assert_eq!(of(made), Some(("p-x".into(), false)));
        assert_eq!(of(json!({"name": "x", "emptyDir": {}})), None);
    }

    #[test]
    fn what_is_kept_is_beside_the_volumes() {
        let path = kept(Path::new("/pods/u/volumes/kubernetes.io~csi/data"));
        assert_eq!(path, Path::new("/pods/u/claims/data"));
    }

    #[test]
    fn a_group_gets_files_and_directories() {
        let dir = std::env::temp_dir().join(format!("skiff-claimed-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("below")).expect("made");
        std::fs::write(dir.join("below/file"), "x").expect("written");
        std::os::unix::fs::symlink("/nowhere", dir.join("link")).expect("linked");
        std::fs::set_permissions(dir.join("below/file"), std::fs::Permissions::from_mode(0o604)).expect("set");
        let group = nix::unistd::getgid().as_raw();
        let mode = |path: &str| std::fs::metadata(dir.join(path)).expect("there").mode() & 0o7777;
        give_to(&dir, group, false).expect("given");
        assert_eq!((mode("below/file"), mode("below") & 0o2770), (0o664, 0o2770));
        // The root says that all is done, so what changed below stays.
        std::fs::set_permissions(dir.join("below/file"), std::fs::Permissions::from_mode(0o600)).expect("set");
        give_to(&dir, group, true).expect("left");
        assert_eq!(mode("below/file"), 0o600);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
