//! The protobuf wire format: varints, tags, length-delimited fields. Knows no types.

use super::CodecError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// `k8s` and a zero byte: the prefix of every protobuf object.
pub const MAGIC: [u8; 4] = [b'k', b'8', b's', 0];

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u8, kind: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(kind));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Negative numbers are ten bytes long, as proto2's int32 and int64 are.
pub(crate) fn put_int(out: &mut Vec<u8>, number: u8, n: i64) {
    put_tag(out, number, VARINT);
    put_varint(out, n as u64);
}

/// A nested message: `body` writes it, its length goes in front afterwards.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, BYTES);
    let start = out.len();
    out.push(0);
    body(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
    Ok(())
}

/// One field as it stands on the wire.
pub(crate) enum Payload<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub fn bytes(&self) -> Result<&'a [u8], CodecError> {
        match self {
            Payload::Bytes(bytes) => Ok(bytes),
            Payload::Number(_) => Err(CodecError::Proto("wrong wireType")),
        }
    }

    pub fn number(&self) -> Result<u64, CodecError> {
        match self {
            Payload::Number(n) => Ok(*n),
            Payload::Bytes(_) => Err(CodecError::Proto("wrong wireType")),
        }
    }

    pub fn text(&self) -> Result<String, CodecError> {
        // Go accepts any bytes in a string and JSON replaces what is not UTF-8.
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, CodecError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(CodecError::Proto("unexpected EOF"))?;
            self.rest = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(CodecError::Proto("integer overflow"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(length).map_err(|_| CodecError::Proto("invalid length"))?;
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(CodecError::Proto("unexpected EOF"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field's number and payload; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, CodecError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(CodecError::Proto("illegal tag 0"));
        }
        let payload = match (tag & 7) as u8 {
            VARINT => Payload::Number(self.varint()?),
            BYTES => {
                let length = self.varint()?;
                Payload::Bytes(self.take(length)?)
            }
            FIXED64 => Payload::Number(self.take(8)?.try_into().map(u64::from_le_bytes).unwrap_or_default()),
            FIXED32 => Payload::Number(
                self.take(4)?
                    .try_into()
                    .map(u32::from_le_bytes)
                    .unwrap_or_default()
                    .into(),
            ),
            _ => return Err(CodecError::Proto("illegal wireType")),
        };
        Ok(Some((number, payload)))
    }
}
