//! Bytes both ways, not understood: SPDY clients straight to the runtime, and
//! port-forward clients whose SPDY travels inside WebSocket messages.

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

/// Until both sides have ended; a half-closed side stays half-closed.
pub async fn bytes<A, B>(mut one: A, mut other: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER_BYTES, BUFFER_BYTES).await
    {
        tracing::debug!(%error, "a stream broke off");
    }
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
