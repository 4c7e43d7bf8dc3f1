//! The store's results as etcd's responses. Pure.

use crate::request::needs_all;
use bytes::Bytes;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Asked;
use pb::response_op::Response as Answered;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_proto::etcd::mvccpb::{self, KeyValue, event::EventType};
use skiff_store::{Entry, Event, Found, OpResult, TxnResult};

type Header = Option<pb::ResponseHeader>;

pub fn key_value(entry: &Entry) -> KeyValue {
    let (key, value) = entry.key_and_body();
    let numbers = entry.numbers();
    KeyValue {
        key,
        create_revision: numbers.create_revision as i64,
        mod_revision: numbers.mod_revision as i64,
        version: numbers.version as i64,
        value,
        lease: numbers.lease,
    }
}

/// What a range comes to: filtered, sorted and cut as was asked.
pub fn range(header: Header, request: &pb::RangeRequest, found: Found) -> pb::RangeResponse {
    let count = found.count as i64;
    let mut entries = found.entries;
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let mut more = !request.count_only && entries.len() < found.count;
    if needs_all(request) {
        let within = |revision: u64, min: i64, max: i64| {
            let revision = revision as i64;
            (min <= 0 || revision >= min) && (max <= 0 || revision <= max)
        };
        entries.retain(|e| {
            within(e.mod_revision(), request.min_mod_revision, request.max_mod_revision)
                && within(
                    e.create_revision(),
                    request.min_create_revision,
                    request.max_create_revision,
                )
        });
        sort(&mut entries, request);
        let wanted = limit.unwrap_or(usize::MAX);
        more = entries.len() > wanted;
        entries.truncate(wanted);
    }
    let kvs = entries.iter().map(|entry| {
        let mut kv = key_value(entry);
        if request.keys_only {
            kv.value = Bytes::new();
        }
        kv
    });
    pb::RangeResponse {
        header,
        kvs: kvs.collect(),
        more,
        count,
    }
}

/// Among equals, order is by key either way.
fn sort(entries: &mut [Entry], request: &pb::RangeRequest) {
    let target = request.sort_target();
    let compare = |a: &Entry, b: &Entry| match target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.version().cmp(&b.version()),
        SortTarget::Create => a.create_revision().cmp(&b.create_revision()),
        SortTarget::Mod => a.mod_revision().cmp(&b.mod_revision()),
        SortTarget::Value => a.body().cmp(b.body()),
    };
    match request.sort_order() {
        SortOrder::Descend => entries.sort_by(|a, b| compare(b, a)),
        _ => entries.sort_by(compare),
    }
}

pub fn put(header: Header, request: &pb::PutRequest, result: OpResult) -> pb::PutResponse {
    let previous = match result {
        OpResult::Put { previous } if request.prev_kv => previous,
        _ => None,
    };
    pb::PutResponse {
        header,
        prev_kv: previous.map(|entry| key_value(&entry)),
    }
}

pub fn delete(header: Header, request: &pb::DeleteRangeRequest, result: OpResult) -> pb::DeleteRangeResponse {
    let previous = match result {
        OpResult::Deleted { previous } => previous,
        _ => Vec::new(),
    };
    pb::DeleteRangeResponse {
        header,
        deleted: previous.len() as i64,
        prev_kvs: match request.prev_kv {
            true => previous.iter().map(key_value).collect(),
            false => Vec::new(),
        },
    }
}

pub fn txn(header: Header, request: &pb::TxnRequest, result: TxnResult) -> pb::TxnResponse {
    let last = result.revision as i64;
    // What comes before the first write is of the revision before.
    let mut now = match writes(&result) {
        true => last - 1,
        false => last,
    };
    branch(header, request, result, &mut now, last)
}

fn written(result: &OpResult) -> bool {
    match result {
        OpResult::Put { .. } => true,
        OpResult::Deleted { previous } => !previous.is_empty(),
        OpResult::Txn(inner) => writes(inner),
        OpResult::Range(_) | OpResult::Got(_) => false,
    }
}

fn writes(result: &TxnResult) -> bool {
    result.results.iter().any(written)
}

/// Answers inside of a transaction tell the revision as it was then, and nothing of the server;
/// one of a transaction within tells not even that.
fn branch(header: Header, request: &pb::TxnRequest, result: TxnResult, now: &mut i64, last: i64) -> pb::TxnResponse {
    let asked = match result.succeeded {
        true => &request.success,
        false => &request.failure,
    };
    let responses = asked.iter().zip(result.results).map(|(asked, result)| {
        if !matches!(result, OpResult::Txn(_)) && written(&result) {
            *now = last;
        }
        let inner = Some(pb::ResponseHeader {
            revision: *now,
            ..Default::default()
        });
        let response = match (&asked.request, result) {
            (Some(Asked::RequestRange(request)), OpResult::Range(found)) => {
                Some(Answered::ResponseRange(range(inner, request, found)))
            }
            (Some(Asked::RequestPut(request)), result) => Some(Answered::ResponsePut(put(inner, request, result))),
            (Some(Asked::RequestDeleteRange(request)), result) => {
                Some(Answered::ResponseDeleteRange(delete(inner, request, result)))
            }
            (Some(Asked::RequestTxn(request)), OpResult::Txn(result)) => {
                let header = Some(pb::ResponseHeader::default());
                Some(Answered::ResponseTxn(branch(header, request, *result, now, last)))
            }
            _ => None,
        };
        pb::ResponseOp { response }
    });
    pb::TxnResponse {
        header,
        succeeded: result.succeeded,
        responses: responses.collect(),
    }
}

pub fn event(event: &Event, with_previous: bool) -> mvccpb::Event {
    let kv = match &event.entry {
        Some(entry) => key_value(entry),
        // Of a deleted key, its name and the revision of the deletion.
        None => KeyValue {
            key: Bytes::copy_from_slice(event.key()),
            mod_revision: event.revision as i64,
            ..KeyValue::default()
        },
    };
    let kind = match event.entry {
        Some(_) => EventType::Put,
        None => EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: event.previous.as_ref().filter(|_| with_previous).map(key_value),
    }
}
