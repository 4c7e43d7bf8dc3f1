//! Bytes both ways, not understood: SPDY clients straight to the runtime, and
//! port-forward clients whose SPDY travels inside WebSocket messages.

use crate::late::{self, Late};
use crate::remote::Ids;
use crate::spdy::{self, Frame, SpdyError};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Subprotocol of port-forward over WebSocket (KEP-4006): SPDY bytes in messages.
pub const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What is spoken inside it, and with the runtime.
pub const PORT_FORWARD: &str = "portforward.k8s.io";

/// Copied at once: a TCP window's worth.
const BUFFER_BYTES: usize = 64 * 1024;

/// Until both sides have ended; a half-closed side stays half-closed. A side that takes
/// nothing more may still have much to say: that is carried to its end.
pub async fn bytes<A, B>(one: A, other: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_one, to_one) = tokio::io::split(one);
    let (from_other, to_other) = tokio::io::split(other);
    tokio::join!(carry(from_one, to_other), carry(from_other, to_one));
}

async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(from: R, mut to: W) {
    let mut from = tokio::io::BufReader::with_capacity(BUFFER_BYTES, from);
    if let Err(error) = tokio::io::copy_buf(&mut from, &mut to).await {
        tracing::debug!(%error, "a stream broke off");
    }
    let _ = to.shutdown().await;
}

/// [`bytes`] for an attach that may have come late: as long as no output has been
/// seen, what ends the streams waits, and the log goes before it.
pub async fn attach<A, B>(client: A, runtime: B, ids: Ids, late: Late)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_runtime, mut to_runtime) = tokio::io::split(runtime);
    let up = async {
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        loop {
            match from_client.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) if to_runtime.write_all_buf(&mut buffer).await.is_ok() => {}
                // The runtime has closed its side; what it said is still to be read.
                Ok(_) => break,
                Err(_) => return,
            }
        }
        let _ = to_runtime.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let done = silent(&mut from_runtime, &mut to_client, ids, late).await;
        if done.is_ok_and(|delivered| delivered) {
            let _ = tokio::io::copy(&mut from_runtime, &mut to_client).await;
        }
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Until the first output (true) or the end (false).
async fn silent<R, W>(runtime: &mut R, client: &mut W, ids: Ids, late: Late) -> Result<bool, std::io::Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let odd = |error: SpdyError| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    let (mut held, mut last_word) = (Vec::<Bytes>::new(), Vec::new());
    // A runtime that closes with something unread resets the connection.
    while runtime.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        while let Some(raw) = spdy::split(&mut buffer).map_err(odd)? {
            match spdy::decode(&mut BytesMut::from(&raw[..])).map_err(odd)? {
                Some(Frame::Data { stream, payload, .. }) if stream == ids.error => {
                    last_word.extend_from_slice(&payload);
                    held.push(raw);
                }
                Some(Frame::Data { payload, .. }) if !payload.is_empty() => {
                    for frame in held {
                        client.write_all(&frame).await?;
                    }
                    client.write_all(&raw).await?;
                    client.write_all(&buffer).await?;
                    return Ok(true);
                }
                Some(Frame::Data { .. } | Frame::Reset { .. } | Frame::GoAway) => held.push(raw),
                _ => client.write_all(&raw).await?,
            }
        }
    }
    if late::went_well(&last_word) {
        for piece in late.missed().await {
            let stream = if piece.stderr { ids.stderr } else { ids.stdout };
            for part in stream.iter().flat_map(|_| piece.bytes.chunks(spdy::DATA_BYTES_MAX)) {
                let mut frame = BytesMut::with_capacity(part.len() + 8);
                spdy::data(stream.unwrap_or_default(), part, false, &mut frame);
                client.write_all(&frame).await?;
            }
        }
    }
    for frame in held {
        client.write_all(&frame).await?;
    }
    client.flush().await?;
    Ok(false)
}

/// SPDY in WebSocket messages on one side, plain on the other.
pub async fn messages<C, R>(client: WebSocketStream<C>, runtime: R)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(runtime);
    let (mut to, mut from) = client.split();
    let up = async {
        while let Some(Ok(message)) = from.next().await {
            let payload: Bytes = match message {
                Message::Binary(payload) => payload,
                Message::Close(_) => break,
                _ => continue,
            };
            if write.write_all(&payload).await.is_err() {
                break;
            }
        }
        // The client is gone: so is what it forwarded.
        let _ = write.shutdown().await;
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        while read.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
            if to.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
        }
        let _ = to.close().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
