//! The invariants against histories that are made up: each must be found wrong, and the
//! right one beside it must pass.

use crate::clients::{Action, Glance, Outcome, Record, Watched};
use crate::invariants::{Report, durable, glances, leases, linearizable, once, order, watches};
use crate::observer::Change;

/// Client, object, action, asked, answered, what was answered, at which revision.
type Row = (u64, &'static str, Action, u64, u64, Outcome, u64);

fn records(rows: &[Row]) -> Vec<Record> {
    let record = |(client, object, action, invoked, returned, outcome, revision): &Row| Record {
        client: *client,
        object: (*object).into(),
        action: *action,
        invoked: *invoked,
        returned: *returned,
        outcome: *outcome,
        revision: *revision,
        server: 1,
    };
    rows.iter().map(record).collect()
}

use Action::{Put, Read, Swap};
use Outcome::{Done, Found, Never, Unknown};

const fn read(client: u64, at: (u64, u64), value: Option<u64>) -> Row {
    (client, "/k", Read, at.0, at.1, Found(value), 0)
}

#[test]
fn what_no_order_explains_is_found() {
    let put = |client, at: (u64, u64), value, outcome| -> Row { (client, "/k", Put(value), at.0, at.1, outcome, 0) };
    let swap = |at: (u64, u64), from, to, outcome| -> Row { (9, "/k", Swap(from, to), at.0, at.1, outcome, 0) };
    let cases: &[(&str, bool, Vec<Row>)] = &[
        ("in turn", true, vec![put(1, (1, 2), 7, Done), read(2, (3, 4), Some(7))]),
        ("lost", false, vec![put(1, (1, 2), 7, Done), read(2, (3, 4), None)]),
        (
            "at the same time",
            true,
            vec![put(1, (1, 4), 7, Done), read(2, (2, 3), None)],
        ),
        (
            "back in time",
            false,
            vec![put(1, (1, 8), 7, Done), read(2, (2, 3), Some(7)), read(3, (4, 5), None)],
        ),
        (
            "never done",
            false,
            vec![put(1, (1, 2), 7, Never), read(2, (3, 4), Some(7))],
        ),
        (
            "done late",
            true,
            vec![
                put(1, (1, 2), 7, Unknown),
                read(2, (3, 4), None),
                read(2, (5, 6), Some(7)),
            ],
        ),
        (
            "done late, seen by what came of it",
            true,
            vec![
                put(1, (1, 2), 7, Unknown),
                swap((3, 4), Some(7), Some(8), Unknown),
                read(2, (5, 6), Some(8)),
            ],
        ),
        (
            "done late, and undone",
            false,
            vec![
                put(1, (1, 2), 7, Unknown),
                read(2, (3, 4), Some(7)),
                read(2, (5, 6), None),
            ],
        ),
        (
            "two of one value",
            false,
            vec![
                put(1, (1, 2), 1, Done),
                swap((3, 5), Some(1), Some(2), Done),
                swap((4, 6), Some(1), Some(3), Done),
            ],
        ),
        (
            "a swap that found what it expected",
            false,
            vec![put(1, (1, 2), 1, Done), swap((3, 4), Some(1), Some(2), Found(Some(1)))],
        ),
        (
            "two that crossed",
            false,
            vec![
                put(1, (1, 10), 1, Done),
                put(2, (2, 11), 2, Done),
                read(3, (12, 13), Some(1)),
                read(3, (14, 15), Some(2)),
            ],
        ),
    ];
    for (name, right, rows) in cases {
        let found = linearizable::check(&records(rows));
        assert_eq!(found.is_ok(), *right, "{name}: {found:?}");
    }
}

fn change(value: Option<u64>) -> Vec<Change> {
    vec![Change {
        key: "/k".into(),
        value,
        version: 1,
        lease: 5,
    }]
}

/// Two writes, each told to a client and to a watcher.
fn right() -> Report {
    let finals = [("/k".to_string(), 2)].into_iter().collect();
    Report {
        history: [(3, change(Some(1))), (4, change(Some(2)))].into_iter().collect(),
        records: records(&[(1, "/k", Put(1), 1, 2, Done, 3), (1, "/k", Put(2), 3, 4, Done, 4)]),
        glances: vec![Glance {
            server: 1,
            revision: 3,
            key: "/k".into(),
            value: Some(1),
        }],
        watched: vec![Watched {
            events: vec![(3, "/k".into(), Some(1)), (4, "/k".into(), Some(2))],
            progress: vec![(3, 1), (4, 2)],
            jumps: vec![(0, 1)],
        }],
        revoked: vec![(6, 1)],
        finals: [(1, (4, finals))].into_iter().collect(),
    }
}

#[test]
fn each_invariant_finds_its_fault() {
    assert_eq!(right().check(), Ok(()));
    type Spoil = fn(&mut Report);
    type Check = fn(&Report) -> Result<(), String>;
    let cases: &[(&str, Spoil, Check)] = &[
        (
            "applied twice",
            |r| drop(r.history.insert(5, change(Some(1)))),
            once::check,
        ),
        ("promised not to be done", |r| r.records[0].outcome = Never, once::check),
        ("acknowledged and lost", |r| drop(r.history.remove(&3)), durable::check),
        ("acknowledged elsewhere", |r| r.records[0].revision = 4, durable::check),
        (
            "a server without it",
            |r| drop(r.finals.insert(2, (4, Default::default()))),
            durable::check,
        ),
        ("out of order", |r| r.records[1].revision = 3, order::check),
        ("a stale server's state", |r| r.glances[0].value = None, glances::check),
        (
            "a watch with a hole",
            |r| drop(r.watched[0].events.remove(0)),
            watches::check,
        ),
        (
            "a watch of too much",
            |r| r.watched[0].events.push((5, "/k".into(), None)),
            watches::check,
        ),
        (
            "progress too early",
            |r| r.watched[0].progress.push((4, 1)),
            watches::check,
        ),
        ("a key after its lease", |r| r.revoked.push((5, 3)), leases::check),
        (
            "a lease without end",
            |r| {
                drop(
                    r.finals
                        .insert(1, (4, [("/lease/1".to_string(), 1)].into_iter().collect())),
                )
            },
            leases::check,
        ),
    ];
    for (name, spoil, check) in cases {
        let mut report = right();
        spoil(&mut report);
        assert!(check(&report).is_err(), "{name}");
    }
}
