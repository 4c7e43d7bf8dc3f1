//! Every command comes back as it was written; no bytes make the reader panic or hang.

use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let pairs = prop::collection::btree_map("[a-z]{0,4}", "[a-z]{0,4}", 0..3);
    (pairs, any::<u32>(), bytes()).prop_map(|(labels, rv_offset, body)| Record {
        header: Arc::new(Header {
            labels: labels
                .into_iter()
                .map(|(k, v)| (Box::from(k.as_str()), Box::from(v.as_str())))
                .collect(),
            fields: Pairs::default(),
            rv_offset,
        }),
        body,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), lease_id());
    (bytes(), record(), numbers).prop_map(|(key, record, (create_revision, mod_revision, version, lease))| {
        let numbers = Numbers {
            create_revision,
            mod_revision,
            version,
            lease,
        };
        Entry::new(&key, &record, numbers)
    })
}

fn response() -> impl Strategy<Value = Response> {
    let entries = || prop::collection::vec(entry(), 0..3);
    let result = prop_oneof![
        prop::option::of(entry()).prop_map(|previous| OpResult::Put { previous }),
        entries().prop_map(|previous| OpResult::Deleted { previous }),
        prop::option::of(entry()).prop_map(OpResult::Got),
        (entries(), any::<usize>()).prop_map(|(entries, count)| OpResult::Range(Found { entries, count })),
    ];
    let txn = |results| {
        (any::<bool>(), any::<u64>(), results).prop_map(|(succeeded, revision, results)| TxnResult {
            succeeded,
            revision,
            results,
        })
    };
    let inner = txn(prop::collection::vec(result.clone(), 0..3).boxed());
    let result = prop_oneof![3 => result, 1 => inner.prop_map(|inner| OpResult::Txn(Box::new(inner)))];
    let refused = (any::<u64>(), any::<i64>(), 0..6).prop_map(|(number, id, which)| match which {
        0 => Refused::KeyNotFound,
        1 => Refused::LeaseNotFound(id),
        2 => Refused::LeaseExists(id),
        3 => Refused::NoSpace,
        4 => Refused::Compacted {
            asked: number,
            oldest: 7,
        },
        _ => Refused::FutureRevision {
            asked: number,
            current: 7,
        },
    });
    let one = prop_oneof![
        Just(Response::Done),
        Just(Response::Duplicate),
        refused.prop_map(Response::Refused),
        txn(prop::collection::vec(result, 0..3).boxed()).prop_map(Response::Txn),
    ];
    let several = prop::collection::vec(one.clone(), 0..3).prop_map(Response::Batch);
    prop_oneof![4 => one, 1 => several]
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        Just(RangeEnd::One),
        bytes().prop_map(RangeEnd::Before),
        Just(RangeEnd::Open)
    ];
    (bytes(), end).prop_map(|(start, end)| KeyRange { start, end })
}

fn lease_id() -> impl Strategy<Value = LeaseId> {
    0..=LeaseId::MAX
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop::sample::select(vec![
        Relation::Equal,
        Relation::NotEqual,
        Relation::Greater,
        Relation::Less,
    ]);
    let target = prop_oneof![
        any::<u64>().prop_map(Target::Version),
        any::<u64>().prop_map(Target::CreateRevision),
        any::<u64>().prop_map(Target::ModRevision),
        any::<i64>().prop_map(Target::Lease),
        bytes().prop_map(Target::Body),
    ];
    let test = (range(), relation, target).prop_map(|(range, relation, target)| Test {
        range,
        relation,
        target,
    });
    prop_oneof![
        (bytes(), any::<u64>()).prop_map(|(k, n)| Compare::ModRevision(k, n)),
        test.prop_map(|t| Compare::Test(Box::new(t))),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let query = (range(), any::<u32>(), any::<u64>(), any::<bool>());
    let leaf = prop_oneof![
        (bytes(), record()).prop_map(|(key, record)| Op::Put { key, record }),
        (bytes(), prop::option::of(record()), prop::option::of(lease_id()))
            .prop_map(|(key, record, lease)| Op::PutWith { key, record, lease }),
        bytes().prop_map(|key| Op::Delete { key }),
        range().prop_map(Op::DeleteRange),
        bytes().prop_map(|key| Op::Get { key }),
        query.prop_map(|(range, limit, revision, count_only)| Op::Range(Query {
            range,
            limit: limit as usize,
            revision,
            count_only,
        })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let ops = prop::collection::vec(inner, 0..3);
        (prop::collection::vec(compare(), 0..2), ops.clone(), ops)
            .prop_map(|(compare, then, or_else)| Op::Txn(Box::new(Txn { compare, then, or_else })))
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => numbered_command(),
        1 => prop::collection::vec(numbered_command(), 0..4).prop_map(Command::Batch),
    ]
}

fn numbered_command() -> impl Strategy<Value = Command> {
    let ops = || prop::collection::vec(op(), 0..4);
    let bare = prop_oneof![
        6 => (prop::collection::vec(compare(), 0..4), ops(), ops())
            .prop_map(|(compare, then, or_else)| Command::Txn(Arc::new(Txn { compare, then, or_else }))),
        1 => any::<u64>().prop_map(Command::Compact),
        1 => (lease_id(), any::<u32>()).prop_map(|(id, ttl_s)| Command::Grant(Lease { id, ttl_s })),
        1 => lease_id().prop_map(Command::Revoke),
    ];
    let numbers = || any::<[u64; 4]>();
    (bare, prop::option::of(numbers())).prop_map(|(bare, tag)| match tag {
        None => bare,
        Some([origin, boot, number, settled]) => {
            let tag = Tag {
                origin,
                boot,
                number,
                settled,
            };
            Command::Once(tag, Box::new(bare))
        }
    })
}

fn written(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    put_command(&mut out, command, &Plain);
    out
}

proptest! {
    #[test]
    fn commands_come_back(command in command()) {
        prop_assert_eq!(read_command(written(&command).into(), &Plain), Ok(command));
    }

    #[test]
    fn responses_come_back(response in response(), damage in any::<(u16, u8)>()) {
        let mut out = Vec::new();
        put_response(&mut out, &response);
        prop_assert_eq!(read_response(&mut Reader::new(out.clone().into())), Ok(response));
        let at = usize::from(damage.0) % out.len();
        out[at] ^= damage.1;
        let _ = read_response(&mut Reader::new(out.into()));
    }

    #[test]
    fn damaged_commands_are_refused_or_read(
        command in command(),
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let whole = written(&command);
        prop_assert!(read_command(Bytes::copy_from_slice(&whole[..cut.index(whole.len())]), &Plain).is_err());
        let mut flipped = whole.clone();
        let at = at.index(whole.len());
        flipped[at] ^= byte;
        let _ = read_command(flipped.into(), &Plain);
    }

    #[test]
    fn any_bytes_are_refused_or_read(mut noise in prop::collection::vec(any::<u8>(), 0..64), tag in 0..7u8) {
        noise.splice(0..0, [CODEC_VERSION, tag]);
        let _ = read_command(noise.into(), &Plain);
    }
}

#[test]
fn entries_keep_their_lease_and_older_ones_have_none() {
    for lease in [0, 1, LeaseId::MAX] {
        let numbers = Numbers {
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            lease,
        };
        let entry = Entry::new(b"k", &Record::default(), numbers);
        let mut out = Vec::new();
        put_entry(&mut out, &entry, &Plain);
        let read = read_entry(&mut Reader::new(out.into()), b"k", &Plain);
        assert_eq!(read.as_ref(), Ok(&entry));
    }
    // As written before there were leases.
    let old = Bytes::from_static(&[1, 2, 3, 9, 0, 0, 0]);
    let read = read_entry(&mut Reader::new(old), b"k", &Plain).expect("read");
    assert_eq!((read.lease(), read.rv_offset()), (0, 9));
}

#[test]
fn depth_is_bounded() {
    let mut txn = Txn::default();
    for _ in 0..crate::mvcc::TXN_DEPTH_MAX {
        txn = Txn {
            then: vec![Op::Txn(Box::new(txn))],
            ..Txn::default()
        };
    }
    assert!(crate::mvcc::check_limits(&txn).is_err());
    let deep = written(&Command::Txn(Arc::new(txn)));
    assert_eq!(
        read_command(deep.into(), &Plain),
        Err(CodecError::Invalid("the depth of the transaction"))
    );
}

#[test]
fn what_was_written_before_there_were_ranges_is_read() {
    // then: delete the prefix "/a"; compare: version of "k" is 3.
    let old = Bytes::from_static(&[1, 0, 1, 2, 1, b'k', 3, 1, 2, 2, b'/', b'a', 0]);
    let Ok(Command::Txn(txn)) = read_command(old, &Plain) else {
        panic!("it is a transaction")
    };
    assert_eq!(txn.then, [Op::DeleteRange(KeyRange::prefix("/a".into()))]);
    let Compare::Test(test) = &txn.compare[0] else {
        panic!("{:?}", txn.compare)
    };
    assert_eq!(
        (&test.range, &test.target),
        (&KeyRange::one("k".into()), &Target::Version(3))
    );
}
