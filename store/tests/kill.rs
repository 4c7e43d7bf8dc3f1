//! kill -9 in the middle of writing, again and again: what was acknowledged is there.
//!
//! The test runs itself as a child, which writes and prints each key once its
//! transaction was acknowledged.

mod support;

use skiff_store::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use support::*;

const CHILD: &str = "SKIFF_STORE_KILL_DIR";
const ROUNDS: usize = 8;
const WRITERS: usize = 8;

/// Not a test by itself: the child's body, which does nothing in an ordinary run.
#[test]
fn child_writes_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(async {
        let store = RaftStore::open(StoreConfig::new(dir)).await.expect("open");
        let from = store.snapshot().revision();
        let tasks: Vec<_> = (0..WRITERS)
            .map(|w| {
                let store = store.clone();
                tokio::spawn(async move {
                    for i in 0.. {
                        let key = format!("/k/{from}/{w}/{i}");
                        let revision = store
                            .txn(put(&key, &key.repeat(1 + i % 40)))
                            .await
                            .expect("put")
                            .revision;
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "ack {key} {revision}")
                            .and_then(|()| out.flush())
                            .expect("print");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("writer");
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let mut acknowledged: Vec<(String, Revision)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "child_writes_until_killed",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("child");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout"))
            .lines()
            .map_while(Result::ok);
        // A different moment each round, counted in acknowledgements and not in time.
        let wanted = acknowledged.len() + 30 + 71 * round;
        let note = |line: String, all: &mut Vec<(String, Revision)>| {
            let mut words = line.split_whitespace().skip_while(|w| *w != "ack").skip(1);
            if let (Some(key), Some(revision)) = (words.next(), words.next().and_then(|r| r.parse().ok())) {
                all.push((key.to_string(), revision));
            }
        };
        while acknowledged.len() < wanted {
            note(
                lines.next().expect("the child goes on until it is killed"),
                &mut acknowledged,
            );
        }
        child.kill().expect("kill");
        // What it said before it died counts as well.
        lines.for_each(|line| note(line, &mut acknowledged));
        child.wait().expect("wait");
        if round % 3 == 2 {
            std::fs::remove_dir_all(dir.path().join("state")).expect("remove");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let store = RaftStore::open(StoreConfig::new(dir.path())).await.expect("open");
        let snapshot = store.snapshot();
        for (key, revision) in &acknowledged {
            let entry = snapshot
                .get(key.as_bytes())
                .unwrap_or_else(|| panic!("{key} was acknowledged and is lost"));
            assert_eq!(entry.mod_revision(), *revision, "{key}");
        }
        // Revisions were never given twice.
        let mut revisions: Vec<_> = snapshot
            .range(b"", None, 0)
            .entries
            .iter()
            .map(|e| e.mod_revision())
            .collect();
        revisions.sort_unstable();
        assert!(revisions.windows(2).all(|w| w[0] < w[1]));
        store.shutdown().await;
    });
    assert!(acknowledged.len() > 30 * ROUNDS);
}
