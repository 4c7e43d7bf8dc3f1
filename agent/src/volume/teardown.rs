//! Takes a pod's volumes away, also those of a pod of which only the UID is left.

use super::image;
use super::mount_point::{unmount_all, unmount_below};
use crate::error::Error;
use crate::pod::node::Shared;
use crate::pod::spec;
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;

/// Unmounts, removes and gives back. What cannot be done now is tried again by the
/// caller: idempotent.
pub async fn tear_down(shared: &Shared, pod: &Pod) -> Result<(), Error> {
    let uid = spec::uid(pod);
    shared.volumes.patience.forget(uid);
    let pod_dir = shared.config.pod_dir(uid);
    let volumes = pod_dir.join("volumes");
    for name in names(&volumes.join("kubernetes.io~csi")) {
        let target = volumes.join("kubernetes.io~csi").join(name);
        shared.volumes.provider.unpublish(pod, &target).await?;
    }
    let images = names(&volumes.join("kubernetes.io~image"));
    if !images.is_empty() {
        // The directories stay until the views are given back: they hold the names.
        blocking({
            let pod_dir = pod_dir.clone();
            move || unmount_below(&pod_dir)
        })
        .await?;
        image::release(&shared.runtime, uid, &images).await?;
    }
    blocking(move || unmount_all(&pod_dir)).await
}

async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::Volume(e.to_string())))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}
