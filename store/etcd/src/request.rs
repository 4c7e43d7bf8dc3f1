//! etcd's requests as the store's transactions, and what is wrong with them. Pure.

use crate::error::{empty_key, etcd};
use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Asked;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{Compare, KeyRange, Op, Query, RangeEnd, Record, Relation, Target, Test, Txn};
use std::collections::BTreeSet;
use tonic::{Code, Status};

/// Operations of one transaction, as etcd limits them.
const TXN_OPS_MAX: usize = 128;

/// Transactions inside of transactions, as the store limits them.
const TXN_DEPTH_MAX: usize = 8;

pub fn range(key: &Bytes, end: &Bytes) -> KeyRange {
    let end = match &end[..] {
        [] => RangeEnd::One,
        [0] => RangeEnd::Open,
        _ => RangeEnd::Before(end.clone()),
    };
    KeyRange {
        start: key.clone(),
        end,
    }
}

/// A number that must not be negative; clients' negative ones mean none.
fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub fn check_range(request: &pb::RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(empty_key());
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(etcd(Code::InvalidArgument, "invalid sort option"));
    }
    Ok(())
}

/// Must all keys of the range be looked at, whatever the limit?
pub fn needs_all(request: &pb::RangeRequest) -> bool {
    let sorted = request.sort_order() == SortOrder::Descend || request.sort_target() != SortTarget::Key;
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    sorted || bounds.iter().any(|bound| *bound > 0)
}

pub fn query(request: &pb::RangeRequest) -> Query {
    Query {
        range: range(&request.key, &request.range_end),
        limit: match needs_all(request) {
            true => 0,
            false => usize::try_from(request.limit).unwrap_or(0),
        },
        revision: natural(request.revision),
        count_only: request.count_only,
    }
}

pub fn put(request: &pb::PutRequest) -> Result<Op, Status> {
    if request.key.is_empty() {
        return Err(empty_key());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(etcd(Code::InvalidArgument, "value is provided"));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(etcd(Code::InvalidArgument, "lease is provided"));
    }
    let (key, body) = (request.key.clone(), request.value.clone());
    let record = Record {
        body,
        ..Record::default()
    };
    Ok(match request {
        r if r.lease == 0 && !r.ignore_value && !r.ignore_lease => Op::Put { key, record },
        r => Op::PutWith {
            key,
            record: (!r.ignore_value).then_some(record),
            lease: (!r.ignore_lease).then_some(r.lease),
        },
    })
}

pub fn delete(request: &pb::DeleteRangeRequest) -> Result<Op, Status> {
    match request.key.is_empty() {
        true => Err(empty_key()),
        false => Ok(Op::DeleteRange(range(&request.key, &request.range_end))),
    }
}

pub fn txn(request: &pb::TxnRequest) -> Result<Txn, Status> {
    check_keys(request)?;
    nested_txn(request, 1)
}

fn nested_txn(request: &pb::TxnRequest, depth: usize) -> Result<Txn, Status> {
    let most = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if most > TXN_OPS_MAX || depth > TXN_DEPTH_MAX {
        return Err(etcd(Code::InvalidArgument, "too many operations in txn request"));
    }
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(|o| op(o, depth)).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compare: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        then: ops(&request.success)?,
        or_else: ops(&request.failure)?,
    })
}

fn op(op: &pb::RequestOp, depth: usize) -> Result<Op, Status> {
    match &op.request {
        Some(Asked::RequestRange(request)) => {
            check_range(request)?;
            Ok(Op::Range(query(request)))
        }
        Some(Asked::RequestPut(request)) => put(request),
        Some(Asked::RequestDeleteRange(request)) => delete(request),
        Some(Asked::RequestTxn(request)) => Ok(Op::Txn(Box::new(nested_txn(request, depth + 1)?))),
        // As etcd has it.
        None => Err(etcd(Code::InvalidArgument, "key not found")),
    }
}

fn compare(compare: &pb::Compare) -> Result<Compare, Status> {
    if compare.key.is_empty() {
        return Err(empty_key());
    }
    let target = match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n))) => Target::Version(natural(*n)),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => Target::CreateRevision(natural(*n)),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => Target::ModRevision(natural(*n)),
        (CompareTarget::Value, Some(TargetUnion::Value(body))) => Target::Body(body.clone()),
        (CompareTarget::Lease, Some(TargetUnion::Lease(id))) => Target::Lease(*id),
        // What is not given is nought.
        (CompareTarget::Version, _) => Target::Version(0),
        (CompareTarget::Create, _) => Target::CreateRevision(0),
        (CompareTarget::Mod, _) => Target::ModRevision(0),
        (CompareTarget::Value, _) => Target::Body(Bytes::new()),
        (CompareTarget::Lease, _) => Target::Lease(0),
    };
    let relation = match compare.result() {
        CompareResult::Equal => Relation::Equal,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
        CompareResult::NotEqual => Relation::NotEqual,
    };
    Ok(match (target, relation, compare.range_end.is_empty()) {
        // The form that API servers use has the shortest record in the log.
        (Target::ModRevision(n), Relation::Equal, true) => Compare::ModRevision(compare.key.clone(), n),
        (target, relation, _) => Compare::Test(Box::new(Test {
            range: range(&compare.key, &compare.range_end),
            relation,
            target,
        })),
    })
}

/// Keys that one path through a transaction writes.
#[derive(Default)]
struct Written {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

/// No key may be put twice, nor put and deleted, on one path.
fn check_keys(request: &pb::TxnRequest) -> Result<(), Status> {
    written(&request.success, 1)?;
    written(&request.failure, 1).map(|_| ())
}

fn written(ops: &[pb::RequestOp], depth: usize) -> Result<Written, Status> {
    let duplicate = || etcd(Code::InvalidArgument, "duplicate key given in txn request");
    let mut all = Written::default();
    for op in ops {
        let mut one = Written::default();
        match &op.request {
            Some(Asked::RequestPut(put)) => {
                one.puts.insert(put.key.clone());
            }
            Some(Asked::RequestDeleteRange(delete)) => one.deletes.push(range(&delete.key, &delete.range_end)),
            Some(Asked::RequestTxn(inner)) if depth < TXN_DEPTH_MAX => {
                // Only one of the two is done.
                for branch in [&inner.success, &inner.failure] {
                    let branch = written(branch, depth + 1)?;
                    one.puts.extend(branch.puts);
                    one.deletes.extend(branch.deletes);
                }
            }
            _ => {}
        }
        let hits = |puts: &BTreeSet<Bytes>, deletes: &[KeyRange]| {
            puts.iter().any(|key| deletes.iter().any(|range| range.contains(key)))
        };
        let twice = one.puts.iter().any(|key| all.puts.contains(key));
        if twice || hits(&one.puts, &all.deletes) || hits(&all.puts, &one.deletes) {
            return Err(duplicate());
        }
        all.puts.extend(one.puts);
        all.deletes.extend(one.deletes);
    }
    Ok(all)
}
