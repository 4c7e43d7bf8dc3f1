//! What a transaction may weigh: refused before it reaches the log. Pure.

use super::{TXN_BYTES_MAX, TXN_DEPTH_MAX, TXN_OPS_MAX};
use crate::contract::*;

/// What a transaction and those inside of it come to.
#[derive(Default)]
struct Weight {
    bytes: usize,
    operations: usize,
    depth: usize,
}

fn header_bytes(header: &Header) -> usize {
    let pairs = header.labels.iter().chain(header.fields.iter());
    pairs.map(|(k, v)| k.len() + v.len() + 4).sum()
}

fn record_bytes(record: &Record) -> usize {
    record.body.len() + header_bytes(&record.header)
}

fn weigh(txn: &Txn, depth: usize, weight: &mut Weight) {
    weight.depth = weight.depth.max(depth);
    let here = txn.compare.len() + txn.then.len() + txn.or_else.len();
    weight.operations += here;
    weight.bytes += 16 * here;
    for compare in &txn.compare {
        weight.bytes += match compare {
            Compare::ModRevision(key, _) => key.len(),
            Compare::Test(test) => {
                let body = match &test.target {
                    Target::Body(body) => body.len(),
                    _ => 0,
                };
                test.range.bytes() + body
            }
        };
    }
    for op in txn.then.iter().chain(&txn.or_else) {
        weight.bytes += match op {
            Op::Put { key, record } => key.len() + record_bytes(record),
            Op::PutWith { key, record, .. } => key.len() + record.as_ref().map_or(0, record_bytes),
            Op::Delete { key } | Op::Get { key } => key.len(),
            Op::DeleteRange(range) => range.bytes(),
            Op::Range(query) => query.range.bytes(),
            Op::Txn(inner) => {
                if depth < TXN_DEPTH_MAX {
                    weigh(inner, depth + 1, weight);
                } else {
                    weight.depth = depth + 1;
                }
                0
            }
        };
    }
}

/// The bytes that a transaction carries.
pub fn txn_bytes(txn: &Txn) -> usize {
    let mut weight = Weight::default();
    weigh(txn, 1, &mut weight);
    weight.bytes
}

/// Refuses what no server would take; returns the bytes that the transaction carries.
pub fn check_limits(txn: &Txn) -> Result<usize, StoreError> {
    let mut weight = Weight::default();
    weigh(txn, 1, &mut weight);
    if weight.bytes > TXN_BYTES_MAX {
        return Err(StoreError::TooLarge {
            bytes: weight.bytes,
            max: TXN_BYTES_MAX,
        });
    }
    if weight.depth > TXN_DEPTH_MAX {
        return Err(StoreError::Internal(format!(
            "transactions nested more than {TXN_DEPTH_MAX} deep are not allowed"
        )));
    }
    if weight.operations > TXN_OPS_MAX {
        return Err(StoreError::Internal(format!(
            "a transaction of {} operations; at most {TXN_OPS_MAX} are allowed",
            weight.operations
        )));
    }
    Ok(weight.bytes)
}
