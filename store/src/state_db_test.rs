//! What sled's files take after a day of what a cluster at rest writes.

use super::*;
use crate::codec::Plain;
use crate::host::OsDisk;

/// Seconds of a day; less with `SKIFF_CHURN_SECONDS`.
const SECONDS: u64 = 86_400;

/// Ten nodes that renew a lease every ten seconds, an event every ten seconds that is gone
/// after an hour, history of five minutes: written every second, as a server does.
#[test]
#[ignore = "takes minutes: run by make test-long"]
fn a_day_of_leases_and_events_does_not_grow() {
    let seconds = std::env::var("SKIFF_CHURN_SECONDS").ok().and_then(|s| s.parse().ok());
    let seconds: u64 = seconds.unwrap_or(SECONDS);
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
    let (mut compacted, mut highest) = (0, 0);
    for second in 0..seconds {
        let mut txns = vec![put(format!("/registry/leases/node-{}", second % 10), 600, second)];
        if second % 10 == 0 {
            txns.push(put(format!("/registry/events/default/{second}"), 900, second));
            if second >= 3600 {
                txns.push(Txn {
                    then: vec![Op::Delete {
                        key: format!("/registry/events/default/{}", second - 3600).into(),
                    }],
                    ..Txn::default()
                });
            }
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
                "after {} h: {} KiB in sled's files, {} KiB of keys, values and history",
                (second + 1) / 3600,
                now >> 10,
                point.state.bytes() >> 10
            );
        }
    }
    assert!(highest < 256 << 20, "sled's files came to {highest} bytes");
}
