//! Where the figures were taken: a number means nothing without its machine
//! and what else ran there.

use super::sample::{Sample, duration};
use super::table::{Row, Table};
use anyhow::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Enough for a median; each may take milliseconds on a slow disk.
const SYNCS: u64 = 60;

/// Measures and prints the table beneath what it was taken on, also when a part fails.
/// `note` is added to the line that tells the load.
pub async fn table(
    dir: &Path,
    note: &str,
    rows: Vec<Row>,
    measure: impl AsyncFnOnce(&mut Table) -> Result<()>,
) -> Result<()> {
    let header = describe(dir);
    let mut table = Table { header, rows };
    let before = load();
    let outcome = measure(&mut table).await;
    let after = load();
    table
        .header
        .push(format!("load (1, 5, 15 min): {before} before, {after} after{note}"));
    table.header.push(String::new());
    println!("{table}");
    outcome
}

/// Lines for the table's head; `dir` is on the disk that the store writes to.
fn describe(dir: &Path) -> Vec<String> {
    let profile = if cfg!(debug_assertions) {
        "debug build: these are NOT the figures"
    } else {
        "release build"
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name))
        .unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let sync = match sync_latency(dir) {
        Ok(sample) => format!(
            "4 KiB write and fdatasync p50 {} p99 {}",
            duration(sample.p50()),
            duration(sample.p99())
        ),
        Err(error) => format!("cannot be measured: {error:#}"),
    };
    vec![
        format!(
            "skiff {}, commit {}, {profile}, {}",
            env!("CARGO_PKG_VERSION"),
            said("git", &["rev-parse", "--short", "HEAD"]),
            said("date", &["-u", "+%FT%TZ"])
        ),
        format!(
            "machine: {cores} x {model}, {} GiB, Linux {}; the clients run on it too",
            memory_kib >> 20,
            read("/proc/sys/kernel/osrelease").trim()
        ),
        format!(
            "disk: {} on {}; {sync}",
            said("stat", &["-f", "-c", "%T", &dir.to_string_lossy()]),
            device(&said("df", &["--output=source", &dir.to_string_lossy()])),
        ),
        format!("runtime: {}", said("containerd", &["--version"])),
    ]
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn device(df: &str) -> &str {
    df.lines().last().unwrap_or("unknown").trim()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    match text {
        Ok(text) if !text.is_empty() => text,
        _ => format!("unknown ({program} does not say)"),
    }
}

/// The floor of every acknowledged write.
fn sync_latency(dir: &Path) -> Result<Sample> {
    let path = dir.join("sync-latency");
    let file = File::create(&path)?;
    let block = [7_u8; 4096];
    let mut taken = Vec::new();
    for at in 0..SYNCS {
        let begun = Instant::now();
        file.write_all_at(&block, at * 4096)?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(Sample::new(taken))
}
