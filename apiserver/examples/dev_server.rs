//! A server on the in-memory store, for trying the API by hand:
//! `cargo run -p skiff-apiserver --example dev_server -- 16443 /tmp/dev` writes
//! `/tmp/dev/pki` and `/tmp/dev/admin.kubeconfig`, and serves on 127.0.0.1.

use skiff_access::pki::{Pki, PkiOptions, client_config, kubeconfig, server_config};
use skiff_access::{Access, AccessConfig};
use skiff_apiserver::{ApiServer, Config};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    // As the binary: readers of nested bodies need room, most of all unoptimised ones.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(8 << 20)
        .build()?
        .block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().as_deref().unwrap_or("16443").parse()?;
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "/tmp/skiff-dev-server".into()));
    std::fs::create_dir_all(&dir)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let started = std::time::Instant::now();
    let now = jiff::Timestamp::now();
    let options = PkiOptions {
        dir: dir.join("pki"),
        cluster_domain: "cluster.local".into(),
        ..PkiOptions::default()
    };
    let pki = Pki::open(&options, now)?;
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let access = Access::new(AccessConfig {
        service_account_keys: vec![pki.service_account_key()?],
        issuer: "https://kubernetes.default.svc.cluster.local".into(),
        api_audiences: vec!["https://kubernetes.default.svc.cluster.local".into()],
        client_ca_pem: pki.ca.certificate_pem().to_string(),
        front_proxy_ca_pem: pki.front_proxy_ca.certificate_pem().to_string(),
    })?;
    let config = Config {
        listen,
        advertise_port: port,
        client_ca_pem: pki.ca.certificate_pem().to_string(),
        kubelet_client: Some(Arc::new(client_config(
            pki.ca.certificate_pem(),
            Some(&pki.kubelet_client),
        )?)),
        front_proxy_client: Some(Arc::new(pki.front_proxy_client.clone())),
        ..Config::default()
    };
    let server = ApiServer::new(config, Arc::new(skiff_store::MemoryStore::new()), access).await?;
    let text = kubeconfig(
        "dev",
        "admin",
        &format!("https://127.0.0.1:{port}"),
        &[],
        pki.ca.certificate_pem(),
        &pki.admin,
    );
    std::fs::write(dir.join("admin.kubeconfig"), text)?;
    let tls = Arc::new(server_config(&pki.server, &pki.client_authorities_pem())?);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    eprintln!("serving on {listen} after {:?}", started.elapsed());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, tls, shutdown).await?;
    Ok(())
}
