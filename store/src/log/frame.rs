//! How records lie in a segment of the log, and what a damaged one means. Pure.
//!
//! ```text
//! segment: magic 8 | version u32 | sequence u64 | reserved u64 | crc32c u32      little-endian
//! record:  length u32 | crc32c u32 | synced u32 | kind u8 | payload
//! ```
//!
//! `synced` is the offset up to which this file was known to be on stable storage when
//! the record was written. It tells a torn write from rot: what a power loss leaves
//! behind lies, in whatever order its blocks came down, behind the last sync, so no
//! intact record claims that it was synced. If one does, data that was acknowledged is
//! gone, and the log must not be cut there.

use std::ops::Range;

pub const MAGIC: [u8; 8] = *b"skifflog";
pub const VERSION: u32 = 1;
pub const SEGMENT_HEADER: usize = 32;
pub const RECORD_HEADER: usize = 13;

/// A record longer than this is damage. Above the largest transaction with its framing.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Entry = 1,
    Vote = 2,
    /// Entries from this index on are void.
    Truncate = 3,
    /// Entries up to this log id are covered by a snapshot.
    Purge = 4,
}

impl Kind {
    fn from_u8(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Entry),
            2 => Some(Kind::Vote),
            3 => Some(Kind::Truncate),
            4 => Some(Kind::Purge),
            _ => None,
        }
    }
}

pub fn segment_header(sequence: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks a segment's header; says what is wrong with it.
pub fn check_segment_header(bytes: &[u8], sequence: u64) -> Result<(), String> {
    if bytes.len() < SEGMENT_HEADER {
        return Err("it ends within its header".into());
    }
    if bytes[..8] != MAGIC {
        return Err("it is not a log segment".into());
    }
    if u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
        return Err("its header's checksum does not match".into());
    }
    match u32_at(bytes, 8) {
        VERSION => {}
        other => return Err(format!("it has format {other}, this release reads {VERSION}")),
    }
    match bytes[12..20] == sequence.to_le_bytes() {
        true => Ok(()),
        false => Err("its header names another segment".into()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Appends a record whose checksum `finish` fills in when it is known where it goes.
pub fn begin(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    out[start + 12] = kind as u8;
    payload(out);
    let length = (out.len() - start - RECORD_HEADER) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Length of the record that begins `frames`, header included.
pub fn length(frames: &[u8]) -> usize {
    RECORD_HEADER + u32_at(frames, 0) as usize
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

/// Completes one record.
pub fn finish(record: &mut [u8], synced: u32) {
    record[8..12].copy_from_slice(&synced.to_le_bytes());
    let crc = checksum(record);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub offset: usize,
    pub kind: Kind,
    pub payload: Range<usize>,
    synced: u32,
}

/// The intact record at `offset`, if there is one.
pub fn record_at(bytes: &[u8], offset: usize) -> Option<Found> {
    let rest = bytes.get(offset..)?;
    if rest.len() < RECORD_HEADER {
        return None;
    }
    let kind = Kind::from_u8(rest[12])?;
    let length = u32_at(rest, 0) as usize;
    if length > RECORD_BYTES_MAX || rest.len() - RECORD_HEADER < length {
        return None;
    }
    if checksum(&rest[..RECORD_HEADER + length]) != u32_at(rest, 4) {
        return None;
    }
    let start = offset + RECORD_HEADER;
    Some(Found {
        offset,
        kind,
        payload: start..start + length,
        synced: u32_at(rest, 8),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing follows the last record, or only zeros (space reserved ahead).
    Clean,
    /// What follows was never synced: a write that a crash cut short.
    Torn,
    /// What follows was synced once, and is damaged.
    Rotten,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    pub records: Vec<Found>,
    /// Offset behind the last intact record.
    pub end: usize,
    pub how: End,
}

/// Reads the records of a segment, and judges what stops it.
pub fn scan(bytes: &[u8]) -> Scan {
    let (mut records, mut at) = (Vec::new(), SEGMENT_HEADER);
    while let Some(found) = record_at(bytes, at) {
        at = found.payload.end;
        records.push(found);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let how = if rest.iter().all(|b| *b == 0) {
        End::Clean
    } else if (at + 1..bytes.len())
        .filter_map(|o| record_at(bytes, o))
        .any(|r| r.synced as usize > at)
    {
        End::Rotten
    } else {
        End::Torn
    };
    Scan { records, end: at, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(synced: &[u32], payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = segment_header(7).to_vec();
        for (synced, payload) in synced.iter().zip(payloads) {
            let start = out.len();
            begin(&mut out, Kind::Entry, |o| o.extend_from_slice(payload));
            finish(&mut out[start..], *synced);
        }
        out
    }

    fn how(bytes: &[u8]) -> (usize, End) {
        let scan = scan(bytes);
        (scan.records.len(), scan.how)
    }

    #[test]
    fn headers() {
        assert_eq!(check_segment_header(&segment_header(7), 7), Ok(()));
        assert!(check_segment_header(&segment_header(7), 8).is_err());
        let mut bad = segment_header(7);
        bad[13] ^= 1;
        assert!(check_segment_header(&bad, 7).is_err());
        assert!(check_segment_header(&bad[..10], 7).is_err());
    }

    #[test]
    fn every_cut_of_the_tail_is_torn_and_keeps_the_rest() {
        let whole = segment(&[32, 48, 64], &[b"one", b"two", b"three"]);
        let two = whole.len() - RECORD_HEADER - 5;
        assert_eq!(how(&whole), (3, End::Clean));
        for cut in two + 1..whole.len() {
            assert_eq!(how(&whole[..cut]), (2, End::Torn), "cut at {cut}");
        }
        let mut reserved = whole.clone();
        reserved.extend_from_slice(&[0; 100]);
        assert_eq!(how(&reserved), (3, End::Clean));
    }

    #[test]
    fn a_flipped_byte_before_a_later_sync_is_rot() {
        let whole = segment(&[32, 48, 64], &[b"one", b"two", b"three"]);
        for at in SEGMENT_HEADER..48 {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            assert_eq!(how(&bad), (0, End::Rotten), "flipped at {at}");
        }
    }

    #[test]
    fn blocks_of_one_unsynced_write_may_come_down_in_any_order() {
        // Both records belong to a group that was written after offset 32 was synced.
        let mut group = segment(&[32, 32], &[b"lost", b"kept"]);
        group[SEGMENT_HEADER..SEGMENT_HEADER + RECORD_HEADER + 4].fill(0);
        assert_eq!(how(&group), (0, End::Torn));
    }
}
