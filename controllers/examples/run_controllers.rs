//! Runs the controllers against any API server, impersonating each controller's identity:
//! `KUBECONFIG=admin.kubeconfig cargo run -p skiff-controllers --example run_controllers`.

use std::sync::Arc;
use std::time::Duration;

use skiff_controllers::{CertificateSigner, Config};
use tokio_util::sync::CancellationToken;

/// Signs nothing: this example holds no key.
struct NoSigner;

impl CertificateSigner for NoSigner {
    fn sign(&self, _: &str, _: &str, _: &[String], _: Duration) -> Result<String, String> {
        Err("this example has no CA key".to_string())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let admin = kube::Config::infer().await?;
    let client_for = |name: &str| {
        let mut config = admin.clone();
        config.read_timeout = None;
        let user = match name {
            "kube-controller-manager" => "system:kube-controller-manager".to_string(),
            name => format!("system:serviceaccount:kube-system:{name}"),
        };
        let mut header = |name: &'static str, value: &str| {
            let value = value.parse().expect("identities are plain text");
            config.headers.push((name.parse().expect("a fixed header name"), value));
        };
        header("impersonate-user", &user);
        if user.starts_with("system:serviceaccount:") {
            header("impersonate-group", "system:serviceaccounts");
            header("impersonate-group", "system:serviceaccounts:kube-system");
        }
        header("impersonate-group", "system:authenticated");
        kube::Client::try_from(config).expect("the configuration was usable once")
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    let config = Config::new("a CA certificate".to_string(), Arc::new(NoSigner));
    skiff_controllers::run(config, client_for, shutdown).await?;
    Ok(())
}
