//! Dials the container runtime's streaming server, which listens on loopback
//! and is known by one-time URLs, and upgrades the connection.

use crate::error::EndpointError;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

pub const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
/// The runtime answers at once or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What of a refusal's body is shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// An upgraded connection and the headers it was granted with.
pub struct Dialled {
    pub headers: HeaderMap,
    pub stream: TokioIo<Upgraded>,
}

/// Asks for SPDY/3.1 with one of `protocols` (the runtime's own choice is in the
/// answered headers).
pub async fn spdy(url: &str, protocols: impl IntoIterator<Item = HeaderValue>) -> Result<Dialled, EndpointError> {
    match tokio::time::timeout(ANSWER_MAX, dial(url, protocols)).await {
        Ok(result) => result,
        Err(_) => Err(EndpointError::Stream(format!(
            "no answer within {} s",
            ANSWER_MAX.as_secs()
        ))),
    }
}

async fn dial(url: &str, protocols: impl IntoIterator<Item = HeaderValue>) -> Result<Dialled, EndpointError> {
    let broke = |what: &str, error: &dyn std::fmt::Display| EndpointError::Stream(format!("{what}: {error}"));
    let url = url::Url::parse(url).map_err(|error| broke("its URL", &error))?;
    let authority = url[url::Position::BeforeHost..url::Position::AfterPort].to_string();
    let tcp = TcpStream::connect(&authority)
        .await
        .map_err(|source| EndpointError::Io {
            action: "connecting to the container runtime's streams",
            source,
        })?;
    tcp.set_nodelay(true).ok();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(|error| broke("handshake", &error))?;
    tokio::spawn(async move {
        // Errors reach whoever holds the upgraded connection.
        let _ = connection.with_upgrades().await;
    });
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&url[url::Position::BeforePath..])
        .header(HOST, &authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broke("request", &error))?;
    for protocol in protocols {
        request.headers_mut().append(STREAM_PROTOCOL, protocol);
    }
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|error| broke("request", &error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        return Err(EndpointError::Stream(format!(
            "{status}: {}",
            String::from_utf8_lossy(&body).trim()
        )));
    }
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .map_err(|error| broke("upgrade", &error))?;
    Ok(Dialled {
        headers,
        stream: TokioIo::new(upgraded),
    })
}
