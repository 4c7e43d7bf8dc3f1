//! Joining: from a token to the node's own certificate.
//!
//! ```text
//! token: CA hash --> TLS handshake (the hash is checked before anything is sent)
//!        secret  --> CertificateSigningRequest as system:bootstrap:<id> --> approved, signed
//! ```
//! What was learned is kept, so a node that restarts needs neither token nor
//! server address.

use crate::files;
use crate::remote::{self, Servers};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use rustls_pki_types::ServerName;
use serde_json::json;
use skiff_access::pki::{self, Freshness};
use skiff_access::token::JoinToken;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CA: &str = "cluster-ca.crt";
const SERVER: &str = "server";
const CLIENT: &str = "kubelet-client";
const SERVING: &str = "kubelet-serving";
/// Approving and signing takes milliseconds; a server that starts, seconds.
const SIGN_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const CONNECT_MAX: Duration = Duration::from_secs(10);

pub struct Joined {
    pub server: String,
    /// All servers, as far as they are known; more are learned while the node runs.
    pub servers: Arc<Servers>,
    pub client: kube::Client,
    pub credentials: skiff_agent::NodeCredentials,
}

/// A server's URL, as it was given with this flag.
pub fn server_url(text: &str, flag: &str) -> Result<url::Url> {
    let url = url::Url::parse(text).with_context(|| format!("{flag}: {text:?} is no URL such as https://host:6443"))?;
    if url.scheme() != "https" {
        bail!("{flag}: {text:?} must begin with https://");
    }
    Ok(url)
}

/// The token, wherever it was given.
pub fn token(text: Option<&str>, file: Option<&Path>) -> Result<Option<String>> {
    match (text, file) {
        (Some(_), Some(_)) => bail!("give --token or --token-file, not both"),
        (Some(token), None) => Ok(Some(token.trim().to_string())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?;
            Ok(Some(text.trim().to_string()))
        }
        (None, None) => Ok(None),
    }
}

/// With what is kept if it is good, else by joining anew.
pub async fn open(
    dir: &Path,
    server: Option<&str>,
    token: Option<&str>,
    node: &str,
    ip: Option<IpAddr>,
) -> Result<Joined> {
    let kept_servers = std::fs::read_to_string(dir.join(SERVER)).unwrap_or_default();
    let mut known: Vec<String> = kept_servers.lines().map(str::to_owned).collect();
    if let Some(given) = server {
        let given = given.trim_end_matches('/').to_string();
        known.retain(|server| *server != given);
        known.insert(0, given);
    }
    let server = known
        .first()
        .context("which server is to be joined? give --server https://host:6443")?
        .clone();
    let url = server_url(&server, "--server")?;
    let identity = kept(dir, CLIENT, node)?;
    let ca = std::fs::read_to_string(dir.join(CA)).ok();
    let (ca, identity) = match (ca, identity) {
        (Some(ca), Some(identity)) => (ca, identity),
        _ => join(dir, &url, token, node).await?,
    };
    files::write_private(&dir.join(SERVER), &known.join("\n"))?;
    let servers: Result<Vec<String>> = known.iter().map(|server| host_and_port(server)).collect();
    let servers = Servers::new(servers?);
    let client = remote::client(servers.clone(), pki::client_config(&ca, Some(&identity))?);
    let serving = match kept(dir, SERVING, node)? {
        Some(serving) => serving,
        None => {
            let mut names = vec![node.to_string()];
            names.extend(ip.map(|ip| ip.to_string()));
            let usages = ["digital signature", "server auth"];
            let serving = request(&client, "kubernetes.io/kubelet-serving", node, &names, &usages).await?;
            keep(dir, SERVING, &serving)?;
            serving
        }
    };
    Ok(Joined {
        server,
        servers,
        client,
        credentials: skiff_agent::NodeCredentials {
            serving_certificate_pem: serving.certificate_pem,
            serving_key_pem: serving.key_pem,
            cluster_ca_pem: ca,
        },
    })
}

fn host_and_port(server: &str) -> Result<String> {
    let url = server_url(server, "--server")?;
    let host = url.host_str().context("--server: the URL has no host")?;
    Ok(format!("{host}:{}", url.port_or_known_default().unwrap_or(6443)))
}

/// Learns, until the end, which servers there are, and keeps that for the next start.
pub async fn follow_servers(dir: PathBuf, servers: Arc<Servers>, client: kube::Client, shutdown: CancellationToken) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, "default");
    let config = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
    let changes = watcher(slices, config).default_backoff().applied_objects();
    let mut changes = std::pin::pin!(changes);
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => change,
        };
        let slice = match change {
            Some(Ok(slice)) => slice,
            Some(Err(error)) => {
                tracing::debug!(%error, "cannot see which servers there are; trying again");
                continue;
            }
            None => return,
        };
        let told = addresses(&slice);
        if told.is_empty() || !servers.learn(&told) {
            continue;
        }
        let known: Vec<String> = servers
            .known()
            .iter()
            .map(|server| format!("https://{server}"))
            .collect();
        if let Err(error) = files::write_private(&dir.join(SERVER), &known.join("\n")) {
            tracing::warn!("cannot keep which servers there are: {error:#}");
        }
    }
}

/// Hosts and ports of the servers that answer.
fn addresses(slice: &EndpointSlice) -> Vec<String> {
    let port = slice.ports.iter().flatten().find_map(|port| port.port).unwrap_or(6443);
    let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false));
    let endpoints = slice.endpoints.iter().flatten().filter(ready);
    let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
    let parsed = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    parsed
        .map(|ip| std::net::SocketAddr::new(ip, port as u16).to_string())
        .collect()
}

/// The certificate kept under this name, if it is this node's and good for longer.
fn kept(dir: &Path, name: &str, node: &str) -> Result<Option<pki::Identity>> {
    let read = |suffix: &str| std::fs::read_to_string(dir.join(format!("{name}.{suffix}"))).ok();
    let (Some(certificate_pem), Some(key_pem)) = (read("crt"), read("key")) else {
        return Ok(None);
    };
    let identity = pki::Identity {
        certificate_pem,
        key_pem,
    };
    let Some(leaf) = identity.chain().ok().and_then(|chain| chain.into_iter().next()) else {
        return Ok(None);
    };
    let (not_before, not_after) = pki::validity(&leaf)?;
    match pki::freshness(not_before, not_after, jiff::Timestamp::now().as_second()) {
        Freshness::NotYetValid => {
            bail!("the clock is before the node's certificate: set the clock (timedatectl set-ntp true)")
        }
        Freshness::Good if pki::common_name(&leaf)? == format!("system:node:{node}") => Ok(Some(identity)),
        _ => Ok(None),
    }
}

fn keep(dir: &Path, name: &str, identity: &pki::Identity) -> Result<()> {
    files::write_private(&dir.join(format!("{name}.key")), &identity.key_pem)?;
    files::write_private(&dir.join(format!("{name}.crt")), &identity.certificate_pem)
}

async fn join(dir: &Path, url: &url::Url, token: Option<&str>, node: &str) -> Result<(String, pki::Identity)> {
    let token = token.context(
        "a node that has not joined yet needs --token or --token-file; `skiff token create` on the server makes one",
    )?;
    let token: JoinToken = token.parse()?;
    let ca = fetch_ca(url, &token)
        .await
        .with_context(|| format!("cannot join {url}"))?;
    let client = client(url, &ca, None, Some(token.bearer()))?;
    let usages = ["digital signature", "client auth"];
    let identity = request(
        &client,
        "kubernetes.io/kube-apiserver-client-kubelet",
        node,
        &[],
        &usages,
    )
    .await
    .with_context(|| format!("cannot join {url}"))?;
    files::write_private(&dir.join(CA), &ca)?;
    keep(dir, CLIENT, &identity)?;
    Ok((ca, identity))
}

/// The CA (PEM) that the server presents, once its hash is found to be the token's.
pub async fn fetch_ca(url: &url::Url, token: &JoinToken) -> Result<String> {
    let host = url
        .host_str()
        .context("the URL has no host")?
        .trim_matches(['[', ']'])
        .to_string();
    let port = url.port_or_known_default().unwrap_or(6443);
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((host.as_str(), port))).await;
    let tcp = connected
        .context("no answer: check the address and the firewall")?
        .context("no connection: is the server running there?")?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(pki::join_config(&token.ca_hash)?));
    let name = ServerName::try_from(host).context("the URL's host is no name or address")?;
    let tls = tokio::time::timeout(CONNECT_MAX, connector.connect(name, tcp))
        .await
        .context("no answer to the TLS handshake")??;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let ca = chain
        .iter()
        .find(|certificate| pki::spki_sha256(certificate).is_ok_and(|hash| hash == token.ca_hash));
    Ok(pem(ca.context("the server presented no CA certificate")?))
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

pub fn client(
    url: &url::Url,
    ca_pem: &str,
    identity: Option<&pki::Identity>,
    bearer: Option<String>,
) -> Result<kube::Client> {
    kube::Client::try_from(config(url, ca_pem, identity, bearer)?).context("cannot make a client")
}

/// How to reach the server at `url`.
pub fn config(
    url: &url::Url,
    ca_pem: &str,
    identity: Option<&pki::Identity>,
    bearer: Option<String>,
) -> Result<kube::Config> {
    let mut config = kube::Config::new(url.as_str().parse().context("the URL")?);
    config.root_cert = Some(
        pki::certificates(ca_pem)?
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    );
    if let Some(identity) = identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(&identity.certificate_pem));
        config.auth_info.client_key_data = Some(STANDARD.encode(&identity.key_pem).into());
    }
    config.auth_info.token = bearer.map(Into::into);
    Ok(config)
}

/// A new key, and a certificate for it from the cluster's signer.
async fn request(
    client: &kube::Client,
    signer: &str,
    node: &str,
    names: &[String],
    usages: &[&str],
) -> Result<pki::Identity> {
    let (key_pem, csr_pem) = pki::new_csr(&format!("system:node:{node}"), "system:nodes", names)?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "node-csr-"},
        "spec": {"request": STANDARD.encode(csr_pem), "signerName": signer, "usages": usages},
    });
    let created = match requests
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 401 => {
            bail!(
                "the server does not know this token: it may have expired or been deleted; `skiff token create` on the server makes another"
            )
        }
        other => other.context("the request for a certificate was refused")?,
    };
    let name = created.metadata.name.unwrap_or_default();
    let deadline = Instant::now() + SIGN_MAX;
    let certificate_pem = loop {
        let seen = requests
            .get(&name)
            .await
            .context("cannot look after the request for a certificate")?;
        let status = seen.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            break String::from_utf8(certificate.0).context("the certificate is not PEM")?;
        }
        let refused = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"));
        if let Some(condition) = refused {
            bail!(
                "the request for a certificate was refused: {}",
                condition.message.as_deref().unwrap_or_default()
            );
        }
        if Instant::now() >= deadline {
            bail!(
                "the request for a certificate ({name}) was not approved within {} s; on the server: kubectl certificate approve {name}",
                SIGN_MAX.as_secs()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    // Done with; those that may not delete leave it to the cleaner.
    let _ = requests.delete(&name, &DeleteParams::default()).await;
    Ok(pki::Identity {
        certificate_pem,
        key_pem,
    })
}
