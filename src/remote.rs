//! A client of several API servers. It stays with one for as long as that answers, and goes
//! on to the next when it does not: when it cannot be reached, falls silent, or says again
//! and again that it can do nothing without the others.

use anyhow::{Context, Result, bail};
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A name that every server's certificate has.
const NAME: &str = "kubernetes";

/// From dialling to being able to ask; a machine that is off does not even refuse.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// While something is expected of a server it is asked so often whether it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_MAX: Duration = Duration::from_secs(3);

/// So many answers in a row that it is unavailable, and another server is asked.
const UNAVAILABLE_MAX: usize = 3;

/// The servers' hosts and ports, in the order in which they are tried.
pub struct Servers {
    known: Mutex<Vec<String>>,
    /// The one in use, or to be tried first.
    at: AtomicUsize,
    unavailable: AtomicUsize,
}

impl Servers {
    pub fn new(known: Vec<String>) -> Arc<Self> {
        Arc::new(Servers {
            known: Mutex::new(known),
            at: AtomicUsize::new(0),
            unavailable: AtomicUsize::new(0),
        })
    }

    pub fn known(&self) -> Vec<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is said of the servers now. Those that were known and are not in it go to
    /// the end: they may be away for a while only. Whether anything is new.
    pub fn learn(&self, told: &[String]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.at.load(Ordering::Relaxed) % known.len().max(1);
        let current = known.get(at).cloned();
        let away = known.iter().filter(|server| !told.contains(server));
        let mut now: Vec<String> = told.iter().chain(away).cloned().collect();
        now.truncate(SERVERS_MAX);
        if *known == now {
            return false;
        }
        let at = current.and_then(|current| now.iter().position(|server| *server == current));
        self.at.store(at.unwrap_or(0), Ordering::Relaxed);
        *known = now;
        true
    }

    /// Those to try, the one in use first.
    fn in_turn(&self) -> Vec<(usize, String)> {
        let known = self.known();
        let at = self.at.load(Ordering::Relaxed);
        (0..known.len())
            .map(|n| (at + n) % known.len())
            .map(|n| (n, known[n].clone()))
            .collect()
    }

    /// Counts what a server answers; `true`: it is time to ask another.
    fn answered(&self, status: StatusCode) -> bool {
        if status != StatusCode::SERVICE_UNAVAILABLE {
            self.unavailable.store(0, Ordering::Relaxed);
            return false;
        }
        let several = self.known().len() > 1;
        let enough = self.unavailable.fetch_add(1, Ordering::Relaxed) + 1 >= UNAVAILABLE_MAX;
        if several && enough {
            self.unavailable.store(0, Ordering::Relaxed);
            self.at.fetch_add(1, Ordering::Relaxed);
        }
        several && enough
    }
}

/// More are not remembered: clusters have a handful.
const SERVERS_MAX: usize = 16;

#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    servers: Arc<Servers>,
    tls: TlsConnector,
    /// One connection carries everything.
    connection: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
}

/// Asks these servers, as whom the TLS configuration says.
pub fn client(servers: Arc<Servers>, mut tls: rustls::ClientConfig) -> kube::Client {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let inner = Inner {
        servers,
        tls: TlsConnector::from(Arc::new(tls)),
        connection: tokio::sync::Mutex::new(None),
    };
    kube::Client::new(Remote(Arc::new(inner)), "default")
}

impl Inner {
    async fn connection(&self) -> Result<http2::SendRequest<Body>> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|c| !c.is_closed()) {
            return Ok(open.clone());
        }
        let mut failed = Vec::new();
        for (at, server) in self.servers.in_turn() {
            match tokio::time::timeout(CONNECT_MAX, self.connect(&server)).await {
                Ok(Ok(made)) => {
                    if failed.is_empty() {
                        tracing::debug!(server, "connected");
                    } else {
                        tracing::info!(server, failed = failed.join("; "), "connected to another server");
                    }
                    self.servers.at.store(at, Ordering::Relaxed);
                    *connection = Some(made.clone());
                    return Ok(made);
                }
                Ok(Err(error)) => failed.push(format!("{server}: {error:#}")),
                Err(_) => failed.push(format!("{server}: no answer in time")),
            }
        }
        bail!("no server can be reached: {}", failed.join("; "))
    }

    async fn connect(&self, server: &str) -> Result<http2::SendRequest<Body>> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(NAME)?, stream).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to a server ended");
            }
        });
        Ok(sender)
    }

    async fn ask(&self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        let mut uri = request.uri().clone().into_parts();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(Authority::from_static(NAME));
        *request.uri_mut() = Uri::from_parts(uri).context("the request's path")?;
        let mut connection = self.connection().await?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        if self.servers.answered(response.status()) {
            // Others that use it finish what they began.
            *self.connection.lock().await = None;
        }
        Ok(response)
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, tower::BoxError>> + Send>>;

impl tower::Service<Request<Body>> for Remote {
    type Response = Response<Incoming>;
    type Error = tower::BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.ask(request).await.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn servers_that_are_away_are_tried_last_and_the_one_in_use_first() {
        let known = Servers::new(servers("a b c"));
        known.at.store(1, Ordering::Relaxed);
        assert!(known.learn(&servers("b d")));
        assert_eq!(known.known(), servers("b d a c"));
        let turn: Vec<String> = known.in_turn().into_iter().map(|(_, server)| server).collect();
        assert_eq!(turn, servers("b d a c"));
        assert!(!known.learn(&servers("b d")));
    }

    #[test]
    fn a_server_that_can_do_nothing_is_left() {
        let known = Servers::new(servers("a b"));
        let first = || known.in_turn()[0].1.clone();
        let (bad, good) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::CONFLICT);
        assert_eq!([bad, bad, good, bad, bad].map(|s| known.answered(s)), [false; 5]);
        assert_eq!(first(), "a");
        assert!(known.answered(bad));
        assert_eq!(first(), "b");
        let only = Servers::new(servers("a"));
        assert_eq!([bad; 5].map(|s| only.answered(s)), [false; 5], "there is no other");
    }
}
