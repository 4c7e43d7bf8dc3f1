//! What an agent that starts again must know of the pods that were resized.

use super::Allocation;
use crate::cache::disk;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const NAME: &str = "resources.json";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kept {
    pub allocation: Allocation,
    /// By container id.
    pub in_force: BTreeMap<String, ResourceRequirements>,
    /// The pod's own resources that its containers run with.
    #[serde(default)]
    pub inherited: Option<ResourceRequirements>,
    /// Of the resize under way.
    pub generation: Option<i64>,
}

pub fn read(pod_dir: &Path) -> Option<Kept> {
    let bytes = std::fs::read(pod_dir.join(NAME)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Written before it is acted on: a node never runs what it did not grant.
pub fn write(pod_dir: &Path, kept: &Kept) -> std::io::Result<()> {
    std::fs::create_dir_all(pod_dir)?;
    let bytes = serde_json::to_vec(kept)?;
    disk::write_atomically(&pod_dir.join(NAME), &bytes, 0o600)
}
