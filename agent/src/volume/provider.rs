//! The seam for volumes that the node alone cannot make: claims, ephemeral claims,
//! CSI and network file systems. Who can make them implements [`Provider`].

use crate::error::Error;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::path::Path;

#[async_trait]
pub trait Provider: Send + Sync {
    /// Mounts the volume's data on `target`, a directory below the pod's own that this
    /// makes. Called again until it succeeds, and again after it has: idempotent.
    async fn publish(&self, pod: &Pod, volume: &Volume, target: &Path) -> Result<(), Error>;

    /// Undoes it; the pod may be known by its UID alone. Not published is done.
    async fn unpublish(&self, pod: &Pod, target: &Path) -> Result<(), Error>;
}

/// The provider of what nobody on the node provides: such volumes stay pending.
#[derive(Debug)]
pub struct Absent;

#[async_trait]
impl Provider for Absent {
    async fn publish(&self, _pod: &Pod, volume: &Volume, _target: &Path) -> Result<(), Error> {
        let what = match &volume.csi {
            Some(csi) => format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {} not found in the list \
                 of registered CSI drivers",
                csi.driver
            ),
            None => "no volume plugin matched".to_owned(),
        };
        Err(Error::Volume(what))
    }

    async fn unpublish(&self, _pod: &Pod, _target: &Path) -> Result<(), Error> {
        Ok(())
    }
}
