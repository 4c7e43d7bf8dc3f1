//! Plugins of the node, as kubelet registers them: each has a socket in `plugins_registry`, is asked there who it
//! is, handed to whoever handles its type, and told what came of that. A socket that goes is a plugin that goes.
//!
//! ```text
//! plugins_registry/*.sock --inotify--> scan --GetInfo--> Handler::register --> NotifyRegistrationStatus
//!                                        '----- gone ----> Handler::gone
//! ```

use crate::image::watch::change;
use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use skiff_proto::kubelet::registration::registration_client::RegistrationClient;
use skiff_proto::kubelet::registration::{InfoRequest, RegistrationStatus};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Below kubelet's directory: where plugins make themselves known, and where they keep what else they have.
pub const REGISTRY: &str = "plugins_registry";
pub const PLUGINS: &str = "plugins";

/// Plugins of one node; more is no node.
const SOCKETS_MAX: usize = 200;
/// A plugin answers within this, or is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The first wait before one that did not answer is asked again; doubled per time.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(120);
/// A plugin binds its socket a moment before it listens.
const SETTLE: Duration = Duration::from_millis(20);

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Of the driver; several plugins may have the same.
    pub name: String,
    /// The socket that it serves on.
    pub endpoint: PathBuf,
    pub versions: Vec<String>,
}

/// Who uses plugins of one type.
#[async_trait]
pub trait Handler: Send + Sync {
    /// `DRAPlugin`, `CSIPlugin`.
    fn kind(&self) -> &'static str;

    /// The error is told to the plugin, which will not be used.
    async fn register(&self, plugin: Plugin) -> Result<(), String>;

    async fn gone(&self, plugin: &Plugin);
}

/// Which file it is: a plugin that starts anew makes another one of the same name.
type Identity = (u64, i64, i64);

struct Known {
    identity: Identity,
    /// None: it is to be asked (again).
    registered: Option<(&'static str, Plugin)>,
    retry: Duration,
    due: Instant,
}

/// Connects when it is first used, and again when the other side was away.
pub fn channel(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// Follows the plugins of the node until shutdown.
pub async fn follow(dir: PathBuf, handlers: Vec<Arc<dyn Handler>>, shutdown: CancellationToken) {
    let mut registry = Registry {
        handlers,
        known: BTreeMap::new(),
    };
    loop {
        // Watched before it is looked at, so that nothing falls in between.
        let mut changed = Box::pin(change(&dir));
        let early = futures::poll!(&mut changed);
        registry.look(&dir).await;
        let pause = match early {
            Poll::Pending => {
                let due = registry.due();
                let timer = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    told = changed => if told.is_ok() { SETTLE } else { RETRY_MAX },
                    () = timer => Duration::ZERO,
                }
            }
            Poll::Ready(Ok(())) => SETTLE,
            Poll::Ready(Err(error)) => {
                tracing::warn!(%error, dir = %dir.display(), "plugins are not watched; looking now and then");
                RETRY_MIN * 10
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Registry {
    handlers: Vec<Arc<dyn Handler>>,
    known: BTreeMap<PathBuf, Known>,
}

impl Registry {
    fn due(&self) -> Option<Instant> {
        let waiting = self.known.values().filter(|known| known.registered.is_none());
        waiting.map(|known| known.due).min()
    }

    async fn look(&mut self, dir: &Path) {
        let found = sockets(dir);
        let gone: Vec<PathBuf> = self
            .known
            .iter()
            .filter(|(path, known)| found.get(*path) != Some(&known.identity))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            if let Some((kind, plugin)) = self.known.remove(&path).and_then(|known| known.registered) {
                tracing::info!(kind, driver = plugin.name, socket = %path.display(), "a plugin has gone");
                if let Some(handler) = self.handler(kind) {
                    handler.gone(&plugin).await;
                }
            }
        }
        let now = Instant::now();
        for (path, identity) in found {
            let known = self.known.entry(path).or_insert(Known {
                identity,
                registered: None,
                retry: RETRY_MIN,
                due: now,
            });
            known.identity = identity;
        }
        let due = self
            .known
            .iter()
            .filter(|(_, known)| known.registered.is_none() && known.due <= now);
        let due: Vec<PathBuf> = due.map(|(path, _)| path.clone()).collect();
        let answers = futures::future::join_all(due.iter().map(|path| self.ask(path))).await;
        for (path, answer) in due.into_iter().zip(answers) {
            let Some(known) = self.known.get_mut(&path) else {
                continue;
            };
            match answer {
                Ok(registered) => known.registered = Some(registered),
                Err(error) => {
                    tracing::warn!(error, socket = %path.display(), "a plugin was not registered; trying again");
                    known.due = Instant::now() + known.retry;
                    known.retry = (known.retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn handler(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.iter().find(|handler| handler.kind() == kind)
    }

    /// Who it is and what becomes of it.
    async fn ask(&self, socket: &Path) -> Result<(&'static str, Plugin), String> {
        let mut client = RegistrationClient::new(channel(socket));
        let asked = tokio::time::timeout(ANSWER_MAX, client.get_info(InfoRequest {})).await;
        let info = asked
            .map_err(|_| "it does not answer".to_string())?
            .map_err(|status| format!("GetInfo: {}", status.message()))?
            .into_inner();
        let handler = self.handler(&info.r#type);
        let plugin = Plugin {
            endpoint: match info.endpoint.as_str() {
                "" => socket.to_owned(),
                endpoint => endpoint.into(),
            },
            name: info.name,
            versions: info.supported_versions,
        };
        let outcome = match handler {
            None => Err(format!("no handler registered for plugin type: {}", info.r#type)),
            Some(handler) => handler.register(plugin.clone()).await.map(|()| handler.kind()),
        };
        let status = RegistrationStatus {
            plugin_registered: outcome.is_ok(),
            error: outcome.as_ref().err().cloned().unwrap_or_default(),
        };
        let told = tokio::time::timeout(ANSWER_MAX, client.notify_registration_status(status)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::warn!(
                driver = plugin.name,
                "a plugin does not want to know that it is registered"
            );
        }
        let kind = outcome?;
        tracing::info!(kind, driver = plugin.name, endpoint = %plugin.endpoint.display(), "a plugin is registered");
        Ok((kind, plugin))
    }
}

/// The sockets of a directory; hidden ones are not meant.
fn sockets(dir: &Path) -> BTreeMap<PathBuf, Identity> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let meta = std::fs::metadata(entry.path()).ok()?;
        let socket = meta.file_type().is_socket() && !hidden;
        socket.then(|| (entry.path(), (meta.ino(), meta.ctime(), meta.ctime_nsec())))
    });
    all.take(SOCKETS_MAX).collect()
}

#[cfg(test)]
#[path = "test.rs"]
mod tests;
