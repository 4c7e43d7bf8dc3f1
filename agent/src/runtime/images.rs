//! Images: those that lie in the images folder are imported once, others are pulled.
//!
//! containerd 1.6 has no transfer service, so import goes through its `ctr`
//! program, which ships with it; containerd's CRI plugin sees the new image by
//! its own event and marks it as managed.

use super::Runtime;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
}

/// Imports every `*.tar` that was not imported in this form before. The record
/// lies in containerd's root: who wipes the images wipes the record.
pub async fn import_all(ctr: &Path, socket: &Path, root: &Path, images_dir: &Path) -> Vec<Error> {
    let record_path = root.join("imported.json");
    let mut record: BTreeMap<PathBuf, Stamp> = std::fs::read(&record_path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let mut problems = Vec::new();
    for (path, stamp) in archives(images_dir) {
        if record.get(&path) == Some(&stamp) {
            continue;
        }
        match import(ctr, socket, &path).await {
            Ok(()) => {
                record.insert(path, stamp);
                if let Err(error) = write_record(&record_path, &record) {
                    problems.push(error);
                }
            }
            Err(error) => problems.push(error),
        }
    }
    problems
}

fn archives(dir: &Path) -> BTreeMap<PathBuf, Stamp> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "tar"))
        .filter_map(|entry| {
            let meta = std::fs::metadata(entry.path()).ok()?;
            let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let stamp = Stamp {
                bytes: meta.len(),
                modified_ns: modified.as_nanos(),
            };
            Some((entry.path(), stamp))
        })
        .collect()
}

async fn import(ctr: &Path, socket: &Path, archive: &Path) -> Result<(), Error> {
    let output = tokio::process::Command::new(ctr)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()
        .await
        .map_err(Error::io("run ctr to import", archive))?;
    if output.status.success() {
        tracing::info!(archive = %archive.display(), "imported images");
        return Ok(());
    }
    Err(Error::Image(format!(
        "cannot import {}: {}",
        archive.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

fn write_record(path: &Path, record: &BTreeMap<PathBuf, Stamp>) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::Copy(e.to_string()))?;
    crate::cache::disk::write_atomically(path, &bytes, 0o644).map_err(Error::io("write", path))
}

impl Runtime {
    pub async fn image(&self, reference: &str) -> Result<Option<cri::Image>, Error> {
        let request = cri::ImageStatusRequest {
            image: Some(cri::ImageSpec {
                image: reference.to_owned(),
                ..Default::default()
            }),
            verbose: false,
        };
        Ok(self
            .image_service()
            .image_status(request)
            .await
            .map_err(Error::runtime("look up an image"))?
            .into_inner()
            .image)
    }

    pub async fn images(&self) -> Result<Vec<cri::Image>, Error> {
        Ok(self
            .image_service()
            .list_images(cri::ListImagesRequest { filter: None })
            .await
            .map_err(Error::runtime("list images"))?
            .into_inner()
            .images)
    }

    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<cri::AuthConfig>,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<String, Error> {
        let request = cri::PullImageRequest {
            image: Some(cri::ImageSpec {
                image: reference.to_owned(),
                ..Default::default()
            }),
            auth,
            sandbox_config: sandbox,
        };
        Ok(self
            .image_service()
            .pull_image(request)
            .await
            .map_err(Error::runtime("pull an image"))?
            .into_inner()
            .image_ref)
    }
}
