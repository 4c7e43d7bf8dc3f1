//! What a driver that stays away said of the node's devices is deleted, so that no more pods come for them.

use super::{Devices, lock};
use crate::plugins::Plugin;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A driver that is replaced is back within this (kubelet's).
const GRACE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(30);
/// How a client of HTTP/2 begins, with settings that say nothing: a server would not wait for ever for less.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

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

/// A driver that ends without a word leaves its sockets behind: its end is seen by a connection that is held. For
/// as long as the plugin is registered.
pub fn watch(devices: Arc<Devices>, plugin: Plugin, registered: Weak<()>) {
    tokio::spawn(async move {
        let is_registered = || registered.strong_count() > 0;
        while is_registered() {
            held(&plugin.endpoint).await;
            if is_registered() && !usable(&devices, &plugin.name).await {
                tracing::warn!(driver = plugin.name, "a driver of devices does not answer");
                later(devices.clone(), Some(plugin.name.clone()));
            }
            tokio::time::sleep(GRACE).await;
            while is_registered() && !usable(&devices, &plugin.name).await {
                tokio::time::sleep(GRACE).await;
            }
        }
    });
}

/// Waits until nobody is at the other end any more.
async fn held(socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return;
    };
    if stream.write_all(HELLO).await.is_err() {
        return;
    }
    let mut said = [0; 512];
    while stream.read(&mut said).await.is_ok_and(|count| count > 0) {}
}

/// Whether one of the driver's plugins listens.
async fn usable(devices: &Devices, driver: &str) -> bool {
    let sockets: Vec<PathBuf> = {
        let drivers = lock(&devices.drivers);
        let all = drivers.get(driver).into_iter().flatten();
        all.map(|known| known.plugin.endpoint.clone()).collect()
    };
    for socket in sockets {
        if UnixStream::connect(&socket).await.is_ok() {
            return true;
        }
    }
    false
}

async fn wipe(devices: &Devices, driver: Option<&str>) -> Result<(), kube::Error> {
    if let Some(driver) = driver
        && usable(devices, driver).await
    {
        return Ok(());
    }
    let slices: Api<ResourceSlice> = Api::all(devices.client.clone());
    let own = match driver {
        Some(driver) => format!("spec.nodeName={},spec.driver={driver}", devices.node),
        None => format!("spec.nodeName={}", devices.node),
    };
    for slice in slices.list(&ListParams::default().fields(&own)).await? {
        let name = slice.metadata.name.clone().unwrap_or_default();
        if usable(devices, &slice.spec.driver).await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn an_end_is_seen_by_who_holds_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("x.sock");
        // Nobody listens, or nobody does any more.
        held(&socket).await;
        let listener = UnixListener::bind(&socket).expect("bound");
        let holding = tokio::spawn({
            let socket = socket.clone();
            async move { held(&socket).await }
        });
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut hello = vec![0; HELLO.len()];
        stream.read_exact(&mut hello).await.expect("greeted");
        assert_eq!(hello, HELLO);
        stream.write_all(b"whatever").await.expect("answered");
        assert!(!holding.is_finished());
        drop((stream, listener));
        holding.await.expect("ends");
        held(&socket).await;
    }
}
