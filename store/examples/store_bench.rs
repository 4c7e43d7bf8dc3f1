//! Figures of the store: transactions a second, latency, memory by key, and opening time.
//!
//! `cargo run -p skiff-store --release --example store_bench [DIR]`. A lone writer's rate is
//! given beside that of bare write + fdatasync on the same file system.

use bytes::Bytes;
use skiff_store::*;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: usize = 100_000;
const BODY: usize = 1024;
const RUN: Duration = Duration::from_secs(4);

fn rss_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1))
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn put(key: String, body: &Bytes) -> Txn {
    let labels = [("app", "web"), ("tier", "front")].into_iter().collect();
    let header = Arc::new(Header {
        labels,
        fields: Pairs::default(),
        rv_offset: 40,
    });
    let op = Op::Put {
        key: key.into(),
        record: Record {
            header,
            body: body.clone(),
        },
    };
    Txn {
        then: vec![op],
        ..Txn::default()
    }
}

fn percentile(sorted: &[Duration], p: f64) -> Duration {
    sorted
        .get(((sorted.len() as f64 * p) as usize).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

async fn writers(store: &Arc<RaftStore>, count: usize, body: &Bytes) -> (f64, Duration, Duration) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|w| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while started.elapsed() < RUN {
                    let at = Instant::now();
                    let key = format!("/registry/bench/w{w}/{}", took.len() % 64);
                    store.txn(put(key, &body)).await.expect("the bench's writes succeed");
                    took.push(at.elapsed());
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("a writer ends well"));
    }
    let rate = all.len() as f64 / started.elapsed().as_secs_f64();
    all.sort_unstable();
    (rate, percentile(&all, 0.5), percentile(&all, 0.99))
}

fn bare_syncs(dir: &Path) -> f64 {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(dir.join("bare"));
    let file = file.expect("a file in the bench's directory");
    file.write_all_at(&vec![0; 8 << 20], 0)
        .and_then(|()| file.sync_all())
        .expect("a write");
    let (started, mut count) = (Instant::now(), 0u64);
    while started.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&[7; BODY + 128], (count * (BODY as u64 + 128)) % (7 << 20))
            .expect("a write");
        file.sync_data().expect("a sync");
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

async fn open(dir: &Path) -> (Arc<RaftStore>, Duration) {
    let at = Instant::now();
    let store = RaftStore::open(StoreConfig::new(dir)).await.expect("the store opens");
    (store, at.elapsed())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(bench());
}

async fn bench() {
    let base = std::env::args().nth(1).unwrap_or_else(|| "/tmp".into());
    let dir = Path::new(&base).join(format!("skiff-store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the bench's directory");
    let body = Bytes::from(vec![b'x'; BODY]);
    println!("bare write + fdatasync     {:>9.0}/s", bare_syncs(&dir));
    let (store, took) = open(&dir.join("store")).await;
    println!("open, empty                {:>9.1} ms", took.as_secs_f64() * 1e3);
    for count in [1, 16, 256] {
        let (rate, p50, p99) = writers(&store, count, &body).await;
        println!("{count:>3} writers                {rate:>9.0}/s   p50 {p50:?}  p99 {p99:?}");
    }
    let revision = store.snapshot().revision();
    store.compact(revision).await.expect("compacting");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, started) = (rss_kib(), Instant::now());
    let next = Arc::new(AtomicU64::new(0));
    let loaders: Vec<_> = (0..128)
        .map(|_| {
            let (store, body, next) = (store.clone(), body.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed) as usize;
                    if i >= KEYS {
                        break;
                    }
                    let key = format!("/registry/configmaps/ns{}/object-{i:06}", i % 50);
                    store.txn(put(key, &body)).await.expect("a load");
                }
            })
        })
        .collect();
    for loader in loaders {
        loader.await.expect("a loader ends well");
    }
    println!(
        "load {KEYS} x {BODY} B       {:>9.0}/s",
        KEYS as f64 / started.elapsed().as_secs_f64()
    );
    let revision = store.snapshot().revision();
    store.compact(revision).await.expect("compacting");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = rss_kib().saturating_sub(before) * 1024;
    println!(
        "RSS {} MiB; by key          {:>9} B ({} B of it the body)",
        rss_kib() / 1024,
        grown / KEYS,
        BODY
    );
    let snapshot = store.snapshot();
    let at = Instant::now();
    let page = snapshot.range(b"/registry/configmaps/", None, 500);
    println!(
        "page of 500 of {:<9}   {:>9.1} us",
        page.remaining + 500,
        at.elapsed().as_secs_f64() * 1e6
    );
    let (rate, p50, p99) = writers(&store, 1, &body).await;
    println!("  1 writer, 100k keys      {rate:>9.0}/s   p50 {p50:?}  p99 {p99:?}");
    drop(snapshot);
    store.shutdown().await;
    drop(store);
    let (store, took) = open(&dir.join("store")).await;
    println!("open, 100k keys            {:>9.1} ms", took.as_secs_f64() * 1e3);
    store.shutdown().await;
    drop(store);
    std::fs::remove_dir_all(dir.join("store/state")).expect("removing the state database");
    let (store, took) = open(&dir.join("store")).await;
    println!("  from snapshot and log    {:>9.1} ms", took.as_secs_f64() * 1e3);
    store.shutdown().await;
    let _ = std::fs::remove_dir_all(&dir);
}
