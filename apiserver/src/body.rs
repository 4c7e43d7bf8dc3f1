//! The body of every response: nothing, bytes at hand, or a stream (watches,
//! proxied answers). One concrete type, so that hyper and the in-process
//! client use the same handler without boxing whole bodies.

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

enum Inner {
    Full(Option<Bytes>),
    Parts(std::collections::VecDeque<Bytes>),
    Made {
        pieces: Box<dyn Iterator<Item = Bytes> + Send>,
        /// Bytes still to come, where that is known.
        left: Option<u64>,
    },
    Stream(ByteStream),
}

/// A response body.
pub struct ApiBody(Inner);

impl ApiBody {
    pub fn empty() -> Self {
        Self(Inner::Full(None))
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Inner::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// Several pieces, sent as they are (a long list is never joined).
    pub fn parts(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self(Inner::Parts(parts.into_iter().filter(|p| !p.is_empty()).collect()))
    }

    /// Pieces that are made when they are to be sent, and the length of all of them if it is known.
    pub fn made(pieces: impl Iterator<Item = Bytes> + Send + 'static, length: Option<u64>) -> Self {
        Self(Inner::Made {
            pieces: Box::new(pieces),
            left: length,
        })
    }

    /// JSON at hand, indented for people; streams and what is not JSON as they are.
    pub(crate) fn pretty(mut self) -> Self {
        if let Inner::Made { pieces, .. } = self.0 {
            self = Self::parts(pieces);
        }
        let bytes = match &self.0 {
            Inner::Full(Some(bytes)) => bytes.clone(),
            Inner::Parts(parts) => parts
                .iter()
                .fold(Vec::new(), |mut all, part| {
                    all.extend_from_slice(part);
                    all
                })
                .into(),
            Inner::Full(None) | Inner::Made { .. } | Inner::Stream(_) => return self,
        };
        let value: serde_json::Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(_) => return self,
        };
        match serde_json::to_vec_pretty(&value) {
            Ok(text) => Self::full(text),
            Err(_) => self,
        }
    }

    pub fn stream(stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(stream)))
    }
}

impl std::fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Full(_) => "ApiBody::Full",
            Inner::Parts(_) => "ApiBody::Parts",
            Inner::Made { .. } => "ApiBody::Made",
            Inner::Stream(_) => "ApiBody::Stream",
        })
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Inner::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Inner::Parts(parts) => Poll::Ready(parts.pop_front().map(|b| Ok(Frame::data(b)))),
            Inner::Made { pieces, left } => {
                let piece = pieces.next();
                let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
                *left = left.map(|left| left.saturating_sub(length));
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Inner::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|item| item.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(bytes) => bytes.is_none(),
            Inner::Parts(parts) => parts.is_empty(),
            Inner::Made { left, .. } => *left == Some(0),
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Inner::Parts(parts) => SizeHint::with_exact(parts.iter().map(|p| p.len() as u64).sum()),
            Inner::Made { left: Some(left), .. } => SizeHint::with_exact(*left),
            Inner::Made { left: None, .. } | Inner::Stream(_) => SizeHint::default(),
        }
    }
}
