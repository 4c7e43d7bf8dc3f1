//! sled's files: whose they are, and what they take after a day of what a cluster at rest writes.

use super::*;
use crate::codec::Plain;
use crate::host::OsDisk;
use crate::raft_types::{LeaderId, LogId};

/// Seconds of a day; others with `SKIFF_CHURN_SECONDS`.
const SECONDS: u64 = 86_400;

/// Nodes, in tens; others with `SKIFF_CHURN_TENS`.
const TENS: u64 = 1;

fn asked(name: &str, otherwise: u64) -> u64 {
    let asked = std::env::var(name).ok().and_then(|s| s.parse().ok());
    asked.unwrap_or(otherwise)
}

/// What this process has had the kernel write.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}

#[test]
fn what_another_holds_is_waited_for_and_never_made_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || StateDb::open(&OsDisk, dir.path(), Arc::new(Plain));
    let mut first = open().expect("opened");
    let mut point = first.point().clone();
    point.last = Some(LogId::new(LeaderId { term: 1, node_id: 1 }, 7));
    first.advance(point.clone()).expect("written");
    let error = open().err().expect("it is held");
    let held = matches!(&error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock);
    assert!(held, "{error:?}");
    let closed = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(first);
    });
    assert_eq!(open().expect("let go meanwhile").point().last, point.last);
    closed.join().expect("closed");
}

/// Ten nodes (or tens of them) that renew a lease every ten seconds, for each ten an event every
/// ten seconds that is gone after an hour, history of five minutes: written every second, as a
/// server does. ARCHITECTURE.md has what came of it.
#[test]
#[ignore = "takes minutes: run by make test-long"]
fn a_day_of_leases_and_events_does_not_grow() {
    let (seconds, tens) = (asked("SKIFF_CHURN_SECONDS", SECONDS), asked("SKIFF_CHURN_TENS", TENS));
    let dir = tempfile::tempdir().expect("a directory");
    let mut db = StateDb::open(&OsDisk, dir.path(), Arc::new(Plain)).expect("opened");
    let mut point = db.point().clone();
    let put = |key: String, bytes: usize, n: u64| Txn {
        then: vec![Op::Put {
            key: key.into(),
            record: Record {
                body: format!("{n:0bytes$}").into(),
                ..Record::default()
            },
        }],
        ..Txn::default()
    };
    let bytes_on_disk = || -> u64 {
        let mut sum = 0;
        let mut folders = vec![dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                    Ok(meta) => sum += std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
                    Err(_) => {}
                }
            }
        }
        sum
    };
    let (mut compacted, mut highest, mut fed) = (0, 0, 0);
    for second in 0..seconds {
        let mut txns = Vec::new();
        for ten in 0..tens {
            txns.push(put(format!("/registry/leases/node-{ten}{}", second % 10), 600, second));
            if second % 10 == ten % 10 {
                let event = |second: u64| format!("/registry/events/default/{ten}-{second}");
                txns.push(put(event(second), 900, second));
                if second >= 3600 {
                    txns.push(Txn {
                        then: vec![Op::Delete {
                            key: event(second - 3600).into(),
                        }],
                        ..Txn::default()
                    });
                }
                fed += 900;
            }
            fed += 600;
        }
        for txn in txns {
            point.state.apply(&txn).expect("applied");
        }
        if second % 150 == 149 {
            point.state.compact(compacted);
            compacted = point.state.revision();
        }
        db.advance(point.clone()).expect("written");
        if second % 3600 == 3599 {
            let now = bytes_on_disk();
            highest = highest.max(now);
            eprintln!(
                "after {} h: {} KiB in sled's files, {} KiB of keys, values and history; {} MiB written for {} MiB of values",
                (second + 1) / 3600,
                now >> 10,
                point.state.bytes() >> 10,
                written_bytes() >> 20,
                fed >> 20,
            );
        }
    }
    let most = (64 << 20) + 16 * point.state.bytes();
    assert!(highest < most, "sled's files came to {highest} bytes");
    drop(db);
    let begun = std::time::Instant::now();
    let again = StateDb::open(&OsDisk, dir.path(), Arc::new(Plain)).expect("opened again");
    eprintln!("opened again in {} ms", begun.elapsed().as_millis());
    assert_eq!(again.point().state.revision(), point.state.revision());
    assert_eq!(sums_of(&again.point().state), sums_of(&point.state));
}
