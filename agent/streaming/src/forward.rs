//! port-forward for WebSocket clients that speak in channels, as Kubernetes' own
//! libraries in other languages do: for port number `n` of the request, channel
//! `2n` carries its bytes and `2n + 1` what goes wrong. Each begins with the
//! port's number, two bytes, the lower one first.
//!
//! ```text
//! client --WebSocket--> up ----frames--> runtime (a data and an error stream per port)
//! client <-WebSocket--- down <-frames--- runtime
//! ```

use crate::dialect::Dialect;
use crate::error::EndpointError;
use crate::spdy::{self, Encoder, Frame, SpdyError};
use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Channels are bytes, digits in base64: so many ports in one request.
pub const PORTS_MAX: usize = 100;

/// The runtime's stream of each channel, and what opens them.
fn open(ports: &[u16], out: &mut BytesMut) -> Result<Vec<u32>, SpdyError> {
    let mut encoder = Encoder::default();
    let mut streams = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let (port, request) = (port.to_string(), at.to_string());
        let mut make = |kind: &str| {
            let headers = [("streamtype", kind), ("port", &port), ("requestid", &request)];
            encoder.open(&headers, out)
        };
        // The runtime takes the error stream first, and nobody writes on it.
        let error = make("error")?;
        let data = make("data")?;
        spdy::data(error, &[], true, out);
        streams.extend([data, error]);
    }
    Ok(streams)
}

/// One message of the client as frames for the runtime. Pure.
fn to_frames(message: &[u8], streams: &[u32], out: &mut BytesMut) {
    let Some((channel, payload)) = message.split_first() else {
        return;
    };
    let stream = streams.get(usize::from(*channel));
    // What goes wrong is told by the runtime alone.
    if let Some(stream) = stream.filter(|_| channel % 2 == 0) {
        for part in payload.chunks(spdy::DATA_BYTES_MAX) {
            spdy::data(*stream, part, false, out);
        }
    }
}

/// Until the runtime has ended every stream, or the client has gone.
pub async fn run<C, R>(
    client: WebSocketStream<C>,
    runtime: R,
    ports: &[u16],
    dialect: Dialect,
) -> Result<(), EndpointError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let odd = |error: SpdyError| EndpointError::Stream(error.to_string());
    let broken = |source| EndpointError::Io {
        action: "forwarding ports to the container runtime",
        source,
    };
    let (mut read, write) = tokio::io::split(runtime);
    let (mut to, mut from) = client.split();
    let mut opening = BytesMut::new();
    let streams = open(ports, &mut opening).map_err(odd)?;
    // Pings are answered from the other direction.
    let write = Mutex::new(write);
    write.lock().await.write_all(&opening).await.map_err(broken)?;
    let gone = |error| EndpointError::Stream(format!("the client went away: {error}"));
    for (at, channel) in (0..streams.len()).zip(0u8..) {
        let number = ports[at / 2].to_le_bytes();
        to.send(dialect.message(channel, &number)).await.map_err(gone)?;
    }
    let up = async {
        while let Some(Ok(message)) = from.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
            let mut frames = BytesMut::new();
            to_frames(&dialect.read(message).unwrap_or_default(), &streams, &mut frames);
            if !frames.is_empty() {
                write.lock().await.write_all(&frames).await.map_err(broken)?;
            }
        }
        Ok(())
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(spdy::DATA_BYTES_MAX);
        let mut open: Vec<(u32, u8)> = streams.iter().copied().zip(0u8..).collect();
        while !open.is_empty() {
            while let Some(frame) = spdy::decode(&mut buffer).map_err(odd)? {
                let ended = match frame {
                    Frame::Data { stream, payload, fin } => {
                        let channel = open.iter().find(|(id, _)| *id == stream).map(|(_, channel)| *channel);
                        if let Some(channel) = channel.filter(|_| !payload.is_empty()) {
                            to.send(dialect.message(channel, &payload)).await.map_err(gone)?;
                        }
                        fin.then_some(stream)
                    }
                    Frame::Reply { stream, fin } => fin.then_some(stream),
                    Frame::Reset { stream, .. } => Some(stream),
                    Frame::Ping { id } => {
                        let mut pong = BytesMut::new();
                        spdy::ping(id, &mut pong);
                        write.lock().await.write_all(&pong).await.map_err(broken)?;
                        None
                    }
                    Frame::GoAway => return Ok(()),
                    Frame::Other => None,
                };
                open.retain(|(id, _)| Some(*id) != ended);
            }
            if !open.is_empty() && read.read_buf(&mut buffer).await.map_err(broken)? == 0 {
                break;
            }
        }
        Ok(())
    };
    let result = tokio::select! {
        result = up => result,
        result = down => result,
    };
    // The client may have gone already.
    let _ = to.send(Message::Close(None)).await;
    let _ = write.lock().await.shutdown().await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::websocket;
    use std::time::Duration;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn only_data_of_known_ports_is_carried() {
        let streams = open(&[80, 81], &mut BytesMut::new()).expect("small");
        assert_eq!(streams, [3, 1, 7, 5], "data and error of each port");
        for (message, expected) in [
            (&b"\0hi"[..], Some((3, &b"hi"[..]))),
            (b"\x02x", Some((7, b"x"))),
            (b"\x01no", None),
            (b"\x04no", None),
            (b"\0", None),
            (b"", None),
        ] {
            let mut out = BytesMut::new();
            to_frames(message, &streams, &mut out);
            let frame = spdy::decode(&mut out).expect("valid");
            let found = frame.map(|frame| match frame {
                Frame::Data { stream, payload, fin } => {
                    assert!(!fin);
                    (stream, payload)
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(
                found.as_ref().map(|(stream, payload)| (*stream, &payload[..])),
                expected,
                "{message:?}"
            );
        }
    }

    /// The whole way over in-memory pipes: the ports' numbers, an answer, an error, the end.
    #[tokio::test]
    async fn ports_are_told_and_answers_come_back() {
        let (client_side, server_side) = tokio::io::duplex(64 * 1024);
        let (runtime_side, mut far) = tokio::io::duplex(64 * 1024);
        let dialect = Dialect::of(Some("v4.channel.k8s.io"));
        let server =
            tokio::spawn(async move { run(websocket(server_side).await, runtime_side, &[258], dialect).await });
        let runtime = tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            loop {
                match spdy::decode(&mut buffer).expect("valid") {
                    Some(Frame::Data { stream: 3, payload, .. }) => {
                        let mut out = BytesMut::new();
                        spdy::data(3, &payload.to_ascii_uppercase(), true, &mut out);
                        spdy::data(1, b"refused", true, &mut out);
                        return far.write_all(&out).await.expect("open");
                    }
                    Some(_) => {}
                    None => assert_ne!(far.read_buf(&mut buffer).await.expect("open"), 0),
                }
            }
        });
        let mut client = WebSocketStream::from_raw_socket(client_side, Role::Client, None).await;
        client.send(Message::binary(&b"\0hello"[..])).await.expect("open");
        let mut heard = Vec::new();
        let all = async {
            while let Some(Ok(Message::Binary(message))) = client.next().await {
                heard.push(message);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all)
            .await
            .expect("it ends");
        assert_eq!(heard, [&b"\0\x02\x01"[..], b"\x01\x02\x01", b"\0HELLO", b"\x01refused"]);
        runtime.await.expect("no panic");
        server.await.expect("no panic").expect("no error");
    }
}
