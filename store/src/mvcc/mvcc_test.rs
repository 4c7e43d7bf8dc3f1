use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn put(key: &str, body: &str) -> Op {
    let record = Record {
        header: Arc::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        record,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }
}

fn then(ops: Vec<Op>) -> Txn {
    Txn {
        then: ops,
        ..Txn::default()
    }
}

fn equal(key: Bytes, target: Target) -> Compare {
    Compare::Test(Box::new(Test {
        range: KeyRange::one(key),
        relation: Relation::Equal,
        target,
    }))
}

fn apply(state: &mut State, txn: Txn) -> Applied {
    state.apply(&txn).expect("nothing in it can be refused")
}

fn keys(page: &Page) -> Vec<String> {
    page.entries
        .iter()
        .map(|e| String::from_utf8_lossy(e.key()).into_owned())
        .collect()
}

#[test]
fn revisions_and_versions() {
    let mut s = State::new();
    assert_eq!(s.revision(), 1);
    assert_eq!(
        apply(&mut s, then(vec![put("/a", "1"), put("/b", "1")]))
            .result
            .revision,
        2
    );
    assert_eq!(apply(&mut s, then(vec![put("/a", "2")])).result.revision, 3);
    let a = s.get(b"/a").expect("a");
    assert_eq!((a.create_revision(), a.mod_revision(), a.version()), (2, 3, 2));
    // Nothing changed: no revision, no event.
    let nothing = apply(&mut s, then(vec![delete("/none"), Op::Get { key: "/a".into() }]));
    assert_eq!((nothing.result.revision, nothing.events.len()), (3, 0));
    assert_eq!(nothing.result.results[1], OpResult::Got(Some(a.clone())));
    // Created anew after a deletion.
    apply(&mut s, then(vec![delete("/a")]));
    apply(&mut s, then(vec![put("/a", "3")]));
    let a = s.get(b"/a").expect("a");
    assert_eq!((a.create_revision(), a.mod_revision(), a.version()), (5, 5, 1));
}

#[test]
fn compare_decides_the_branch() {
    let mut s = State::new();
    apply(&mut s, then(vec![put("/a", "1")]));
    let cases = [
        (Compare::ModRevision("/a".into(), 2), true),
        (Compare::ModRevision("/a".into(), 1), false),
        (Compare::ModRevision("/x".into(), 0), true),
        (equal("/a".into(), Target::CreateRevision(2)), true),
        (equal("/a".into(), Target::Version(1)), true),
        (equal("/x".into(), Target::Version(0)), true),
        (equal("/x".into(), Target::Version(1)), false),
        (equal("/a".into(), Target::Body("1".into())), true),
        (equal("/a".into(), Target::Body("2".into())), false),
        (equal("/x".into(), Target::Body("".into())), false),
    ];
    for (compare, expected) in cases {
        let txn = Txn {
            compare: vec![compare.clone()],
            then: vec![Op::Get { key: "/a".into() }],
            or_else: vec![delete("/none"), delete("/none")],
        };
        let result = s.apply(&txn).expect("applied").result;
        assert_eq!(
            (result.succeeded, result.results.len()),
            (expected, 2 - usize::from(expected)),
            "{compare:?}"
        );
    }
}

#[test]
fn one_event_for_a_key_changed_twice_in_one_transaction() {
    let mut s = State::new();
    let twice = apply(
        &mut s,
        then(vec![put("/a", "1"), put("/a", "2"), put("/b", "1"), delete("/b")]),
    );
    assert_eq!(twice.events.len(), 1);
    assert_eq!(twice.events[0].previous, None);
    assert_eq!(twice.events[0].entry.as_ref().expect("entry").body(), b"2");
    assert_eq!(s.at(1).expect("past").count(b""), 0);
}

#[test]
fn pages_and_what_remains() {
    let mut s = State::new();
    apply(
        &mut s,
        then(
            (0..10)
                .map(|i| put(&format!("/p/{i}"), "x"))
                .chain([put("/o", ""), put("/q", "")])
                .collect(),
        ),
    );
    let page = s.range(b"/p/", None, 4);
    assert_eq!(
        (keys(&page), page.remaining),
        (vec!["/p/0".into(), "/p/1".into(), "/p/2".into(), "/p/3".into()], 6)
    );
    let page = s.range(b"/p/", Some(b"/p/3"), 6);
    assert_eq!((page.entries.len(), page.remaining), (6, 0));
    let page = s.range(b"/p/", Some(b"/p/9"), 6);
    assert_eq!((page.entries.len(), page.remaining), (0, 0));
    assert_eq!(s.range(b"", None, 0).entries.len(), 12);
    assert_eq!(s.count(b"/p/"), 10);
    assert_eq!(s.count(&[0xff]), 0);
}

#[test]
fn last_change_sees_deletions_and_outlives_compaction() {
    let mut s = State::new();
    apply(&mut s, then(vec![put("/r/pods/ns/a", ""), put("/r/nodes/n", "")])); // 2
    apply(&mut s, then(vec![put("/r/pods/ns/b", "")])); // 3
    apply(&mut s, then(vec![delete("/r/pods/ns/a")])); // 4
    assert_eq!(
        (
            s.last_change(b"/r/pods/"),
            s.last_change(b"/r/nodes/"),
            s.last_change(b"/r/")
        ),
        (4, 2, 4)
    );
    assert_eq!(s.last_change(b"/r/pods/ns/"), 4);
    s.compact(4);
    assert_eq!(s.last_change(b"/r/pods/"), 4);
}

#[test]
fn compaction_ends_the_past() {
    let mut s = State::new();
    for i in 0..5 {
        apply(&mut s, then(vec![put("/a", &i.to_string())]));
    }
    assert!(s.compact(4));
    assert!(!s.compact(4));
    assert!(matches!(s.at(3), Err(StoreError::Compacted { asked: 3, oldest: 4 })));
    assert!(matches!(
        s.at(9),
        Err(StoreError::FutureRevision { asked: 9, current: 6 })
    ));
    assert_eq!(s.at(4).expect("kept").get(b"/a").expect("a").body(), b"2");
    assert_eq!(s.events(b"", 4, 6).len(), 2);
    // Never beyond the present.
    s.compact(100);
    assert_eq!(s.compacted(), 6);
}

#[test]
fn history_is_bounded_by_count() {
    let mut s = State::new();
    for _ in 0..HISTORY_EVENTS_MAX + 10 {
        apply(&mut s, then(vec![put("/a", "")]));
    }
    assert!(s.history().len() <= HISTORY_EVENTS_MAX && s.compacted() > 1);
}

#[test]
fn marks_are_bounded_and_stay_right() {
    let mut s = State::new();
    for i in 0..MARKS_MAX * 2 {
        let key = format!("/r/g/k/ns{i}/o");
        apply(&mut s, then(vec![put(&key, "")]));
        let revision = apply(&mut s, then(vec![delete(&key)])).result.revision;
        assert_eq!(s.last_change(b"/r/g/k/"), revision);
    }
    assert!(s.marks().len() <= MARKS_MAX);
    assert!(s.last_change(b"/r/g/k/ns0/") >= 3);
}

#[test]
fn prefix_ends() {
    assert_eq!(prefix_end(b"/a/"), Some(b"/a0".to_vec()));
    assert_eq!(prefix_end(&[b'a', 0xff]), Some(b"b".to_vec()));
    assert_eq!(prefix_end(&[0xff]), None);
    assert_eq!(prefix_end(b""), None);
}

/// The naive model: every revision's whole map.
#[derive(Clone, Default)]
struct Model {
    states: Vec<BTreeMap<String, (String, u64, u64, u64)>>,
    changes: Vec<Vec<String>>,
}

fn arbitrary_op() -> impl Strategy<Value = Op> {
    let key = (0..3u8, 0..12u8).prop_map(|(d, k)| format!("/r/d{d}/{k}"));
    prop_oneof![
        5 => (key.clone(), "[a-c]{0,3}").prop_map(|(k, v)| put(&k, &v)),
        3 => key.clone().prop_map(|k| delete(&k)),
        1 => (0..4u8).prop_map(|d| Op::DeleteRange(KeyRange::prefix(format!("/r/d{d}/").into()))),
    ]
}

impl Model {
    fn now(&self) -> u64 {
        self.states.len() as u64
    }

    fn apply(&mut self, ops: &[Op]) {
        let old = self.states.last().cloned().unwrap_or_default();
        let (mut map, revision, mut changed) = (old, self.now() + 1, Vec::new());
        for op in ops {
            let hit: Vec<String> = match op {
                Op::Put { key, record } => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    let body = String::from_utf8_lossy(&record.body).into_owned();
                    let (_, create, _, version) = map.get(&key).cloned().unwrap_or((String::new(), revision, 0, 0));
                    map.insert(key.clone(), (body, create, revision, version + 1));
                    vec![key]
                }
                Op::Delete { key } => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    map.remove(&key).map(|_| key).into_iter().collect()
                }
                Op::DeleteRange(range) => {
                    let prefix = String::from_utf8_lossy(&range.start).into_owned();
                    let hit: Vec<String> = map.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
                    hit.iter().for_each(|k| {
                        map.remove(k);
                    });
                    hit
                }
                other => unreachable!("{other:?} is not drawn"),
            };
            changed.extend(hit);
        }
        if !changed.is_empty() {
            self.states.push(map);
            self.changes.push(changed);
        }
    }
}

fn dump(state: &State) -> BTreeMap<String, (String, u64, u64, u64)> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let all = state.range(b"", None, 0).entries;
    all.iter()
        .map(|e| {
            (
                text(e.key()),
                (text(e.body()), e.create_revision(), e.mod_revision(), e.version()),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_naive_model(
        txns in prop::collection::vec(prop::collection::vec(arbitrary_op(), 1..5), 1..60),
        compact_at in 0..60usize,
    ) {
        let mut state = State::new();
        let mut model = Model { states: vec![BTreeMap::new()], changes: vec![vec![]] };
        let mut held = Vec::new();
        for (i, ops) in txns.iter().enumerate() {
            if i == compact_at {
                state.compact(model.now() / 2);
            }
            held.push(state.clone());
            let applied = apply(&mut state, then(ops.clone()));
            model.apply(ops);
            prop_assert_eq!(applied.result.revision, model.now());
            state.tree().assert_sound();
            state.tree().rebuilt().assert_sound();
        }
        // Snapshots taken on the way were not disturbed by later writes.
        for snapshot in &held {
            prop_assert_eq!(&dump(snapshot), &model.states[snapshot.revision() as usize - 1]);
        }
        for revision in state.compacted()..=model.now() {
            let past = state.at(revision).expect("kept");
            prop_assert_eq!(&dump(&past), &model.states[revision as usize - 1]);
            for prefix in ["/r/", "/r/d0/", "/r/d1/", "/r/d1/1", "/r/d9/"] {
                let map = &model.states[revision as usize - 1];
                let under: Vec<_> = map.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
                prop_assert_eq!(past.count(prefix.as_bytes()), under.len());
                let page = past.range(prefix.as_bytes(), Some(format!("{prefix}1").as_bytes()), 2);
                let behind: Vec<_> = under.iter().filter(|k| k.as_str() > format!("{prefix}1").as_str()).cloned().collect();
                prop_assert_eq!(keys(&page), behind.iter().take(2).cloned().collect::<Vec<_>>());
                prop_assert_eq!(page.remaining, behind.len().saturating_sub(2));
            }
        }
        for prefix in ["/r/", "/r/d0/", "/r/d1/", "/r/d2/"] {
            let last = (1..=model.now()).rev()
                .find(|r| model.changes[*r as usize - 1].iter().any(|k| k.starts_with(prefix)));
            prop_assert_eq!(state.last_change(prefix.as_bytes()), last.unwrap_or(0));
        }
        // Replaying history from the compaction point leads to the present.
        let mut replay = dump(&state.at(state.compacted()).expect("kept"));
        for e in state.events(b"", state.compacted(), model.now()) {
            let key = String::from_utf8_lossy(e.key()).into_owned();
            prop_assert_eq!(replay.get(&key).map(|v| v.2), e.previous.as_ref().map(|p| p.mod_revision()));
            match &e.entry {
                Some(n) => {
                    let body = String::from_utf8_lossy(n.body()).into_owned();
                    replay.insert(key, (body, n.create_revision(), n.mod_revision(), n.version()));
                }
                None => { replay.remove(&key); }
            }
        }
        prop_assert_eq!(&replay, &model.states[model.now() as usize - 1]);
    }
}
