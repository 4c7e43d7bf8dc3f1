//! Answers made of stored bytes without a tree: protobuf, and metadata alone. What
//! Go's informers ask for by the thousand.

use crate::registry::{metadata_spliced, spliced};
use crate::request::Encoding;
use bytes::Bytes;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_api::codec as wire;
use skiff_api::schema::{self, Type};
use skiff_store::{Entry, Revision};

/// Size of the pieces that a long list is sent in.
const PIECE_BYTES: usize = 256 * 1024;

/// What is shown of each object.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// All of it; its type in the version that is stored and asked for.
    Object(&'a Type),
    /// The metadata; as a type of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

impl Shown<'_> {
    /// The entry's message, without an envelope. `scratch` is only reused memory.
    fn message(
        self,
        entry: &Entry,
        revision: Revision,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        scratch.clear();
        let ty = match self {
            Self::Object(ty) => {
                spliced(scratch, entry, revision);
                ty
            }
            Self::Metadata(_) => {
                scratch.extend_from_slice(b"{\"metadata\":");
                metadata_spliced(scratch, entry, revision);
                scratch.push(b'}');
                partial_type()?
            }
        };
        wire::transcode_proto(ty, scratch, out).map_err(ApiError::internal)
    }

    /// One object in its protobuf envelope.
    pub fn protobuf(self, api_version: &str, kind: &str, entry: &Entry, revision: Revision) -> Result<Bytes, ApiError> {
        let mut body = Vec::with_capacity(entry.body().len());
        self.message(entry, revision, &mut Vec::new(), &mut body)?;
        Ok(wire::seal_envelope(api_version, kind, &body).into())
    }

    /// A list in its protobuf envelope, in pieces: their lengths stand in front of them.
    pub fn protobuf_list(
        self,
        api_version: &str,
        kind: &str,
        metadata: &Value,
        entries: &[Entry],
    ) -> Result<Vec<Bytes>, ApiError> {
        let (mut pieces, mut out) = (Vec::new(), Vec::with_capacity(PIECE_BYTES));
        let (mut scratch, mut item) = (Vec::new(), Vec::new());
        for entry in entries {
            item.clear();
            self.message(entry, entry.mod_revision(), &mut scratch, &mut item)?;
            wire::put_list_item(&mut out, &item);
            if out.len() >= PIECE_BYTES {
                pieces.push(Bytes::from(std::mem::replace(
                    &mut out,
                    Vec::with_capacity(PIECE_BYTES + 4096),
                )));
            }
        }
        pieces.push(Bytes::from(out));
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let (head, tail) = wire::list_envelope(api_version, kind, metadata, length).map_err(ApiError::internal)?;
        pieces.insert(0, Bytes::from(head));
        pieces.push(Bytes::from(tail));
        Ok(pieces)
    }
}

/// One object's metadata as a JSON object of its own.
pub(crate) fn metadata_json(out: &mut Vec<u8>, meta_version: &str, entry: &Entry, revision: Revision) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.extend_from_slice(meta_version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    metadata_spliced(out, entry, revision);
    out.push(b'}');
}

/// Whether this encoding of metadata is made here.
pub(crate) fn makes(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Json | Encoding::Protobuf)
}

fn partial_type() -> Result<&'static Type, ApiError> {
    schema::lookup(&format!("{}.PartialObjectMetadata", schema::META_V1))
        .ok_or_else(|| ApiError::internal("no description of the type PartialObjectMetadata"))
}
