//! A server that joins others: first it is handed the cluster's keys, then, when its store
//! is open, it is made a member. Doing either again does no harm, so a server that was
//! stopped half-way begins anew.

use super::pages::{Asking, Cluster, Entering};
use super::{Identity, PAGES, Record, keys};
use crate::cli::ServerArgs;
use crate::{files, join, paths};
use anyhow::{Context, Result, bail};
use http::Request;
use serde::{Serialize, de::DeserializeOwned};
use skiff_access::token::JoinToken;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A cluster that has no leader for the moment, or is starting, is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(120);

const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What is waited for is told when it changes, and again after this.
const TELL_AGAIN: Duration = Duration::from_secs(10);

pub struct Joining {
    client: kube::Client,
    url: url::Url,
    identity: Identity,
    data_dir: std::path::PathBuf,
}

/// What is to be done before the store is opened. `None`: nothing, this server is a member
/// already, or the first of its cluster.
pub async fn begin(args: &ServerArgs) -> Result<Option<Joining>> {
    let data_dir = &args.common.data_dir;
    let kept = Identity::read(data_dir)?;
    let (url, kept) = match (&args.join, kept) {
        (_, Some(Identity { joined: true, .. })) | (None, None) => return Ok(None),
        (None, Some(_)) => bail!("this server did not finish joining: give --join and --token again"),
        (Some(_), None) if data_dir.join(paths::SERVER_STORE).exists() => bail!(
            "{} holds a cluster of its own, which cannot join another: `skiff reset` removes it",
            data_dir.display()
        ),
        (Some(url), kept) => (url, kept),
    };
    let url = join::server_url(url, "--join")?;
    let token = join::token(args.token.as_deref(), args.token_file.as_deref())?.context(
        "a server that joins needs --token or --token-file; `skiff token create --server` on a server makes one",
    )?;
    let token: JoinToken = token.parse()?;
    let ca = join::fetch_ca(&url, &token)
        .await
        .with_context(|| format!("cannot join {url}"))?;
    let identity = kept.unwrap_or_else(|| Identity {
        id: rand::random_range(2..u64::MAX >> 1),
        joined: false,
    });
    let mut config = join::config(&url, &ca, None, Some(token.bearer()))?;
    // What a busy server says is told, and asked again below, not kept from who waits.
    config.default_retry = false;
    let joining = Joining {
        client: kube::Client::try_from(config).context("cannot make a client")?,
        url,
        identity,
        data_dir: data_dir.clone(),
    };
    files::private_directory(&data_dir.join("server"))?;
    let asking = Asking {
        cluster: Cluster::of(args),
    };
    let keys: keys::Keys = joining.ask("POST", PAGES, &asking).await?;
    keys::write(data_dir, &keys)?;
    joining.identity.write(data_dir)?;
    Ok(Some(joining))
}

impl Joining {
    /// Makes this server a member; its store is open and other servers can reach it.
    pub async fn enter(mut self, address: SocketAddr, record: Record) -> Result<()> {
        let entering = Entering {
            address: address.to_string(),
            record,
        };
        let page = format!("{PAGES}/{:x}", self.identity.id);
        let _: serde_json::Value = self.ask("PUT", &page, &entering).await?;
        self.identity.joined = true;
        self.identity.write(&self.data_dir)?;
        tracing::info!(server = %self.url, "joined");
        Ok(())
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, method: &str, page: &str, question: &Q) -> Result<A> {
        let deadline = Instant::now() + PATIENCE;
        let body = serde_json::to_vec(question)?;
        let mut told: Option<(String, Instant)> = None;
        loop {
            let request = Request::builder().method(method).uri(page).body(body.clone())?;
            let error = match self.client.request::<A>(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let passing = match &error {
                kube::Error::Api(status) => match status.code {
                    401 => bail!(
                        "the server does not know this token: it may have expired or been deleted; `skiff token create --server` on a server makes another"
                    ),
                    403 => bail!(
                        "this token is for nodes, not for servers; `skiff token create --server` on a server makes one"
                    ),
                    code => matches!(code, 429 | 500 | 503 | 504),
                },
                kube::Error::HyperError(_) | kube::Error::Service(_) => true,
                _ => false,
            };
            if let (false, kube::Error::Api(status)) = (passing, &error) {
                bail!("{} refused: {}", self.url, status.message);
            }
            if !passing || Instant::now() > deadline {
                return Err(error).with_context(|| format!("cannot join {}", self.url));
            }
            let why = match &error {
                kube::Error::Api(status) => format!("it answers {}: {}", status.code, status.message),
                error => error.to_string(),
            };
            let known = |(before, at): &(String, Instant)| *before == why && at.elapsed() < TELL_AGAIN;
            if !told.as_ref().is_some_and(known) {
                let left_s = deadline.saturating_duration_since(Instant::now()).as_secs();
                tracing::info!(server = %self.url, why, left_s, "waiting for the server that is to be joined");
                told = Some((why, Instant::now()));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}
