//! Passing on: one request and its streamed answer, or an upgraded connection
//! as a tunnel.

use super::dial::Backend;
use super::page::{Page, Site};
use crate::body::ApiBody;
use crate::handler::{ServerCall, websocket};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skiff_api::ApiError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// As much of a backend's error text is shown, as upstream.
const ERROR_TEXT_MAX: usize = 2048;
/// Buffer per direction of a tunnel: a few full TLS records.
const TUNNEL_BUFFER_BYTES: usize = 32 * 1024;

/// Headers that belong to one connection, or that prove who asks: never passed on.
const NOT_PASSED_ON: [&str; 9] = [
    "authorization",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "host",
];

/// A pod's log, as an answer or over a WebSocket.
pub(super) async fn logs(
    call: &ServerCall,
    backend: &Backend,
    path: &str,
    follow: bool,
) -> Result<Response<ApiBody>, ApiError> {
    let request = request_to(backend, http::Method::GET, path, HeaderMap::new(), ApiBody::empty())?;
    let response = backend
        .send(request)
        .await
        .map_err(|e| ApiError::internal(format!("error dialing backend: {e}")))?;
    if !response.status().is_success() {
        return Err(backend_error(response).await);
    }
    if websocket::asked(&call.headers) {
        return websocket::serve_bytes(call, chunks_of(response.into_body()));
    }
    let mut answer = Response::new(stream_of(response.into_body()));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if follow {
        answer
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    }
    Ok(answer)
}

/// Largest page that is read from a node: the figures of some ten thousand containers.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// A page, whole.
pub(super) async fn page(backend: &Backend, path: &str) -> Result<Bytes, String> {
    let request = request_to(backend, http::Method::GET, path, HeaderMap::new(), ApiBody::empty());
    let response = backend.send(request.map_err(|e| e.to_string())?).await?;
    if !response.status().is_success() {
        return Err(backend_error(response).await.to_string());
    }
    let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|e| e.to_string())
}

/// One request and its answer.
pub(super) async fn plain(call: ServerCall, backend: &Backend, path: &str) -> Result<Response<ApiBody>, ApiError> {
    let mut headers = passed_on(&call.headers);
    headers.remove(header::UPGRADE);
    let prefix = call.info.path.strip_suffix(&call.info.rest).unwrap_or(&call.info.path);
    let site = Site {
        prefix: prefix.trim_end_matches('/').to_owned(),
        backend: backend.authority(),
        asked: call.header(header::HOST).to_owned(),
    };
    let below = path.split('?').next().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("{}{below}", site.prefix)) {
        headers.insert("x-forwarded-uri", value);
    }
    let bodiless = call.method == http::Method::HEAD;
    let request = request_to(backend, call.method, path, headers, ApiBody::full(call.body))?;
    let response = backend.send(request).await.map_err(|e| unreachable(backend, &e))?;
    let (parts, body) = response.into_parts();
    let mut headers = passed_on(&parts.headers);
    let text = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let body = if let Some(location) = text(header::LOCATION) {
        if let Ok(value) = HeaderValue::from_str(&site.relocated(location)) {
            headers.insert(header::LOCATION, value);
        }
        stream_of(body)
    } else {
        let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
        let page = kind.is_some_and(|kind| kind.trim() == "text/html") && !bodiless;
        let encoding = text(header::CONTENT_ENCODING).unwrap_or_default();
        match page.then(|| Page::of(site, encoding)).flatten() {
            Some(page) => {
                // Its length is known only when it has been sent.
                headers.remove(header::CONTENT_LENGTH);
                rewritten(page, body)
            }
            None => stream_of(body),
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// A page whose links are relocated while it is passed on.
fn rewritten(page: Page, body: Incoming) -> ApiBody {
    let pieces = BodyDataStream::new(body).map(Some).chain(futures::stream::iter([None]));
    let pieces = pieces.scan(page, |page, piece| {
        let piece = match piece {
            Some(Ok(chunk)) => page.push(&chunk),
            Some(Err(error)) => Err(std::io::Error::other(error)),
            None => page.finish(),
        };
        std::future::ready(Some(piece.map(Bytes::from)))
    });
    ApiBody::stream(pieces)
}

/// Passes an upgrade on and joins both connections.
pub(super) async fn upgraded(call: ServerCall, backend: &Backend, path: &str) -> Result<Response<ApiBody>, ApiError> {
    let upgrade = call
        .upgrade
        .filter(|_| call.headers.contains_key(header::UPGRADE))
        .ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
    let mut headers = passed_on(&call.headers);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let request = request_to(backend, call.method, path, headers, ApiBody::empty())?;
    let mut response = backend.send(request).await.map_err(|e| unreachable(backend, &e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(backend_error(response).await);
    }
    let theirs = hyper::upgrade::on(&mut response);
    let mut answer = Response::new(ApiBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = passed_on(response.headers());
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    join(upgrade, theirs);
    Ok(answer)
}

/// Joins two connections that are about to be upgraded.
pub(crate) fn join(upgrade: OnUpgrade, theirs: OnUpgrade) {
    tokio::spawn(async move {
        let (client, server) = match tokio::try_join!(upgrade, theirs) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "an upgrade did not come about");
                return;
            }
        };
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let (from_server, to_server) = tokio::io::split(TokioIo::new(server));
        tokio::join!(carry(from_client, to_server), carry(from_server, to_client));
    });
}

/// One direction to its end: neither a closed stdin nor a side that takes nothing more
/// may cut what comes the other way.
async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(from: R, mut to: W) {
    let mut from = tokio::io::BufReader::with_capacity(TUNNEL_BUFFER_BYTES, from);
    if let Err(error) = tokio::io::copy_buf(&mut from, &mut to).await {
        tracing::debug!(%error, "a tunnel ended early");
    }
    let _ = to.shutdown().await;
}

fn request_to(
    backend: &Backend,
    method: http::Method,
    path: &str,
    headers: HeaderMap,
    body: ApiBody,
) -> Result<Request<ApiBody>, ApiError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|e| ApiError::bad_request(format!("the path to pass on is not valid: {e}")))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&backend.authority()).map_err(ApiError::internal)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

/// The headers that go along to the next server.
pub(crate) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let keep =
        |name: &HeaderName| !NOT_PASSED_ON.contains(&name.as_str()) && !name.as_str().starts_with("impersonate-");
    headers
        .iter()
        .filter(|(name, _)| keep(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn chunks_of(body: Incoming) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    BodyDataStream::new(body).map(|chunk| chunk.map_err(std::io::Error::other))
}

pub(crate) fn stream_of(body: Incoming) -> ApiBody {
    ApiBody::stream(chunks_of(body))
}

fn unreachable(backend: &Backend, why: &str) -> ApiError {
    if backend.is_agent {
        ApiError::internal(format!("error dialing backend: {why}"))
    } else {
        ApiError::unavailable(format!("error trying to reach service: {why}"))
    }
}

/// A backend's refusal as a Status that carries its text.
async fn backend_error(response: Response<Incoming>) -> ApiError {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), ERROR_TEXT_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_else(|_| Bytes::new());
    let text = String::from_utf8_lossy(&body).trim().to_string();
    let (reason, text) = match code {
        400 => ("BadRequest", text),
        401 => ("Unauthorized", "the node refused this server's certificate".to_string()),
        403 => ("Forbidden", text),
        404 => (
            "NotFound",
            if text.is_empty() {
                "the server could not find the requested resource".into()
            } else {
                text
            },
        ),
        405 => ("MethodNotAllowed", text),
        503 => ("ServiceUnavailable", text),
        _ => ("InternalError", text),
    };
    ApiError::new(
        if code < 400 { 500 } else { code },
        reason,
        if text.is_empty() {
            format!("the backend answered {code}")
        } else {
            text
        },
    )
}
