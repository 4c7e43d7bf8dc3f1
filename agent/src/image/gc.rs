//! Frees the disk of images that nobody uses.

use super::collect::{self, Image, detect, victims};
use crate::error::Error;
use crate::pod::node::Shared;
use crate::runtime::images::kept_names;
use crate::volume::Kind;
use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// As often as Kubernetes looks.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// Looks from time to time whether images have to go.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = look(&shared).await {
            tracing::warn!(error = error.chain(), "images could not be collected");
            let text = error.chain();
            shared
                .recorder
                .node(&shared.config.node_name, true, "ImageGCFailed", text);
        }
    }
}

async fn look(shared: &Shared) -> Result<(), Error> {
    let thresholds = shared.images.settings.thresholds;
    let root = crate::runtime::config::Layout::new(&shared.config.data_dir).root;
    let stat = statvfs(&root).map_err(Error::os("look at", &root))?;
    let unit = stat.fragment_size();
    let (capacity, available) = (stat.blocks() * unit, stat.blocks_available() * unit);
    let wanted = collect::excess(capacity, available, &thresholds);
    let freed = free(shared, wanted).await?;
    if let Some(wanted) = wanted.filter(|wanted| freed < *wanted) {
        let used = capacity.saturating_sub(available) * 100 / capacity.max(1);
        let text = format!(
            "Insufficient free disk space on the node's image filesystem ({used}% of {} used). Failed to free \
             sufficient space by deleting unused images (freed {freed} bytes).",
            size(capacity)
        );
        tracing::warn!(wanted, "{text}");
        shared
            .recorder
            .node(&shared.config.node_name, true, "FreeDiskSpaceFailed", text);
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// Removes every image that nobody uses and that may go; for a node short of disk.
pub async fn free_all(shared: &Shared) -> Result<u64, Error> {
    free(shared, Some(u64::MAX)).await
}

/// Removes unused images for so many bytes, and says how many it freed.
async fn free(shared: &Shared, wanted_bytes: Option<u64>) -> Result<u64, Error> {
    let state = &shared.images;
    let _one = state.collecting.lock().await;
    let (listed, containers) = tokio::try_join!(shared.runtime.images(), shared.runtime.containers())?;
    let mut in_use: BTreeSet<String> = containers
        .into_iter()
        .flat_map(|c| [c.image_ref, c.image.map(|i| i.image).unwrap_or_default()])
        .collect();
    for reference in images_of_volumes(shared) {
        in_use.extend(shared.runtime.image(&reference).await?.map(|image| image.id));
    }
    let kept = kept_names(&shared.config);
    let images: Vec<Image> = listed
        .iter()
        .map(|image| Image {
            id: image.id.clone(),
            bytes: image.size,
            kept: image.pinned || image.repo_tags.iter().any(|tag| kept.contains(tag)),
        })
        .collect();
    let now = Timestamp::now();
    let gone = {
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        detect(&mut seen, &images, &in_use, now);
        victims(&images, &seen, &in_use, wanted_bytes, &state.settings.thresholds, now)
    };
    let mut present: BTreeSet<String> = images.iter().map(|i| i.id.clone()).collect();
    let mut freed = 0;
    for id in gone {
        // One that has come into use meanwhile is refused, or pulled again.
        match shared.runtime.remove_image(&id).await {
            Ok(()) => {
                let bytes = images.iter().find(|i| i.id == id).map_or(0, |i| i.bytes);
                tracing::info!(image = id, bytes, "removed an image that nobody uses");
                freed += bytes;
                present.remove(&id);
            }
            Err(error) => tracing::warn!(error = error.chain(), image = id, "an image could not be removed"),
        }
    }
    state.with_records(|records| records.prune(&present));
    Ok(freed)
}

fn images_of_volumes(shared: &Shared) -> BTreeSet<String> {
    let pods = shared.cache.pods();
    let volumes = pods
        .values()
        .flat_map(|p| p.spec.iter())
        .flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter(|v| Kind::of(v) == Kind::Image)
        .filter_map(|v| v.image.as_ref()?.reference.clone())
        .collect()
}

/// Removes containers that have ended: of pods that are gone or over all, of others all
/// but the newest of each. For a node short of disk.
pub async fn free_containers(shared: &Shared) -> Result<usize, Error> {
    use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
    const EXITED: i32 = skiff_proto::cri::v1::ContainerState::ContainerExited as i32;
    let alive: BTreeSet<String> = shared
        .cache
        .pods()
        .values()
        .filter(|pod| !crate::pod::spec::phase_is_final(pod))
        .map(|pod| crate::pod::spec::uid(pod).to_owned())
        .collect();
    let mut containers = shared.runtime.containers().await?;
    containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    let (mut newest, mut removed) = (BTreeSet::new(), 0);
    for container in containers {
        let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
        let uid = label(LABEL_POD_UID);
        let first = newest.insert((uid.clone(), label(LABEL_CONTAINER_NAME)));
        if container.state != EXITED || (first && alive.contains(&uid)) {
            continue;
        }
        match shared.runtime.remove_container(&container.id).await {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(error = error.chain(), "an ended container could not be removed"),
        }
    }
    Ok(removed)
}
