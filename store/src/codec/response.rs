//! The binary form of what came of a command, for a server that could not apply it
//! itself. Pure.

use super::*;
use crate::mvcc::TXN_DEPTH_MAX;

fn put_whole_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, entry.key());
    put_entry(out, entry, &Plain);
}

fn read_whole_entry(r: &mut Reader) -> Result<Entry, CodecError> {
    let key = r.bytes("key")?;
    read_entry(r, &key, &Plain)
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    put_u64(out, entries.len() as u64);
    entries.iter().for_each(|entry| put_whole_entry(out, entry));
}

fn read_entries(r: &mut Reader) -> Result<Vec<Entry>, CodecError> {
    (0..r.count("entries")?).map(|_| read_whole_entry(r)).collect()
}

fn put_maybe(out: &mut Vec<u8>, entry: &Option<Entry>) {
    put_entries(out, entry.as_slice());
}

fn read_maybe(r: &mut Reader) -> Result<Option<Entry>, CodecError> {
    let mut entries = read_entries(r)?;
    match entries.len() {
        0 | 1 => Ok(entries.pop()),
        _ => Err(CodecError::Invalid("several entries where one may be")),
    }
}

fn put_result(out: &mut Vec<u8>, result: &TxnResult) {
    out.push(u8::from(result.succeeded));
    put_u64(out, result.revision);
    put_u64(out, result.results.len() as u64);
    for result in &result.results {
        match result {
            OpResult::Put { previous } => {
                out.push(0);
                put_maybe(out, previous);
            }
            OpResult::Deleted { previous } => {
                out.push(1);
                put_entries(out, previous);
            }
            OpResult::Got(entry) => {
                out.push(2);
                put_maybe(out, entry);
            }
            OpResult::Range(found) => {
                out.push(3);
                put_entries(out, &found.entries);
                put_u64(out, found.count as u64);
            }
            OpResult::Txn(inner) => {
                out.push(4);
                put_result(out, inner);
            }
        }
    }
}

fn read_result(r: &mut Reader, depth: usize) -> Result<TxnResult, CodecError> {
    if depth > TXN_DEPTH_MAX {
        return Err(CodecError::Invalid("results nested too deep"));
    }
    let (succeeded, revision) = (r.u8("branch")? != 0, r.u64("revision")?);
    let results = (0..r.count("results")?).map(|_| {
        Ok(match r.u8("result")? {
            0 => OpResult::Put {
                previous: read_maybe(r)?,
            },
            1 => OpResult::Deleted {
                previous: read_entries(r)?,
            },
            2 => OpResult::Got(read_maybe(r)?),
            3 => OpResult::Range(Found {
                entries: read_entries(r)?,
                count: r.u64("count")? as usize,
            }),
            4 => OpResult::Txn(Box::new(read_result(r, depth + 1)?)),
            tag => return Err(CodecError::Tag { what: "a result", tag }),
        })
    });
    let results = results.collect::<Result<_, _>>()?;
    Ok(TxnResult {
        succeeded,
        revision,
        results,
    })
}

pub fn put_response(out: &mut Vec<u8>, response: &Response) {
    let mut numbers = |tag, numbers: [u64; 2]| {
        out.push(tag);
        numbers.into_iter().for_each(|n| put_u64(out, n));
    };
    match response {
        Response::Done => numbers(0, [0, 0]),
        Response::Duplicate => numbers(1, [0, 0]),
        Response::Refused(Refused::KeyNotFound) => numbers(2, [0, 0]),
        Response::Refused(Refused::LeaseNotFound(id)) => numbers(3, [*id as u64, 0]),
        Response::Refused(Refused::LeaseExists(id)) => numbers(4, [*id as u64, 0]),
        Response::Refused(Refused::NoSpace) => numbers(5, [0, 0]),
        Response::Refused(Refused::Compacted { asked, oldest }) => numbers(6, [*asked, *oldest]),
        Response::Refused(Refused::FutureRevision { asked, current }) => numbers(7, [*asked, *current]),
        Response::Txn(result) => {
            out.push(8);
            put_result(out, result);
        }
        Response::Batch(responses) => {
            out.push(9);
            put_u64(out, responses.len() as u64);
            responses.iter().for_each(|response| put_response(out, response));
        }
    }
}

pub fn read_response(r: &mut Reader) -> Result<Response, CodecError> {
    let tag = r.u8("a response")?;
    if tag != 9 {
        return read_one(r, tag);
    }
    let each = (0..r.count("responses")?).map(|_| {
        let tag = r.u8("a response")?;
        read_one(r, tag)
    });
    Ok(Response::Batch(each.collect::<Result<_, _>>()?))
}

fn read_one(r: &mut Reader, tag: u8) -> Result<Response, CodecError> {
    if tag == 8 {
        return Ok(Response::Txn(read_result(r, 1)?));
    }
    let (first, second) = (r.u64("number")?, r.u64("number")?);
    Ok(match tag {
        0 => Response::Done,
        1 => Response::Duplicate,
        2 => Response::Refused(Refused::KeyNotFound),
        3 => Response::Refused(Refused::LeaseNotFound(first as i64)),
        4 => Response::Refused(Refused::LeaseExists(first as i64)),
        5 => Response::Refused(Refused::NoSpace),
        6 => Response::Refused(Refused::Compacted {
            asked: first,
            oldest: second,
        }),
        7 => Response::Refused(Refused::FutureRevision {
            asked: first,
            current: second,
        }),
        tag => {
            return Err(CodecError::Tag {
                what: "a response",
                tag,
            });
        }
    })
}
