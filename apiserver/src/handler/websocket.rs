//! Answers over WebSocket, nothing read but the end: watches as a message per event, text
//! for JSON and binary for protobuf; logs as they come.
//!
//! ```text
//! watch stream -> chunks -> events -> messages -> client
//!                                        ^ close, or anything but pings: the end
//! ```

use super::identity::ServerCall;
use crate::body::ApiBody;
use crate::request::Encoding;
use bytes::{Buf, Bytes};
use futures::{SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use skiff_api::ApiError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// Subprotocols that carry a bearer token, for clients that cannot set headers.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case(token))
}

/// Whether a request wants to go on as a WebSocket.
pub(crate) fn asked(headers: &HeaderMap) -> bool {
    has_token(headers, header::CONNECTION, "upgrade") && has_token(headers, header::UPGRADE, "websocket")
}

fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    values.map(str::trim).filter(|p| !p.is_empty()).collect()
}

/// Moves a bearer token that is given as a subprotocol to where it belongs.
pub(super) fn take_token(headers: &mut HeaderMap) {
    use base64::Engine;
    if headers.contains_key(header::AUTHORIZATION) || !asked(headers) {
        return;
    }
    let offered = protocols(headers);
    let (tokens, others): (Vec<&str>, Vec<&str>) = offered.into_iter().partition(|p| p.starts_with(TOKEN_PROTOCOL));
    // Upstream takes one token, and only beside a protocol to speak.
    let ([token], false) = (tokens.as_slice(), others.is_empty()) else {
        return;
    };
    let encoded = &token[TOKEN_PROTOCOL.len()..];
    let Ok(token) = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded) else {
        return;
    };
    let others = others.join(", ");
    let bearer = [b"Bearer ".as_slice(), &token].concat();
    if let (Ok(mut bearer), Ok(others)) = (HeaderValue::from_bytes(&bearer), HeaderValue::from_str(&others)) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

/// Answers 101 and sends the chunks of a watch, an event a message.
pub(super) fn serve<S>(call: &ServerCall, chunks: S, encoding: Encoding) -> Result<Response<ApiBody>, ApiError>
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    let protocol = match protocols(&call.headers).as_slice() {
        [protocol] => HeaderValue::from_str(protocol).ok(),
        _ => None,
    };
    upgrade(call, protocol, chunks, move |chunk| next_message(chunk, encoding))
}

/// Bytes as they come, in the subprotocols that upstream knows for logs.
pub(crate) fn serve_bytes<S>(call: &ServerCall, chunks: S) -> Result<Response<ApiBody>, ApiError>
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    const KNOWN: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];
    let offered = protocols(&call.headers);
    let chosen = offered
        .iter()
        .find_map(|name| KNOWN.into_iter().find(|known| known == name));
    if chosen.is_none() && !offered.is_empty() {
        let text = format!("requested protocol(s) are not supported: {offered:?}; supports {KNOWN:?}");
        return Err(ApiError::bad_request(text));
    }
    let packed = chosen == Some(KNOWN[1]);
    let protocol = chosen.map(HeaderValue::from_static);
    upgrade(call, protocol, chunks, move |chunk| whole(chunk, packed))
}

/// Takes all of a chunk.
fn whole(chunk: &mut Bytes, packed: bool) -> Option<Message> {
    use base64::Engine;
    let chunk = std::mem::take(chunk);
    (!chunk.is_empty()).then(|| match packed {
        true => Message::text(base64::engine::general_purpose::STANDARD.encode(&chunk)),
        false => Message::Binary(chunk),
    })
}

/// Answers 101 and sends the messages that each chunk makes.
fn upgrade<S, F>(
    call: &ServerCall,
    protocol: Option<HeaderValue>,
    chunks: S,
    messages: F,
) -> Result<Response<ApiBody>, ApiError>
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    F: Fn(&mut Bytes) -> Option<Message> + Send + 'static,
{
    let (Some(upgrade), Some(key)) = (
        call.upgrade.clone(),
        call.headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes),
    ) else {
        return Err(ApiError::bad_request("this connection cannot become a WebSocket"));
    };
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key));
    if let Some(protocol) = protocol {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                pump(socket, chunks, messages).await;
            }
            Err(error) => tracing::debug!(%error, "an upgrade did not come about"),
        }
    });
    response.body(ApiBody::empty()).map_err(ApiError::internal)
}

async fn pump<S, C, F>(mut socket: WebSocketStream<S>, chunks: C, messages: F)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    C: Stream<Item = Result<Bytes, std::io::Error>>,
    F: Fn(&mut Bytes) -> Option<Message>,
{
    tokio::pin!(chunks);
    loop {
        tokio::select! {
            chunk = chunks.next() => {
                let Some(Ok(mut chunk)) = chunk else { break };
                while let Some(message) = messages(&mut chunk) {
                    if socket.feed(message).await.is_err() {
                        return;
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            read = socket.next() => match read {
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Binary(_))) => {}
                _ => return,
            },
        }
    }
    let _ = socket.close(None).await;
}

/// Takes the first event off a chunk.
fn next_message(chunk: &mut Bytes, encoding: Encoding) -> Option<Message> {
    if encoding == Encoding::Protobuf {
        // Messages have a length of their own.
        let length = chunk.try_get_u32().ok()? as usize;
        return Some(Message::Binary(chunk.split_to(length.min(chunk.len()))));
    }
    let end = chunk.iter().position(|b| *b == b'\n').map_or(chunk.len(), |at| at + 1);
    let line = (end > 0).then(|| chunk.split_to(end))?;
    Some(Message::Text(line.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_messages() {
        let mut json = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        let mut texts = Vec::new();
        while let Some(message) = next_message(&mut json, Encoding::Json) {
            texts.push(message.to_text().unwrap().to_string());
        }
        assert_eq!(texts, ["{\"a\":1}\n", "{\"b\":2}\n"]);
        let mut proto = Bytes::from_static(b"\0\0\0\x02ab\0\0\0\x01c");
        let mut all = Vec::new();
        while let Some(message) = next_message(&mut proto, Encoding::Protobuf) {
            all.push(message.into_data());
        }
        assert_eq!(all, [Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
    }

    #[test]
    fn bytes_become_one_message() {
        let mut chunk = Bytes::from_static(b"line\n");
        assert_eq!(whole(&mut chunk, false), Some(Message::binary(&b"line\n"[..])));
        assert_eq!(whole(&mut chunk, false), None, "nothing is left");
        assert_eq!(
            whole(&mut Bytes::from_static(b"line\n"), true),
            Some(Message::text("bGluZQo="))
        );
    }

    #[test]
    fn a_token_moves_to_its_header() {
        let headers = |protocol: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            take_token(&mut headers);
            let token = headers
                .get(header::AUTHORIZATION)
                .map(|v| v.to_str().unwrap().to_string());
            (
                token,
                headers[header::SEC_WEBSOCKET_PROTOCOL].to_str().unwrap().to_string(),
            )
        };
        let token = "base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io";
        assert_eq!(headers(token), (Some("Bearer abc".into()), "v5.channel.k8s.io".into()));
        for refused in [
            "base64url.bearer.authorization.k8s.io.YWJj",
            "base64url.bearer.authorization.k8s.io.!, x",
            "x",
        ] {
            assert_eq!(headers(refused), (None, refused.into()));
        }
    }
}
