use super::*;
use crate::error::EndpointError;
use crate::runtime::{Caller, Container, MetricsPage, Streams};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

struct Fake(watch::Sender<bool>);

impl Fake {
    fn running(yes: bool) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(yes)))
    }
}

#[async_trait::async_trait]
impl Runtime for Fake {
    async fn container(&self, _: &str, _: &str, _: &str, _: bool) -> Result<Container, EndpointError> {
        Err(EndpointError::NotFound("none".into()))
    }
    async fn ended(&self, _: &str) {
        let _ = self.0.subscribe().wait_for(|running| !running).await;
    }
    async fn exec_url(&self, _: &str, _: &[String], _: Streams) -> Result<String, EndpointError> {
        Err(EndpointError::NotFound("none".into()))
    }
    async fn attach_url(&self, _: &str, _: Streams) -> Result<String, EndpointError> {
        Err(EndpointError::NotFound("none".into()))
    }
    async fn port_forward_url(&self, _: &str, _: &str, _: &[i32]) -> Result<String, EndpointError> {
        Err(EndpointError::NotFound("none".into()))
    }
    async fn run(&self, _: &str, _: &[String]) -> Result<Vec<u8>, EndpointError> {
        Err(EndpointError::NotFound("none".into()))
    }
    async fn review_token(&self, _: &str) -> Result<Option<Caller>, EndpointError> {
        Ok(None)
    }
    async fn may(&self, _: &Caller, _: &str, _: &str) -> Result<bool, EndpointError> {
        Ok(false)
    }
    fn node_name(&self) -> &str {
        "node"
    }
    async fn pods(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    async fn running_pods(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    async fn metrics(&self, _: MetricsPage) -> String {
        String::new()
    }
    async fn summary(&self, _: bool) -> serde_json::Value {
        serde_json::Value::Null
    }
    async fn configuration(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn about(&self, _: &str, _: &str) -> Result<(&'static str, String), &'static str> {
        Err("no such page")
    }
    async fn ailment(&self) -> Option<String> {
        None
    }
    fn system_logs(&self) -> &Path {
        Path::new("/nowhere")
    }
}

fn line(text: &str) -> String {
    format!("2026-01-01T00:00:01Z stdout F {text}\n")
}

fn options() -> LogOptions {
    LogOptions {
        stdout: true,
        stderr: true,
        ..LogOptions::default()
    }
}

fn start(running: Arc<Fake>, path: &Path, options: LogOptions) -> mpsc::Receiver<Result<Bytes, io::Error>> {
    let (sender, receiver) = mpsc::channel(16);
    let followed = Followed {
        runtime: running,
        notices: Arc::default(),
        container: "id".into(),
        path: path.to_path_buf(),
    };
    tokio::spawn(stream(followed, options, jiff::Timestamp::now(), sender));
    receiver
}

async fn next(receiver: &mut mpsc::Receiver<Result<Bytes, io::Error>>) -> Option<String> {
    let received = tokio::time::timeout(Duration::from_secs(10), receiver.recv())
        .await
        .expect("in time")?;
    Some(String::from_utf8(received.expect("read").to_vec()).expect("text"))
}

#[test]
fn tail_finds_the_last_lines_across_chunks() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let content: String = (0..5_000).map(|n| format!("{n:0>40}\n")).collect();
    std::fs::write(&path, &content).expect("written");
    let file = File::open(&path).expect("a file");
    for lines in [0, 1, 2, 3_000, 5_000, 9_999] {
        let expected = content.len() as u64 - 41 * lines.min(5_000);
        assert_eq!(tail_offset(&file, lines).expect("an offset"), expected, "{lines} lines");
    }
}

#[tokio::test]
async fn following_goes_on_through_rotation_and_ends_with_the_container() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    std::fs::write(&path, line("old") + &line("one")).expect("written");
    let fake = Fake::running(true);
    let mut receiver = start(
        fake.clone(),
        &path,
        LogOptions {
            follow: true,
            tail_lines: Some(1),
            ..options()
        },
    );
    assert_eq!(next(&mut receiver).await.as_deref(), Some("one\n"));
    let mut file = File::options().append(true).open(&path).expect("a file");
    file.write_all(line("two").as_bytes()).expect("written");
    assert_eq!(next(&mut receiver).await.as_deref(), Some("two\n"));
    std::fs::rename(&path, dir.path().join("0.log.1")).expect("renamed");
    file.write_all(line("last of the old file").as_bytes())
        .expect("written");
    std::fs::write(&path, line("three")).expect("written");
    assert_eq!(next(&mut receiver).await.as_deref(), Some("last of the old file\n"));
    assert_eq!(next(&mut receiver).await.as_deref(), Some("three\n"));
    fake.0.send_replace(false);
    assert_eq!(next(&mut receiver).await, None);
}

#[tokio::test]
async fn without_follow_it_ends_at_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    std::fs::write(&path, line("one") + "2026-01-01T00:00:01Z stdout F half a li").expect("written");
    let mut receiver = start(Fake::running(true), &path, options());
    assert_eq!(next(&mut receiver).await.as_deref(), Some("one\n"));
    assert_eq!(next(&mut receiver).await, None);
    let mut receiver = start(Fake::running(false), &dir.path().join("none"), options());
    assert_eq!(next(&mut receiver).await, None, "a missing file is an empty log");
}

/// Lines are written, and the log rotated, as fast as can be; followers begin at all times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_is_lost_or_doubled_across_rotations() {
    const LINES: usize = 20_000;
    const FOLLOWERS: usize = 40;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    std::fs::write(&path, "").expect("written");
    let fake = Fake::running(true);
    let notices = Arc::new(Notices::default());
    let mut readers = Vec::new();
    // Bytes that each has received.
    let progress: Arc<Vec<AtomicUsize>> = Arc::new((0..FOLLOWERS).map(|_| AtomicUsize::new(0)).collect());
    for number in 0..FOLLOWERS {
        let progress = progress.clone();
        let (sender, mut receiver) = mpsc::channel(4);
        let followed = Followed {
            runtime: fake.clone(),
            notices: notices.clone(),
            container: "id".into(),
            path: path.clone(),
        };
        let all = LogOptions {
            follow: true,
            ..options()
        };
        tokio::spawn(stream(followed, all, jiff::Timestamp::now(), sender));
        readers.push(tokio::spawn(async move {
            let mut text = Vec::new();
            while let Some(chunk) = receiver.recv().await {
                text.extend_from_slice(&chunk.expect("read"));
                progress[number].store(text.len(), Ordering::Relaxed);
            }
            String::from_utf8(text).expect("text")
        }));
    }
    // Followers that begin after the first rotation would miss what was rotated away, as upstream's do.
    while notices.followers() < FOLLOWERS {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = File::options().append(true).open(&path).expect("a file");
        let mut told = 0;
        for number in 0..LINES {
            file.write_all(line(&number.to_string()).as_bytes()).expect("written");
            told += format!("{number}\n").len();
            if number % 5_000 == 4_999 {
                std::fs::rename(&path, dir.path().join(format!("0.log.{number}"))).expect("renamed");
                let new = File::create(&path).expect("a file");
                // A writer that has not heard of the new file yet.
                file.write_all(line(&format!("{number} late")).as_bytes())
                    .expect("written");
                file = new;
                told += format!("{number} late\n").len();
                // Between two rotations pass ten seconds at least: nobody is two files behind.
                let behind = || progress.iter().any(|bytes| bytes.load(Ordering::Relaxed) < told);
                let begun = std::time::Instant::now();
                while behind() && begun.elapsed() < Duration::from_secs(60) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        dir
    });
    let _dir = writer.await.expect("written");
    fake.0.send_replace(false);
    let mut expected = String::new();
    for number in 0..LINES {
        expected += &format!("{number}\n");
        if number % 5_000 == 4_999 {
            expected += &format!("{number} late\n");
        }
    }
    for reader in readers {
        let text = reader.await.expect("read");
        assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
    }
    assert_eq!(notices.followers(), 0);
}
