//! Static pods: those that the node runs of itself, a file each, whether there is an API
//! server or not. The API shows them as mirror pods.
//!
//! ```text
//! folder --read--> cache (manifests) --Change--> supervisor --> worker
//!                                                    \--mirror--> API
//! ```

pub mod mirror;
mod read;

use crate::image::watch::change;
use crate::pod::node::Shared;
use crate::pod::spec::{self, Key};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// No pod's manifest is longer: the API takes no longer one.
const FILE_BYTES_MAX: u64 = 3 << 20;
const FILES_MAX: usize = 1_000;

pub const HASH: &str = "kubernetes.io/config.hash";
pub const SOURCE: &str = "kubernetes.io/config.source";
pub const SEEN: &str = "kubernetes.io/config.seen";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    Some(pod.metadata.annotations.as_ref()?.get(name)?.as_str())
}

/// Whether this is a node's own pod, rather than its likeness in the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some("file") && !is_mirror(pod)
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// Reads the folder, for the pods that are to run before anything else is known.
pub fn load(shared: &Shared, now: &str) {
    let found = scan(&shared.config.manifests_dir, &shared.config.node_name, now);
    shared.cache.set_manifests(found);
}

/// Keeps the node's own pods as the folder says.
pub async fn follow(shared: Arc<Shared>, shutdown: CancellationToken) {
    /// Changes are told; this is for those that were not.
    const LOOK: Duration = Duration::from_secs(20);
    /// An editor writes a file in several steps.
    const SETTLE: Duration = Duration::from_millis(50);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
            outcome = change(&shared.config.manifests_dir) => {
                tokio::time::sleep(if outcome.is_ok() { SETTLE } else { LOOK }).await;
            }
        }
        let again = shared.clone();
        let _ = tokio::task::spawn_blocking(move || load(&again, &jiff::Timestamp::now().to_string())).await;
    }
}

/// Of two files with one pod's name the first counts.
fn scan(dir: &Path, node: &str, now: &str) -> BTreeMap<Key, Arc<Pod>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|e| e.path())
        .filter(|p| p.is_file())
        .take(FILES_MAX)
        .collect();
    paths.sort();
    let mut found = BTreeMap::new();
    for path in paths {
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        let text = match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => Err("it is too long".to_owned()),
            _ => std::fs::read_to_string(&path).map_err(|e| e.to_string()),
        };
        match text.and_then(|text| read::pod(&text, &path.display().to_string(), node, now)) {
            Ok(pod) => {
                found.entry(spec::key(&pod)).or_insert(Arc::new(pod));
            }
            Err(error) => tracing::warn!(error, file = %path.display(), "not a pod's manifest"),
        }
    }
    found
}

/// Whether the API's pod is the likeness of this one of the node's own.
pub fn mirrors(held: &Pod, own: &Pod) -> bool {
    annotation(held, MIRROR).is_some_and(|hash| Some(hash) == annotation(own, HASH))
}
