//! What a driver that stays away said of the node's devices is deleted, so that no more pods come for them.

use super::Devices;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

/// A driver that is replaced is back within this (kubelet's).
const GRACE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(30);

/// Of one driver, or of any that is not there when the grace is over.
pub fn later(devices: Arc<Devices>, driver: Option<String>) {
    tokio::spawn(async move {
        tokio::time::sleep(GRACE).await;
        while let Err(error) = wipe(&devices, driver.as_deref()).await {
            tracing::debug!(%error, "slices of devices could not be deleted; trying again");
            tokio::time::sleep(RETRY).await;
        }
    });
}

async fn wipe(devices: &Devices, driver: Option<&str>) -> Result<(), kube::Error> {
    if driver.is_some_and(|driver| devices.is_registered(driver)) {
        return Ok(());
    }
    let slices: Api<ResourceSlice> = Api::all(devices.client.clone());
    let own = match driver {
        Some(driver) => format!("spec.nodeName={},spec.driver={driver}", devices.node),
        None => format!("spec.nodeName={}", devices.node),
    };
    for slice in slices.list(&ListParams::default().fields(&own)).await? {
        let name = slice.metadata.name.clone().unwrap_or_default();
        if devices.is_registered(&slice.spec.driver) {
            continue;
        }
        tracing::info!(
            slice = name,
            driver = slice.spec.driver,
            "its driver is gone: a slice of devices is deleted"
        );
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: slice.metadata.uid,
                resource_version: slice.metadata.resource_version,
            }),
            ..DeleteParams::default()
        };
        match slices.delete(&name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
