//! The part of SPDY/3.1 that a client of a container runtime's streaming server
//! needs: open streams, send and receive data, end a stream. Pure: bytes in,
//! frames out. Header blocks that are received are skipped, since nothing in
//! them is needed. Format: SPDY Protocol, Draft 3.1, section 2.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};

const FLAG_FIN: u8 = 1;
const VERSION: u16 = 0x8003;
/// Frames carry 24-bit lengths; nobody sends such a control frame.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Payload of one data frame sent; as large as a pipe.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        payload: Bytes,
        fin: bool,
    },
    /// The peer accepted the stream; with `fin` it will send nothing on it.
    Reply {
        stream: u32,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Anything else: nothing to do.
    Other,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpdyError {
    #[error("a control frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("a control frame is of version {0:#x}, not SPDY/3")]
    Version(u16),
    #[error("a control frame of type {0} is too short")]
    Short(u16),
    #[error("a header block could not be compressed")]
    Compression,
}

/// Writes frames. One per connection: header blocks share a compressor.
pub struct Encoder {
    compressor: Compress,
    next_stream: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        // A client's streams are odd.
        Self {
            compressor: Compress::new(Compression::fast(), true),
            next_stream: 1,
        }
    }
}

impl Encoder {
    /// SYN_STREAM with these headers (names in lower case); gives the stream's id.
    pub fn open(&mut self, headers: &[(&str, &str)], out: &mut BytesMut) -> Result<u32, SpdyError> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut plain = BytesMut::new();
        let count = |length: usize| u32::try_from(length).map_err(|_| SpdyError::TooLarge(length));
        plain.put_u32(count(headers.len())?);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(count(text.len())?);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        self.compressor
            .compress_vec(&plain, &mut block, FlushCompress::Sync)
            .map_err(|_| SpdyError::Compression)?;
        // stream, associated stream, priority and slot, then the headers
        let length = 10 + block.len();
        out.put_u16(VERSION);
        out.put_u16(1);
        out.put_u32(count(length)?);
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        Ok(stream)
    }
}

/// DATA; `payload` at most [`DATA_BYTES_MAX`].
pub fn data(stream: u32, payload: &[u8], fin: bool, out: &mut BytesMut) {
    let length = u32::try_from(payload.len().min(DATA_BYTES_MAX)).expect("64 KiB fit 24 bits");
    out.put_u32(stream & 0x7fff_ffff);
    out.put_u32(u32::from(if fin { FLAG_FIN } else { 0 }) << 24 | length);
    out.put_slice(&payload[..length as usize]);
}

pub fn ping(id: u32, out: &mut BytesMut) {
    out.put_u16(VERSION);
    out.put_u16(6);
    out.put_u32(4);
    out.put_u32(id);
}

/// Takes one whole frame, not looked into, from the front of `buffer`.
pub fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>, SpdyError> {
    let Some(head) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let length = (u32::from_be_bytes([head[4], head[5], head[6], head[7]]) & 0x00ff_ffff) as usize;
    if head[0] & 0x80 != 0 && length > CONTROL_BYTES_MAX {
        return Err(SpdyError::TooLarge(length));
    }
    Ok((buffer.len() >= 8 + length).then(|| buffer.split_to(8 + length).freeze()))
}

/// Takes one whole frame from the front of `buffer`; `None`: more bytes needed.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
    let Some(head) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let word = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let fin = (word >> 24) as u8 & FLAG_FIN != 0;
    let length = (word & 0x00ff_ffff) as usize;
    let control = head[0] & 0x80 != 0;
    let (first, second) = (
        u16::from_be_bytes([head[0], head[1]]),
        u16::from_be_bytes([head[2], head[3]]),
    );
    if control && length > CONTROL_BYTES_MAX {
        return Err(SpdyError::TooLarge(length));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    buffer.advance(8);
    let mut payload = buffer.split_to(length).freeze();
    if !control {
        return Ok(Some(Frame::Data { stream, payload, fin }));
    }
    if first != VERSION {
        return Err(SpdyError::Version(first));
    }
    let need = |bytes: usize| {
        if payload.len() < bytes {
            Err(SpdyError::Short(second))
        } else {
            Ok(())
        }
    };
    Ok(Some(match second {
        2 => {
            need(4)?;
            Frame::Reply {
                stream: payload.get_u32() & 0x7fff_ffff,
                fin,
            }
        }
        3 => {
            need(8)?;
            Frame::Reset {
                stream: payload.get_u32() & 0x7fff_ffff,
                status: payload.get_u32(),
            }
        }
        6 => {
            need(4)?;
            Frame::Ping { id: payload.get_u32() }
        }
        7 => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    #[test]
    fn streams_are_opened_with_readable_headers() {
        let mut encoder = Encoder::default();
        let mut inflate = Decompress::new(true);
        for (expected, kind) in [(1u32, "error"), (3, "stdin"), (5, "stdout")] {
            let mut out = BytesMut::new();
            assert_eq!(encoder.open(&[("streamtype", kind)], &mut out), Ok(expected));
            assert_eq!(&out[..4], [0x80, 3, 0, 1]);
            assert_eq!(out[8..12], expected.to_be_bytes());
            let mut plain = Vec::with_capacity(256);
            inflate
                .decompress_vec(&out[18..], &mut plain, FlushDecompress::Sync)
                .expect("a continued zlib stream");
            let mut text = vec![0, 0, 0, 1, 0, 0, 0, 10];
            text.extend_from_slice(b"streamtype");
            text.extend_from_slice(&(kind.len() as u32).to_be_bytes());
            text.extend_from_slice(kind.as_bytes());
            assert_eq!(plain, text);
        }
    }

    #[test]
    fn control_frames_are_understood() {
        for (bytes, expected) in [
            (
                vec![0x80, 3, 0, 2, 1, 0, 0, 4, 0, 0, 0, 5],
                Frame::Reply { stream: 5, fin: true },
            ),
            (
                vec![0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 3],
                Frame::Reset { stream: 5, status: 3 },
            ),
            (vec![0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2], Frame::Ping { id: 2 }),
            (vec![0x80, 3, 0, 9, 0, 0, 0, 0], Frame::Other),
        ] {
            assert_eq!(decode(&mut BytesMut::from(&bytes[..])), Ok(Some(expected)));
        }
        assert_eq!(
            decode(&mut BytesMut::from(&[0x80, 3, 0, 2, 0, 0, 0, 0][..])),
            Err(SpdyError::Short(2))
        );
        assert_eq!(
            decode(&mut BytesMut::from(&[0x80, 2, 0, 2, 0, 0, 0, 0][..])),
            Err(SpdyError::Version(0x8002))
        );
        assert_eq!(
            decode(&mut BytesMut::from(&[0x80, 3, 0, 2, 0, 0xff, 0, 0][..])),
            Err(SpdyError::TooLarge(0xff_0000))
        );
    }

    proptest! {
        #[test]
        fn data_survives_any_split(payloads in prop::collection::vec((0u32..9, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..8), cut in 1usize..50) {
            let mut wire = BytesMut::new();
            for (stream, payload, fin) in &payloads {
                data(*stream, payload, *fin, &mut wire);
            }
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(Frame::Data { stream, payload, fin }) = decode(&mut buffer).expect("valid") {
                    got.push((stream, payload.to_vec(), fin));
                }
            }
            prop_assert_eq!(got, payloads);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
