//! Image volumes (KEP-4639): an image's files, read-only. containerd 1.6 cannot mount
//! them itself, so a view of the unpacked image is mounted here.

use super::kind::volume_path;
use super::mount_point::is_mount_point;
use crate::error::Error;
use crate::pod::node::Shared;
use crate::pod::spec;
use crate::runtime::Runtime;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{MountsRequest, RemoveSnapshotRequest, ViewSnapshotRequest};
use containerd_client::types::Mount;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::mount::{MsFlags, mount as mount_fs};
use skiff_proto::cri::v1 as cri;
use std::collections::HashMap;
use std::path::Path;

const SNAPSHOTTER: &str = "overlayfs";
/// The kernel takes one page of options.
const OPTIONS_MAX: usize = 4_095;

/// A view is found again by its name: after a restart, and to be removed.
fn view_name(uid: &str, volume: &str) -> String {
    format!("skiff-volume-{uid}-{volume}")
}

/// Mounts the image as the pod's volume, once.
pub async fn mount(shared: &Shared, pod: &Pod, volume: &Volume, image: &cri::Image) -> Result<(), Error> {
    let target = volume_path(&shared.config, pod, volume);
    let name = view_name(spec::uid(pod), &volume.name);
    // Two containers of a pod may want it at the same time.
    let _alone = shared.images.alone(&name).await;
    if is_mount_point(&target) {
        return Ok(());
    }
    let parent = shared.runtime.chain_id(&image.id).await?;
    let mounts = view(&shared.runtime, &name, &parent).await?;
    std::fs::create_dir_all(&target).map_err(Error::io("create", &target))?;
    for one in &mounts {
        mount_one(one, &target)?;
    }
    Ok(())
}

async fn view(runtime: &Runtime, name: &str, parent: &str) -> Result<Vec<Mount>, Error> {
    let mut client = SnapshotsClient::new(runtime.channel());
    // Without this mark containerd would collect what no container refers to.
    let mark = ("containerd.io/gc.root".to_owned(), Timestamp::now().to_string());
    let request = ViewSnapshotRequest {
        snapshotter: SNAPSHOTTER.into(),
        key: name.to_owned(),
        parent: parent.to_owned(),
        labels: HashMap::from([mark]),
    };
    let failed = || Error::runtime("show an image's files");
    match client.view(runtime.native(request)).await {
        Ok(answer) => Ok(answer.into_inner().mounts),
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            let request = MountsRequest {
                snapshotter: SNAPSHOTTER.into(),
                key: name.to_owned(),
            };
            let answer = client.mounts(runtime.native(request)).await;
            Ok(answer.map_err(failed())?.into_inner().mounts)
        }
        Err(status) => Err(failed()(status)),
    }
}

/// Here nothing of it is run, whatever the container's own mount of it allows.
fn mount_one(one: &Mount, target: &Path) -> Result<(), Error> {
    let sealed = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let failed = || Error::os("mount an image on", target);
    if matches!(one.r#type.as_str(), "bind" | "") {
        let source = Some(one.source.as_str());
        mount_fs(source, target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed())?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | sealed;
        return mount_fs(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(failed());
    }
    let options = one.options.iter().filter(|o| !matches!(o.as_str(), "ro" | "rw"));
    let options: Vec<&str> = options.map(String::as_str).collect();
    let options = options.join(",");
    if options.len() > OPTIONS_MAX {
        return Err(Error::Volume("the image has too many layers to be a volume".into()));
    }
    let (source, kind) = (Some(one.source.as_str()), Some(one.r#type.as_str()));
    mount_fs(source, target, kind, sealed, Some(options.as_str())).map_err(failed())
}

/// Gives the views of a pod's volumes back, once they are unmounted.
pub async fn release(runtime: &Runtime, uid: &str, volumes: &[String]) -> Result<(), Error> {
    let mut client = SnapshotsClient::new(runtime.channel());
    for volume in volumes {
        let request = RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: view_name(uid, volume),
        };
        match client.remove(runtime.native(request)).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(Error::runtime("give an image's files back")(status)),
        }
    }
    Ok(())
}
