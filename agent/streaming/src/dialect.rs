//! How the messages of a WebSocket carry channels: Kubernetes' subprotocols. Pure.
//!
//! | subprotocol | messages | how a command ended |
//! |---|---|---|
//! | `v5.`, `v4.channel.k8s.io` | binary: a byte of channel, then data | a `Status` |
//! | `v4.base64.channel.k8s.io` | text: a digit of channel, then base64 | a `Status` |
//! | `channel.k8s.io`, none | binary | nothing, or the failure's message |
//! | `base64.channel.k8s.io` | text | nothing, or the failure's message |

use crate::late;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

/// Subprotocols with channels, best first.
pub const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    base64: bool,
    /// The end is told as a `Status` object.
    status: bool,
}

impl Dialect {
    /// `None`: the client has offered no subprotocol.
    pub fn of(protocol: Option<&str>) -> Self {
        let name = protocol.unwrap_or_default();
        Self {
            base64: name.contains("base64."),
            status: name.starts_with("v4.") || name.starts_with("v5."),
        }
    }

    /// Whether what is said about the end goes to the client as the runtime says it.
    pub fn tells_status(self) -> bool {
        self.status
    }

    pub fn message(self, channel: u8, payload: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(payload.len() * 4 / 3 + 5);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(payload, &mut text);
            return Message::text(text);
        }
        let mut message = BytesMut::with_capacity(payload.len() + 1);
        message.put_u8(channel);
        message.put_slice(payload);
        Message::Binary(message.freeze())
    }

    /// Channel and data of a client's message, as one piece. `None`: it carries nothing.
    pub fn read(self, message: Message) -> Option<Bytes> {
        let plain = match message {
            Message::Binary(payload) => payload,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return None,
        };
        if !self.base64 {
            return Some(plain);
        }
        let (channel, data) = plain.split_first()?;
        let mut read = vec![channel.checked_sub(b'0')?];
        STANDARD.decode_vec(data, &mut read).ok()?;
        Some(read.into())
    }

    /// What the client hears about the end where the runtime has said this.
    pub fn last_word(self, said: Vec<u8>) -> Vec<u8> {
        if self.status {
            return said;
        }
        if late::went_well(&said) {
            return Vec::new();
        }
        let status: Option<serde_json::Value> = serde_json::from_slice(&said).ok();
        let message = status.and_then(|status| Some(status["message"].as_str()?.as_bytes().to_vec()));
        message.unwrap_or(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_every_subprotocol() {
        for (protocol, message) in [
            (Some("v5.channel.k8s.io"), Message::binary(&b"\x01out"[..])),
            (Some("v4.channel.k8s.io"), Message::binary(&b"\x01out"[..])),
            (Some("channel.k8s.io"), Message::binary(&b"\x01out"[..])),
            (None, Message::binary(&b"\x01out"[..])),
            (Some("base64.channel.k8s.io"), Message::text("1b3V0")),
            (Some("v4.base64.channel.k8s.io"), Message::text("1b3V0")),
        ] {
            let dialect = Dialect::of(protocol);
            assert_eq!(dialect.message(1, b"out"), message, "{protocol:?}");
            assert_eq!(dialect.read(message).as_deref(), Some(&b"\x01out"[..]), "{protocol:?}");
        }
        let packed = Dialect::of(Some("base64.channel.k8s.io"));
        for nothing in ["", "0!", " b3V0"] {
            assert_eq!(packed.read(Message::text(nothing)), None, "{nothing:?}");
        }
        assert_eq!(packed.read(Message::text("0")).as_deref(), Some(&b"\0"[..]));
    }

    #[test]
    fn the_end_in_every_subprotocol() {
        const WELL: &str = r#"{"metadata":{},"status":"Success"}"#;
        const ILL: &str = r#"{"status":"Failure","message":"command terminated with non-zero exit code"}"#;
        for (protocol, said, heard) in [
            (Some("v5.channel.k8s.io"), WELL, WELL),
            (Some("v4.base64.channel.k8s.io"), ILL, ILL),
            (Some("channel.k8s.io"), WELL, ""),
            (
                Some("channel.k8s.io"),
                ILL,
                "command terminated with non-zero exit code",
            ),
            (None, "no status", "no status"),
        ] {
            let word = Dialect::of(protocol).last_word(said.as_bytes().to_vec());
            assert_eq!(String::from_utf8_lossy(&word), heard, "{protocol:?} {said}");
        }
    }
}
