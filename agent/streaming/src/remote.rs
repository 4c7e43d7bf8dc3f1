//! exec and attach for WebSocket clients: Kubernetes' channel protocol on the
//! client's side, SPDY streams on the runtime's.
//!
//! ```text
//! client --WebSocket--> from_client --frames--> writer --SPDY--> runtime
//! client <-WebSocket--- to_client <------------ reader <-SPDY--- runtime
//! ```
//!
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 error (a `Status`), 4 resize; in v5
//! a message `255, n` ends channel n (KEP-4006).

use crate::dialect::Dialect;
use crate::error::EndpointError;
use crate::late::{self, Late};
use crate::runtime::Streams;
use crate::spdy::{self, Encoder, Frame};
use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A client's message; kubectl sends at most 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Frames waiting for the runtime: enough to keep it busy, few enough to push back.
const FRAMES_WAITING_MAX: usize = 16;

/// What is spoken with the runtime: errors come as a `Status`.
pub const SPDY_PROTOCOL: &str = "v4.channel.k8s.io";

/// Stream ids on the SPDY side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids {
    pub error: u32,
    pub stdin: Option<u32>,
    pub stdout: Option<u32>,
    pub stderr: Option<u32>,
    pub resize: Option<u32>,
}

/// A server-side WebSocket on an upgraded connection.
pub async fn websocket<T: AsyncRead + AsyncWrite + Unpin>(stream: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// How long a client may take to answer the end, or to read what came before it.
const LINGER: std::time::Duration = std::time::Duration::from_secs(10);

/// Carries everything until the runtime has said how it ended. `late`: what was
/// written before is delivered when nothing else was.
pub async fn run<C, R>(
    client: WebSocketStream<C>,
    runtime: R,
    streams: Streams,
    dialect: Dialect,
    late: Option<Late>,
) -> Result<(), EndpointError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, mut write) = tokio::io::split(runtime);
    let mut opening = BytesMut::new();
    let ids = open(streams, &mut opening).map_err(|error| EndpointError::Stream(error.to_string()))?;
    let (frames, mut waiting) = mpsc::channel::<Bytes>(FRAMES_WAITING_MAX);
    let writer = tokio::spawn(async move {
        if write.write_all(&opening).await.is_err() {
            return;
        }
        while let Some(frame) = waiting.recv().await {
            if write.write_all(&frame).await.is_err() {
                return;
            }
        }
        // Nobody waits for the goodbye.
        let _ = write.shutdown().await;
    });
    let (mut to, from) = client.split();
    let mut reading = tokio::spawn(from_client(from, frames.clone(), ids, dialect));
    let result = to_client(read, &mut Client { sink: &mut to, dialect }, frames, ids, late).await;
    let close = match &result {
        Ok(()) => CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        },
        Err(error) => CloseFrame {
            code: CloseCode::Error,
            reason: error.to_string().chars().take(100).collect::<String>().into(),
        },
    };
    // The client may have gone already.
    let _ = to.send(Message::Close(Some(close))).await;
    let _ = to.close().await;
    // A connection that is dropped with something unread is reset, and what is still on its
    // way to the client is lost: the client has the last word.
    let _ = tokio::time::timeout(LINGER, &mut reading).await;
    reading.abort();
    writer.abort();
    result
}

/// The ids that a client's streams get: clients open them in this order.
pub fn ids(streams: Streams) -> Ids {
    open(streams, &mut BytesMut::new()).unwrap_or_default()
}

/// Opens the streams in the order in which clients do.
fn open(streams: Streams, out: &mut BytesMut) -> Result<Ids, spdy::SpdyError> {
    let mut encoder = Encoder::default();
    let mut make = |kind: &str, wanted: bool| {
        if !wanted {
            return Ok(None);
        }
        encoder.open(&[("streamtype", kind)], out).map(Some)
    };
    Ok(Ids {
        error: make("error", true)?.unwrap_or_default(),
        stdin: make("stdin", streams.stdin)?,
        stdout: make("stdout", streams.stdout)?,
        stderr: make("stderr", streams.stderr && !streams.tty)?,
        resize: make("resize", streams.tty)?,
    })
}

async fn from_client<S>(mut client: S, frames: mpsc::Sender<Bytes>, ids: Ids, dialect: Dialect)
where
    S: Stream<Item = Result<Message, WsError>> + Unpin,
{
    while let Some(Ok(message)) = client.next().await {
        if matches!(message, Message::Close(_)) {
            break;
        }
        let Some(payload) = dialect.read(message) else { continue };
        for frame in to_frames(&payload, ids) {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    }
    // A client that went away will send nothing more.
    if let Some(stdin) = ids.stdin {
        let mut end = BytesMut::new();
        spdy::data(stdin, &[], true, &mut end);
        let _ = frames.send(end.freeze()).await;
    }
}

/// One message of the client as frames for the runtime. Pure.
fn to_frames(message: &[u8], ids: Ids) -> Vec<Bytes> {
    let Some((channel, payload)) = message.split_first() else {
        return Vec::new();
    };
    let (stream, payload, fin) = match (*channel, payload) {
        (STDIN, payload) => (ids.stdin, payload, false),
        (RESIZE, payload) => (ids.resize, payload, false),
        (CLOSE, [STDIN]) => (ids.stdin, &[][..], true),
        _ => (None, payload, false),
    };
    let Some(stream) = stream else { return Vec::new() };
    if payload.is_empty() && !fin {
        return Vec::new();
    }
    let one = |part: &[u8], fin: bool| {
        let mut frame = BytesMut::with_capacity(part.len() + 8);
        spdy::data(stream, part, fin, &mut frame);
        frame.freeze()
    };
    if fin {
        vec![one(&[], true)]
    } else {
        payload
            .chunks(spdy::DATA_BYTES_MAX)
            .map(|part| one(part, false))
            .collect()
    }
}

/// Until every output and the error stream have ended.
async fn to_client<R, S>(
    runtime: R,
    client: &mut Client<'_, S>,
    frames: mpsc::Sender<Bytes>,
    ids: Ids,
    late: Option<Late>,
) -> Result<(), EndpointError>
where
    R: AsyncRead + Unpin,
    S: Sink<Message, Error = WsError> + Unpin,
{
    let dialect = client.dialect;
    if late.is_none() && dialect.tells_status() {
        return forward(runtime, client, frames, ids, None).await;
    }
    let mut said = Held::default();
    match forward(runtime, client, frames, ids, Some(&mut said)).await {
        // A runtime that closes with something unread resets the connection.
        Ok(()) | Err(EndpointError::Io { .. }) => {}
        Err(error) => return Err(error),
    }
    if let Some(late) = late
        && !said.delivered
        && late::went_well(&said.last_word)
    {
        for piece in late.missed().await {
            let channel = if piece.stderr { STDERR } else { STDOUT };
            for part in piece.bytes.chunks(spdy::DATA_BYTES_MAX) {
                send(client, channel, part).await?;
            }
        }
    }
    let last_word = dialect.last_word(said.last_word);
    if !last_word.is_empty() {
        send(client, ERROR, &last_word).await?;
    }
    Ok(())
}

/// Of an attach that may have come late, or a client that is told only of failures: the
/// runtime's last word waits.
#[derive(Debug, Default)]
struct Held {
    delivered: bool,
    last_word: Vec<u8>,
}

async fn forward<R, S>(
    mut runtime: R,
    client: &mut Client<'_, S>,
    frames: mpsc::Sender<Bytes>,
    ids: Ids,
    mut held: Option<&mut Held>,
) -> Result<(), EndpointError>
where
    R: AsyncRead + Unpin,
    S: Sink<Message, Error = WsError> + Unpin,
{
    let mut open: Vec<(u32, u8)> = [(Some(ids.error), ERROR), (ids.stdout, STDOUT), (ids.stderr, STDERR)]
        .into_iter()
        .filter_map(|(stream, channel)| Some((stream?, channel)))
        .collect();
    let mut buffer = BytesMut::with_capacity(spdy::DATA_BYTES_MAX);
    while !open.is_empty() {
        while let Some(frame) = spdy::decode(&mut buffer).map_err(|error| EndpointError::Stream(error.to_string()))? {
            let ended = match frame {
                Frame::Data { stream, payload, fin } => {
                    let channel = open.iter().find(|(id, _)| *id == stream).map(|(_, channel)| *channel);
                    match (channel, &mut held) {
                        (Some(ERROR), Some(held)) => held.last_word.extend_from_slice(&payload),
                        (Some(channel), held) if !payload.is_empty() => {
                            send(client, channel, &payload).await?;
                            if let Some(held) = held {
                                held.delivered = true;
                            }
                        }
                        _ => {}
                    }
                    fin.then_some(stream)
                }
                Frame::Reply { stream, fin } => fin.then_some(stream),
                Frame::Reset { stream, .. } => Some(stream),
                Frame::Ping { id } => {
                    let mut pong = BytesMut::new();
                    spdy::ping(id, &mut pong);
                    let _ = frames.send(pong.freeze()).await;
                    None
                }
                Frame::GoAway => return Ok(()),
                Frame::Other => None,
            };
            if let Some(stream) = ended {
                open.retain(|(id, _)| *id != stream);
            }
        }
        if open.is_empty() {
            break;
        }
        let count = runtime
            .read_buf(&mut buffer)
            .await
            .map_err(|source| EndpointError::Io {
                action: "reading the container runtime's streams",
                source,
            })?;
        if count == 0 {
            // Closed after everything was said, as some runtimes do.
            return Ok(());
        }
    }
    Ok(())
}

/// The client's side, and how it is spoken to.
struct Client<'a, S> {
    sink: &'a mut S,
    dialect: Dialect,
}

async fn send<S>(client: &mut Client<'_, S>, channel: u8, payload: &[u8]) -> Result<(), EndpointError>
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    client
        .sink
        .send(client.dialect.message(channel, payload))
        .await
        .map_err(|error| EndpointError::Stream(format!("the client went away: {error}")))
}

#[cfg(test)]
#[path = "remote_test.rs"]
mod tests;
