//! Images: those that lie in the images folder are imported once, others are pulled.
//!
//! containerd 1.6 has no transfer service, so import goes through its `ctr`
//! program, which ships with each; containerd's CRI plugin sees the new image by
//! its own event and marks it as managed.

use super::Runtime;
use crate::error::Error;
use crate::image::Reference;
use serde::{Deserialize, Serialize};
use skiff_proto::cri::v1 as cri;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
    /// What the archive holds: never collected.
    #[serde(default)]
    names: Vec<String>,
}

impl Stamp {
    fn is_same_file(&self, other: &Self) -> bool {
        (self.bytes, self.modified_ns) == (other.bytes, other.modified_ns)
    }
}

/// Endings of archives that containerd's import reads.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2"];

fn record_path(root: &Path) -> PathBuf {
    root.join("imported.json")
}

fn read_record(root: &Path) -> BTreeMap<PathBuf, Stamp> {
    let kept = std::fs::read(record_path(root)).ok();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Names of images that stay however full the disk is: imported ones, and the one that
/// every pod needs.
pub fn kept_names(config: &crate::config::Config) -> BTreeSet<String> {
    let root = super::config::Layout::new(&config.data_dir).root;
    let imported = read_record(&root).into_values().flat_map(|stamp| stamp.names);
    let pause = Reference::parse(&config.pause_image).map(|r| r.full());
    imported.chain(pause).collect()
}

/// Imports every archive that was not imported in this form before. The record
/// lies in containerd's root: who wipes the images wipes the record.
pub async fn import_all(ctr: &Path, socket: &Path, root: &Path, images_dir: &Path) -> Vec<Error> {
    let mut record = read_record(root);
    let found = archives(images_dir);
    let before = record.len();
    record.retain(|path, _| found.contains_key(path));
    let mut changed = record.len() != before;
    let mut problems = Vec::new();
    for (path, stamp) in found {
        let known = record.get(&path);
        if known.is_some_and(|k| k.is_same_file(&stamp) && !k.names.is_empty()) {
            continue;
        }
        match import(ctr, socket, &path).await {
            Ok(names) => {
                record.insert(path, Stamp { names, ..stamp });
                changed = true;
            }
            Err(error) => problems.push(error),
        }
    }
    if changed {
        problems.extend(write_record(&record_path(root), &record).err());
    }
    problems
}

fn archives(dir: &Path) -> BTreeMap<PathBuf, Stamp> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            ENDINGS.iter().any(|ending| name.to_string_lossy().ends_with(ending))
        })
        .filter_map(|entry| {
            let meta = std::fs::metadata(entry.path()).ok()?;
            let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let stamp = Stamp {
                bytes: meta.len(),
                modified_ns: modified.as_nanos(),
                names: Vec::new(),
            };
            Some((entry.path(), stamp))
        })
        .collect()
}

async fn import(ctr: &Path, socket: &Path, archive: &Path) -> Result<Vec<String>, Error> {
    let output = tokio::process::Command::new(ctr)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()
        .await
        .map_err(Error::io("run ctr to import", archive))?;
    if output.status.success() {
        let names = unpacked(&String::from_utf8_lossy(&output.stdout));
        tracing::info!(archive = %archive.display(), ?names, "imported images");
        return Ok(names);
    }
    Err(Error::Image(format!(
        "cannot import {}: {}",
        archive.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// `ctr` tells each name as `unpacking NAME (DIGEST)...done`, since containerd 2 as `NAME saved`.
fn unpacked(output: &str) -> Vec<String> {
    let names = output.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["unpacking", name, ..] | [name, "saved"] => Some(name),
            _ => None,
        }
    });
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().map(str::to_owned).collect()
}

fn write_record(path: &Path, record: &BTreeMap<PathBuf, Stamp>) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::Copy(e.to_string()))?;
    crate::cache::disk::write_atomically(path, &bytes, 0o644).map_err(Error::io("write", path))
}

impl Runtime {
    /// A request of containerd's own API, in the namespace that CRI uses.
    pub fn native<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let namespace = tonic::metadata::MetadataValue::from_static("k8s.io");
        request.metadata_mut().insert("containerd-namespace", namespace);
        request
    }

    /// The name of the snapshot that holds the image's files.
    pub async fn chain_id(&self, image: &str) -> Result<String, Error> {
        let request = cri::ImageStatusRequest {
            image: Some(cri::ImageSpec {
                image: image.to_owned(),
                ..Default::default()
            }),
            verbose: true,
        };
        let answer = self.image_service().image_status(request).await;
        let info = answer.map_err(Error::runtime("look up an image"))?.into_inner().info;
        let text = info.get("info").map(String::as_str).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        match value.get("chainID").and_then(serde_json::Value::as_str) {
            Some(id) => Ok(id.to_owned()),
            None => Err(Error::Image(format!("containerd does not tell the layers of {image}"))),
        }
    }

    /// All names of the image, and what only it holds.
    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let request = cri::RemoveImageRequest {
            image: Some(cri::ImageSpec {
                image: image.to_owned(),
                ..Default::default()
            }),
        };
        let removed = self.image_service().remove_image(request).await;
        removed.map(drop).map_err(Error::runtime("remove an image"))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_was_imported() {
        let output = "unpacking skiff.local/pause:0.1.0 (sha256:ab12)...done\nunpacking docker.io/library/x:1 (sha256:cd)...done\n";
        assert_eq!(unpacked(output), ["docker.io/library/x:1", "skiff.local/pause:0.1.0"]);
        let output = "skiff.local/web:0.1.0 \tsaved\t\napplication/vnd.oci.image.manifest.v1+json sha256:a8\n\
            docker.io/library/x:1\tsaved\nImporting\telapsed: 0.1 s\ttotal:   0.0 B\t(0.0 B/s)\t\n";
        assert_eq!(unpacked(output), ["docker.io/library/x:1", "skiff.local/web:0.1.0"]);
        assert_eq!(unpacked("done\n"), Vec::<String>::new());
    }
}
