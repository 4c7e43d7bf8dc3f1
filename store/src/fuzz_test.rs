//! Every decoder of what comes from a disk or from another server, on noise and on damaged
//! copies of what is right, also where the checksums hold: none may panic, hang, or take
//! memory that the input does not account for. `PROPTEST_CASES` says how long.

use crate::codec::{self, Plain};
use crate::contract::*;
use crate::host::{Disk, OsDisk, Stream};
use crate::log::Log;
use crate::mvcc::State;
use crate::peers::wire::{self, Question, Refusal, Reply, Route, SnapshotHead, SnapshotReply};
use crate::raft_types::*;
use crate::{backup, snapshot};
use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// One way to damage bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    /// Numbers where lengths and counts may be.
    Huge(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index),
}

const HUGE: [&[u8]; 4] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff; 12],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f],
];

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = any::<prop::sample::Index>;
    let one = prop_oneof![
        4 => (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), 0..HUGE.len()).prop_map(|(at, which)| Damage::Huge(at, which)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ];
    prop::collection::vec(one, 1..4)
}

fn damaged(bytes: &[u8], damage: &[Damage]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for one in damage {
        let place = |at: &prop::sample::Index| at.index(out.len().max(1)).min(out.len());
        match one {
            Damage::Flip(at, bits) => {
                let at = place(at);
                out.iter_mut().skip(at).take(1).for_each(|b| *b ^= bits);
            }
            Damage::Cut(at) => {
                let at = place(at);
                out.truncate(at);
            }
            Damage::Huge(at, which) => {
                let at = place(at);
                let end = (at + HUGE[*which].len()).min(out.len());
                out.splice(at..end, HUGE[*which].iter().copied());
            }
            Damage::Insert(at, bytes) => {
                let at = place(at);
                out.splice(at..at, bytes.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let (from, to) = (place(from), place(to));
                let piece = out[from.min(to)..from.max(to)].to_vec();
                out.splice(from..from, piece);
            }
        }
    }
    out
}

fn leader(term: u64) -> LogId {
    LogId::new(openraft::impls::leader_id_adv::LeaderId { term, node_id: 1 }, 7)
}

fn txn() -> Arc<Txn> {
    let key = |name: &str| Bytes::copy_from_slice(name.as_bytes());
    let record = Record {
        header: Arc::new(Header {
            labels: [("app", "web")].into_iter().collect(),
            fields: [("spec.nodeName", "n1")].into_iter().collect(),
            rv_offset: 9,
        }),
        body: Bytes::from_static(b"a body"),
    };
    let test = Test {
        range: KeyRange::prefix(key("/p/")),
        relation: Relation::Less,
        target: Target::Body(Bytes::from_static(b"b")),
    };
    let inner = Txn {
        compare: vec![Compare::Test(Box::new(test))],
        then: vec![Op::DeleteRange(KeyRange::prefix(key("/p/")))],
        or_else: vec![Op::Get { key: key("/q") }],
    };
    Arc::new(Txn {
        compare: vec![Compare::ModRevision(key("/k"), 300)],
        then: vec![
            Op::Put {
                key: key("/k"),
                record: record.clone(),
            },
            Op::PutWith {
                key: key("/l"),
                record: Some(record),
                lease: Some(77),
            },
            Op::Txn(Box::new(inner)),
        ],
        or_else: vec![Op::Delete { key: key("/k") }],
    })
}

fn commands() -> Vec<Command> {
    let tag = Tag {
        origin: 3,
        boot: 2,
        number: 500,
        settled: 400,
    };
    vec![
        Command::Txn(txn()),
        Command::Compact(900),
        Command::Grant(Lease { id: 77, ttl_s: 60 }),
        Command::Revoke(77),
        Command::Alarm { server: 2, on: true },
        Command::Once(tag, Box::new(Command::Txn(txn()))),
        Command::Batch(vec![
            Command::Revoke(77),
            Command::Once(tag, Box::new(Command::Compact(900))),
        ]),
    ]
}

fn membership() -> Membership {
    let nodes = [1, 2, 3].map(|id| (id, openraft::BasicNode::new(format!("10.0.0.{id}:6443"))));
    Membership::new(
        vec![[1, 2].into(), [1, 2, 3].into()],
        std::collections::BTreeMap::from(nodes),
    )
    .expect("a membership")
}

/// Each with what reads it, which is to come to an end.
fn messages() -> Vec<(Bytes, fn(Bytes))> {
    let route = Route {
        to: 2,
        from: 1,
        group: 900,
    };
    let mut out: Vec<(Bytes, fn(Bytes))> = Vec::new();
    for command in commands() {
        let mut bytes = Vec::new();
        codec::put_command(&mut bytes, &command, &Plain);
        out.push((bytes.into(), |b| drop(codec::read_command(b, &Plain))));
        let question = wire::put_question(route, &Question::Propose(command.clone()));
        out.push((question, |b| drop(wire::read_question(b))));
        let mut bytes = Vec::new();
        let entry = RaftEntry {
            log_id: leader(3),
            payload: openraft::EntryPayload::Normal(command),
        };
        codec::put_raft_entry(&mut bytes, &entry, &Plain);
        out.push((bytes.into(), |b| drop(codec::read_raft_entry(b, &Plain))));
    }
    let entries = vec![
        RaftEntry {
            log_id: leader(3),
            payload: openraft::EntryPayload::Membership(membership()),
        },
        RaftEntry {
            log_id: leader(3),
            payload: openraft::EntryPayload::Normal(Command::Txn(txn())),
        },
    ];
    let append = AppendEntriesRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(leader(2)),
        leader_commit: None,
        entries,
    };
    out.push((wire::put_append(route, &append), |b| drop(wire::read_append(b))));
    let meta = SnapshotMeta {
        last_log_id: Some(leader(3)),
        last_membership: StoredMembership::new(Some(leader(2)), membership()),
    };
    let head = SnapshotHead {
        vote: Vote::new(3, 1),
        meta,
        name: "00-01.snap".into(),
        bytes: 1 << 40,
    };
    out.push((wire::put_snapshot_head(route, &head), |b| {
        drop(wire::read_snapshot_head(b))
    }));
    let reply = Reply::Refused(Refusal::Failed("no room".into()));
    out.push((wire::put_reply(&reply), |b| drop(wire::read_reply(b))));
    let add = Question::AddMember {
        id: 4,
        address: "10.0.0.4:6443".into(),
        voter: true,
    };
    out.push((wire::put_question(route, &add), |b| drop(wire::read_question(b))));
    let failed = SnapshotReply::Failed("no room".into());
    out.push((wire::put_snapshot_reply(&failed), |b| {
        drop(wire::read_snapshot_reply(b))
    }));
    out.push((wire::put_append_result(&Ok(Some(leader(3)))), |b| {
        drop(wire::read_append_result(b))
    }));
    out
}

fn point() -> snapshot::Point {
    let mut state = State::new();
    state.grant(Lease { id: 77, ttl_s: 60 }).expect("granted");
    for _ in 0..3 {
        state.apply(&txn()).expect("applied");
    }
    state.alarm(2, true);
    let tag = Tag {
        origin: 3,
        boot: 2,
        number: 5,
        settled: 4,
    };
    state.sessions_mut().begin(&tag);
    snapshot::Point {
        state,
        last: Some(leader(3)),
        membership: StoredMembership::new(Some(leader(2)), membership()),
    }
}

fn read_snapshot(dir: &Path, bytes: &[u8]) {
    let path = dir.join("a.snap");
    std::fs::write(&path, bytes).expect("written");
    let _ = (
        snapshot::read(&OsDisk, &path, &Plain),
        snapshot::verify(&OsDisk, &path),
        snapshot::read_meta(&OsDisk, &path),
    );
}

/// The same blocks with other contents, whose checksums are right.
fn with_damaged_block(bytes: &[u8], which: prop::sample::Index, damage: &[Damage]) -> Vec<u8> {
    let (mut blocks, mut at) = (Vec::new(), 16);
    while at + 8 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        blocks.push(bytes[at + 8..at + 8 + length].to_vec());
        at += 8 + length;
    }
    let which = which.index(blocks.len());
    blocks[which] = damaged(&blocks[which], damage);
    let mut out = bytes[..16].to_vec();
    for block in blocks {
        out.extend_from_slice(&(block.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
        out.extend_from_slice(&block);
    }
    out
}

proptest! {
    #[test]
    fn messages_and_commands(damage in damage(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        for (bytes, read) in messages() {
            read(Bytes::from(damaged(&bytes, &damage)));
            read(Bytes::from(noise.clone()));
        }
    }

    #[test]
    fn snapshots(damage in damage(), which in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().expect("a directory");
        let (whole, _) = snapshot::write_into(Vec::new(), &point(), &Plain).expect("written");
        read_snapshot(dir.path(), &damaged(&whole, &damage));
        read_snapshot(dir.path(), &noise);
        read_snapshot(dir.path(), &with_damaged_block(&whole, which, &damage));
        let path = dir.path().join("a.skiff");
        let files = [backup::SecretFile { path: "server/tls/a.key".into(), bytes: b"secret".to_vec() }];
        let source = backup::Source {
            point: &point(),
            seal: &Plain,
            files: Some((&files, &[3; 32])),
            server: 1,
            created_ms: 1,
            made_by: "test",
        };
        backup::write(&crate::host::OsDisk, &path, &source).expect("written");
        let whole = std::fs::read(&path).expect("read");
        for bytes in [damaged(&whole, &damage), noise] {
            std::fs::write(&path, &bytes).expect("written");
            let _ = backup::describe(&path);
            prop_assert!(bytes == whole || backup::check(&path).is_err());
        }
    }

    #[test]
    fn logs(damage in damage(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut frames = crate::log::segment_for_tests(&messages().into_iter().map(|(b, _)| b).collect::<Vec<_>>());
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        for bytes in [damaged(&frames, &damage), noise, std::mem::take(&mut frames)] {
            let dir = tempfile::tempdir().expect("a directory");
            std::fs::write(dir.path().join("0000000000000001.log"), bytes).expect("written");
            // Refused or taken; the log's own segments are small here.
            drop(Log::open(&disk, dir.path(), 64 << 10, Arc::new(Plain)));
        }
    }
}

#[test]
fn what_is_right_is_read() {
    for (bytes, _) in messages() {
        assert!(!bytes.is_empty());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.snap");
    let (whole, _) = snapshot::write_into(Vec::new(), &point(), &Plain).expect("written");
    std::fs::write(&path, &whole).expect("written");
    let read = snapshot::read(&OsDisk, &path, &Plain).expect("read");
    assert_eq!(read.state.alarms().len(), 1);
    let file = OsDisk.open(&path, crate::host::Open::Read).expect("opened");
    snapshot::read_from(&path, Stream { file, at: 0 }, &Plain).expect("read");
}
