//! The body of a list whose objects, or their metadata, are answered as they are stored: made piece
//! by piece while it is sent, so that a list of any length costs the server one piece
//! and the pointers to its entries. Its length is known beforehand.

use crate::fast::metadata_json;
use crate::registry::{list_item, list_item_length};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use skiff_store::Entry;
use std::io::Write;

/// Bytes handed on at once: enough to spare system calls, little enough that a
/// thousand lists under way fit into memory.
const PIECE_BYTES: usize = 64 * 1024;
/// What ends a list.
const END: &[u8] = b"]}\n";

/// The pieces of one list, made when they are asked for.
pub(crate) struct Listing {
    /// `{"kind":...,"items":[`
    head: Vec<u8>,
    entries: std::vec::IntoIter<Entry>,
    length: Option<u64>,
    /// The version of `meta.k8s.io` where only metadata is shown.
    metadata: Option<&'static str>,
    begun: bool,
    ended: bool,
}

impl Listing {
    /// The entries must be in the form that is asked for.
    pub fn new(head: Vec<u8>, entries: Vec<Entry>) -> Self {
        let commas = entries.len().saturating_sub(1);
        let items: usize = entries.iter().map(list_item_length).sum();
        Self {
            length: Some((head.len() + commas + items + END.len()) as u64),
            metadata: None,
            head,
            entries: entries.into_iter(),
            begun: false,
            ended: false,
        }
    }

    /// Each entry's metadata alone. Measuring them would be reading them twice.
    pub fn of_metadata(head: Vec<u8>, meta_version: &'static str, entries: Vec<Entry>) -> Self {
        Self {
            length: None,
            metadata: Some(meta_version),
            head,
            entries: entries.into_iter(),
            begun: false,
            ended: false,
        }
    }

    /// Bytes of all pieces together, where that is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The same, compressed.
    pub fn gzipped(self) -> Gzipped {
        Gzipped {
            plain: self,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl Iterator for Listing {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        // The last item may reach beyond the piece by its own length.
        let mut out = std::mem::take(&mut self.head);
        out.reserve(PIECE_BYTES + 4096);
        while out.len() < PIECE_BYTES {
            let Some(entry) = self.entries.next() else {
                out.extend_from_slice(END);
                self.ended = true;
                break;
            };
            if std::mem::replace(&mut self.begun, true) {
                out.push(b',');
            }
            match self.metadata {
                Some(version) => metadata_json(&mut out, version, &entry, entry.mod_revision()),
                None => list_item(&mut out, &entry),
            }
        }
        Some(Bytes::from(out))
    }
}

/// A compressed list. Writing to memory does not fail.
pub(crate) struct Gzipped {
    plain: Listing,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Gzipped {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut encoder = self.encoder.take()?;
        while encoder.get_ref().len() < PIECE_BYTES {
            match self.plain.next() {
                Some(piece) => encoder.write_all(&piece).ok()?,
                None => return encoder.finish().ok().map(Bytes::from),
            }
        }
        let made = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Some(Bytes::from(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::encode;
    use serde_json::{Value, json};
    use skiff_store::Numbers;
    use std::io::Read;

    fn entries(count: u64) -> Vec<Entry> {
        let kind = skiff_kinds::find_kind("", "ConfigMap").unwrap();
        (1..=count)
            .map(|at| {
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{at}")},
                    "data": {"value": "x".repeat(at as usize % 3_000)}});
                let numbers = Numbers {
                    create_revision: at,
                    mod_revision: at,
                    version: 1,
                    lease: 0,
                };
                Entry::new(format!("k{at}").as_bytes(), &encode(kind, &object).unwrap(), numbers)
            })
            .collect()
    }

    fn head() -> Vec<u8> {
        br#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":["#.to_vec()
    }

    #[test]
    fn pieces_are_the_list_and_as_long_as_said() {
        for count in [0, 1, 2, 500] {
            let listing = Listing::new(head(), entries(count));
            let length = listing.length().unwrap();
            let pieces: Vec<Bytes> = listing.collect();
            assert!(pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 8_192), "{count}");
            let all = pieces.concat();
            assert_eq!(all.len() as u64, length, "{count}");
            let list: Value = serde_json::from_slice(&all).unwrap();
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len() as u64, count);
            let named = |at: u64| items[at as usize]["metadata"].clone();
            if count > 0 {
                assert_eq!(
                    named(count - 1),
                    json!({"name": format!("m{count}"), "resourceVersion": count.to_string()})
                );
            }
        }
    }

    #[test]
    fn compressed_pieces_are_the_same_list() {
        let plain = Listing::new(head(), entries(700)).collect::<Vec<_>>().concat();
        let packed = Listing::new(head(), entries(700))
            .gzipped()
            .collect::<Vec<_>>()
            .concat();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
    }
}
