//! The network face: TLS and HTTP/1.1 or HTTP/2 towards clients.
//!
//! ```text
//! accept loop -> task per connection: TLS handshake -> hyper -> handler
//! ```
//!
//! Handshakes never hold up the accept loop, and connections that send nothing
//! are closed.

use crate::body::ApiBody;
use crate::handler::Peer;
use crate::respond;
use crate::server::{ApiServer, ServerError};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use skiff_api::ApiError;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Largest request body, as upstream.
const BODY_BYTES_MAX: usize = 3 << 20;
/// As much of a refused body is taken in, and for as long.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);
/// A body that trickles is not waited for longer than a request may last.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest request head: impersonation and long selectors fit, abuse does not.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// A client that cannot finish its handshake within this is gone.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once; each costs some 30 kB, and a cluster of 1000 nodes needs a few thousand.
const CONNECTIONS_MAX: usize = 16_384;
/// Requests in flight get this long to end when the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Streams per HTTP/2 connection, as Go's server.
const HTTP2_STREAMS_MAX: u32 = 250;

impl ApiServer {
    /// Serves until `shutdown`; then ends watches and waits shortly for the rest.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let acceptor = TlsAcceptor::from(tls);
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "cannot accept a connection; going on");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(ServerError::Accept(error)),
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!("too many connections; one was refused");
                continue;
            };
            let (server, acceptor, watcher) = (self.clone(), acceptor.clone(), graceful.watcher());
            tokio::spawn(async move {
                if let Err(error) = connection(server, acceptor, stream, watcher).await {
                    tracing::debug!(error, "a connection ended early");
                }
                drop(slot);
            });
        }
        self.closing.cancel();
        drop(listener);
        if tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
            tracing::info!("some connections did not end in time and are cut");
        }
        Ok(())
    }
}

/// Errors of `accept` that pass: the peer is gone, or descriptors ran out for now.
fn is_transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted | K::ConnectionReset | K::Interrupted | K::WouldBlock
    ) || matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105))
}

async fn connection(
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    watcher: Watcher,
) -> Result<(), String> {
    let _ = stream.set_nodelay(true);
    let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| "no TLS handshake in time".to_string())?
        .map_err(|e| format!("TLS handshake: {e}"))?;
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        // TLS has verified the chain; what the certificate is good for depends on its authority.
        .and_then(|chain| Some((server.access.voucher(chain)?, Bytes::copy_from_slice(chain.first()?))));
    let peer = Peer::Network { certificate };
    let service = service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(respond(&server, request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(90))
        .max_buf_size(HEADER_BYTES_MAX * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(Some(Duration::from_secs(45)))
        .keep_alive_timeout(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    let watched = watcher.watch(connection.into_owned());
    tokio::pin!(watched);
    watched.await.map_err(|e| e.to_string())
}

/// Reads the body, within limits, and has the handler answer.
pub(crate) async fn respond<B>(server: &Arc<ApiServer>, request: Request<B>, peer: Peer) -> Response<ApiBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    match collect(body, BODY_TIMEOUT).await {
        Ok(body) => Box::pin(server.answer(parts, body, peer)).await,
        Err(error) => {
            let accept = parts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
            let mut response = respond::error(&error, accept.unwrap_or(""));
            if parts.version < http::Version::HTTP_2 {
                // What is left of the body would be read as the next request.
                response
                    .headers_mut()
                    .insert(header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            response
        }
    }
}

/// The whole body, if it is not too large and comes in time. Until it is here the
/// request holds nothing that others could lack.
async fn collect<B>(body: B, limit: Duration) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().lower();
    let mut body = Box::pin(body);
    let read = async {
        if announced > BODY_BYTES_MAX as u64 {
            return Ok(None);
        }
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(Into::into)?.into_data() else {
                continue;
            };
            total += piece.len();
            if total > BODY_BYTES_MAX {
                return Ok(None);
            }
            pieces.push(piece);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some(match pieces.len() {
            1 => pieces.swap_remove(0),
            _ => pieces.concat().into(),
        }))
    };
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            tokio::spawn(discard(body));
            Err(ApiError::too_large(format!(
                "Request entity is too large: limit is {BODY_BYTES_MAX}"
            )))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "the request body could not be read: {error}"
        ))),
        Err(_) => Err(ApiError::new(
            504,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        )),
    }
}

/// Takes in what a client still sends after it was answered: most clients read the
/// answer only when they have sent everything, and see a broken connection instead.
async fn discard<B>(mut body: std::pin::Pin<Box<B>>)
where
    B: Body<Data = Bytes>,
{
    let mut left = DISCARDED_BYTES_MAX;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    #[tokio::test]
    async fn bodies_that_are_too_large_or_too_slow_are_refused() {
        let wait = Duration::from_millis(1);
        let whole = |bytes: usize| Full::new(Bytes::from(vec![b'x'; bytes]));
        assert_eq!(
            collect(whole(BODY_BYTES_MAX), wait).await.unwrap().len(),
            BODY_BYTES_MAX
        );
        let error = collect(whole(BODY_BYTES_MAX + 1), wait).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (413, "Request entity is too large: limit is 3145728")
        );
        // One that does not say how long it is.
        let pieces = (0..=BODY_BYTES_MAX / 4096)
            .map(|_| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(vec![b'x'; 4096]))));
        let long = StreamBody::new(futures::stream::iter(pieces));
        assert_eq!(collect(long, Duration::from_secs(60)).await.unwrap_err().code, 413);
        let endless = StreamBody::new(futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>());
        assert_eq!(collect(endless, wait).await.unwrap_err().code, 504);
    }
}
