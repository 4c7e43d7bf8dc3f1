//! What transactions of the general form do: by etcd's documented rules.

use super::*;

fn record(body: &str) -> Record {
    Record {
        header: Arc::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, body: &str) -> Op {
    Op::Put {
        key: key(name),
        record: record(body),
    }
}

fn put_with(name: &str, body: Option<&str>, lease: Option<LeaseId>) -> Op {
    Op::PutWith {
        key: key(name),
        record: body.map(record),
        lease,
    }
}

fn between(start: &str, end: &str) -> KeyRange {
    KeyRange {
        start: key(start),
        end: RangeEnd::Before(key(end)),
    }
}

fn read(range: KeyRange, limit: usize, revision: Revision) -> Op {
    Op::Range(Query {
        range,
        limit,
        revision,
        count_only: false,
    })
}

fn then(ops: impl Into<Vec<Op>>) -> Txn {
    Txn {
        then: ops.into(),
        ..Txn::default()
    }
}

fn done(state: &mut State, ops: impl Into<Vec<Op>>) -> Applied {
    state.apply(&then(ops)).expect("not refused")
}

fn names(found: &OpResult) -> (Vec<String>, usize) {
    let OpResult::Range(found) = found else {
        panic!("{found:?} is no range")
    };
    let name = |e: &Entry| String::from_utf8_lossy(e.key()).into_owned();
    (found.entries.iter().map(name).collect(), found.count)
}

fn body_of(state: &State, name: &str) -> Option<String> {
    let entry = state.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(entry.body()).into_owned())
}

#[test]
fn ranges_see_the_writes_before_them_and_the_past_as_it_was() {
    let mut s = State::new();
    done(&mut s, [put("a", "1"), put("b", "1"), put("c", "1")]); // revision 2
    done(&mut s, [put("d", "1")]); // 3
    let open = KeyRange {
        start: key("b"),
        end: RangeEnd::Open,
    };
    let ops = [
        put("aa", "2"),
        Op::DeleteRange(between("b", "c")),
        read(between("a", "d"), 0, 0),
        read(between("a", "z"), 2, 0),
        read(open, 0, 2),
        read(KeyRange::one(key("aa")), 0, 3),
        read(KeyRange::one(key("aa")), 0, 0),
    ];
    let applied = done(&mut s, ops);
    let results: Vec<_> = applied.result.results[2..].iter().map(names).collect();
    let of = |names: &[&str], count| (names.iter().map(ToString::to_string).collect::<Vec<_>>(), count);
    assert_eq!(
        results,
        [
            of(&["a", "aa", "c"], 3),
            of(&["a", "aa"], 4),
            of(&["b", "c"], 2),
            of(&[], 0),
            of(&["aa"], 1)
        ]
    );
    assert_eq!((applied.result.revision, applied.events.len()), (4, 2));
}

#[test]
fn nested_branches_are_chosen_before_anything_is_written() {
    let mut s = State::new();
    done(&mut s, [put("a", "1")]);
    let inner = Txn {
        compare: vec![Compare::Test(Box::new(Test {
            range: KeyRange::one(key("a")),
            relation: Relation::Equal,
            target: Target::Body("1".into()),
        }))],
        then: vec![put("b", "old")],
        or_else: vec![put("b", "new")],
    };
    let applied = done(&mut s, [put("a", "2"), Op::Txn(Box::new(inner)), put("c", "3")]);
    assert_eq!(body_of(&s, "b").as_deref(), Some("old"));
    let OpResult::Txn(nested) = &applied.result.results[1] else {
        panic!("{:?}", applied.result)
    };
    assert_eq!(
        (nested.succeeded, nested.revision, applied.result.revision),
        (true, 3, 3)
    );
    let revisions: Vec<_> = ["a", "b", "c"]
        .map(|k| s.get(k.as_bytes()).map(|e| e.mod_revision()))
        .into();
    assert_eq!(revisions, [Some(3); 3]);
}

#[test]
fn tests_compare_every_key_of_their_range() {
    let mut s = State::new();
    done(&mut s, [put("a", "1")]); // 2
    done(&mut s, [put("a", "2"), put("b", "5")]); // 3
    let cases = [
        (between("a", "c"), Relation::Greater, Target::Version(0), true),
        (between("a", "c"), Relation::Equal, Target::Version(1), false),
        (between("a", "c"), Relation::Equal, Target::ModRevision(3), true),
        (between("a", "c"), Relation::Less, Target::CreateRevision(4), true),
        (between("a", "c"), Relation::NotEqual, Target::CreateRevision(2), false),
        (between("a", "c"), Relation::Greater, Target::Body("1".into()), true),
        (between("a", "c"), Relation::Less, Target::Body("5".into()), false),
        (between("a", "c"), Relation::Equal, Target::Lease(0), true),
        // Where there is nothing, numbers are 0 and no body compares.
        (between("x", "z"), Relation::Equal, Target::ModRevision(0), true),
        (between("x", "z"), Relation::Less, Target::Version(1), true),
        (between("x", "z"), Relation::NotEqual, Target::Body("1".into()), false),
        (KeyRange::one(key("x")), Relation::Greater, Target::Version(0), false),
    ];
    for (range, relation, target, expected) in cases {
        let test = Test {
            range,
            relation,
            target,
        };
        let txn = Txn {
            compare: vec![Compare::Test(Box::new(test.clone()))],
            ..Txn::default()
        };
        assert_eq!(
            s.apply(&txn).expect("not refused").result.succeeded,
            expected,
            "{test:?}"
        );
    }
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut s = State::new();
    done(&mut s, [put("a", "1")]);
    done(&mut s, [put("a", "2")]);
    done(&mut s, [put("a", "3")]);
    s.compact(3);
    let nested = |op| Op::Txn(Box::new(then([op])));
    let cases = [
        (put_with("x", None, Some(0)), Refused::KeyNotFound),
        (put_with("x", Some("1"), None), Refused::KeyNotFound),
        (nested(put_with("x", None, Some(0))), Refused::KeyNotFound),
        (put_with("a", Some("1"), Some(7)), Refused::LeaseNotFound(7)),
        (
            read(between("a", "b"), 0, 9),
            Refused::FutureRevision { asked: 9, current: 4 },
        ),
        (
            nested(read(between("a", "b"), 0, 2)),
            Refused::Compacted { asked: 2, oldest: 3 },
        ),
    ];
    for (op, expected) in cases {
        let refused = s
            .apply(&then([put("b", "1"), op.clone()]))
            .map(|applied| applied.result);
        assert_eq!(refused, Err(expected), "{op:?}");
        assert_eq!((s.revision(), s.get(b"b"), s.history().len()), (4, None, 1));
    }
    // What lies in the branch not taken refuses nothing.
    let txn = Txn {
        or_else: vec![put_with("x", None, None)],
        ..Txn::default()
    };
    assert!(s.apply(&txn).expect("not refused").result.succeeded);
}

#[test]
fn puts_keep_what_they_are_told_to() {
    let mut s = State::new();
    s.grant(Lease { id: 7, ttl_s: 9 }).expect("granted");
    s.grant(Lease { id: 8, ttl_s: 9 }).expect("granted");
    let of = |s: &State| s.get(b"a").map(|e| (e.lease(), e.body_bytes(), e.version()));
    done(&mut s, [put_with("a", Some("1"), Some(7))]);
    done(&mut s, [put_with("a", Some("2"), None)]);
    assert_eq!(of(&s), Some((7, "2".into(), 2)));
    done(&mut s, [put_with("a", None, Some(8))]);
    assert_eq!(of(&s), Some((8, "2".into(), 3)));
    assert_eq!((s.leases().keys(7).count(), s.leases().keys(8).count()), (0, 1));
    // A plain put lets go of the lease.
    done(&mut s, [put("a", "3")]);
    assert_eq!((of(&s), s.leases().keys(8).count()), (Some((0, "3".into(), 4)), 0));
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let mut s = State::new();
    s.grant(Lease { id: 7, ttl_s: 9 }).expect("granted");
    assert_eq!(s.grant(Lease { id: 7, ttl_s: 3 }), Err(Refused::LeaseExists(7)));
    done(
        &mut s,
        [
            put_with("b", Some("1"), Some(7)),
            put_with("a", Some("1"), Some(7)),
            put("c", "1"),
        ],
    );
    done(&mut s, [put_with("d", Some("1"), Some(7))]);
    done(&mut s, [Op::Delete { key: key("d") }]);
    let applied = s.revoke(7).expect("revoked");
    let gone: Vec<_> = applied
        .events
        .iter()
        .map(|e| (Bytes::copy_from_slice(e.key()), e.revision, e.entry.is_none()))
        .collect();
    assert_eq!(gone, [(key("a"), 5, true), (key("b"), 5, true)]);
    assert_eq!((s.revision(), s.count(b""), s.leases().len()), (5, 1, 0));
    assert_eq!(s.revoke(7).map(|a| a.result), Err(Refused::LeaseNotFound(7)));
    // One without keys takes no revision.
    s.grant(Lease { id: 9, ttl_s: 9 }).expect("granted");
    assert_eq!(s.revoke(9).expect("revoked").result.revision, 5);
}

#[test]
fn a_restored_state_knows_whose_keys_are_whose() {
    let mut s = State::new();
    s.grant(Lease { id: 7, ttl_s: 9 }).expect("granted");
    done(&mut s, [put_with("a", Some("1"), Some(7)), put("b", "1")]);
    let entries = s.tree().iter_from(b"").cloned().collect();
    let leases = s.leases().iter().collect();
    let mut restored = State::restore(s.revision(), 2, entries, Vec::new(), [], leases, Vec::new(), []);
    restored.revoke(7).expect("revoked");
    assert_eq!((restored.get(b"a"), restored.count(b"")), (None, 1));
}
