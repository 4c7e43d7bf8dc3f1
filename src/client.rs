//! Clients of the API: over the network with a kubeconfig or a certificate, or
//! straight into the server in this process.

use anyhow::{Context, Result};
use base64::Engine;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;

/// A client with what the kubeconfig says, and the cluster's CA (PEM).
pub async fn from_kubeconfig(path: &Path) -> Result<(kube::Client, String)> {
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| {
        format!("cannot read the kubeconfig {}; is this the server's machine, and has the server been started? (else give --kubeconfig)", path.display())
    })?;
    let ca = kubeconfig
        .clusters
        .iter()
        .filter_map(|cluster| cluster.cluster.as_ref()?.certificate_authority_data.clone())
        .next()
        .unwrap_or_default();
    let ca = base64::engine::general_purpose::STANDARD
        .decode(ca)
        .context("the kubeconfig's certificate-authority-data is not base64")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok((
        kube::Client::try_from(config)?,
        String::from_utf8_lossy(&ca).into_owned(),
    ))
}
