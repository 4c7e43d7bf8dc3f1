//! How long after a write its watchers know of it.

use super::api::{collection, namespace_ready};
use super::connection::{Call, Connection, Endpoint};
use super::sample::Sample;
use super::table::Row;
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const WATCHERS: usize = 100;
const WRITES: u64 = 100;
/// Leaves the machine time to deliver to all, so that latency is not a queue's length.
const PAUSE: Duration = Duration::from_millis(25);
const LAST_MAX: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "bench-watch";
/// Stands in each object before the microseconds at which it was written.
const MARK: &[u8] = b"\"sent\":\"";

pub async fn measure(endpoint: &Endpoint) -> Result<Vec<Row>> {
    let mut writer = endpoint.connect().await?;
    namespace_ready(&mut writer, NAMESPACE).await?;
    let base = Instant::now();
    let created = writer
        .send(Call::with_body(Method::POST, collection(NAMESPACE), object(base)))
        .await?;
    let created: Value = serde_json::from_slice(&created)?;
    let version = created["metadata"]["resourceVersion"]
        .as_str()
        .context("it has a version")?;
    let path = format!(
        "{}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched",
        collection(NAMESPACE)
    );
    let opened = (0..WATCHERS).map(|_| async {
        let mut connection = endpoint.connect().await?;
        let response = connection.open(Call::get(path.clone())).await?;
        anyhow::Ok((connection, response.into_body()))
    });
    let watchers: Vec<_> = try_join_all(opened)
        .await?
        .into_iter()
        .map(|(connection, body)| tokio::spawn(latencies(connection, body, base)))
        .collect();
    let mut writes = Vec::new();
    for _ in 0..WRITES {
        let call = Call::with_body(Method::PUT, format!("{}/watched", collection(NAMESPACE)), object(base));
        let sent = Instant::now();
        writer.send(call).await?;
        writes.push(sent.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let mut all = Vec::new();
    for watcher in watchers {
        let seen = tokio::time::timeout(LAST_MAX, watcher)
            .await
            .context("events are missing")???;
        all.extend(seen);
    }
    let expected = WATCHERS * usize::try_from(WRITES)?;
    ensure!(all.len() == expected, "{} of {expected} events arrived", all.len());
    Ok(vec![
        Row::new(
            format!("watch: write sent to event seen, {WATCHERS} watchers, p50 / p99"),
            Sample::new(all).told(),
        ),
        Row::new(
            "  of that, the write's own answer, p50 / p99",
            Sample::new(writes).told(),
        ),
    ])
}

fn object(base: Instant) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "watched"},
        "data": {"sent": base.elapsed().as_micros().to_string(), "value": "x".repeat(1024)},
    })
    .to_string()
}

/// Until all writes were seen. The connection lives as long as its body is read.
async fn latencies(connection: Connection, mut body: Incoming, base: Instant) -> Result<Vec<Duration>> {
    let mut taken = Vec::new();
    let mut pending = Vec::new();
    while taken.len() < usize::try_from(WRITES)? {
        let frame = body.frame().await.context("the watch ended")??;
        let now = base.elapsed();
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            taken.extend(sent(&pending[..end]).map(|sent| now.saturating_sub(sent)));
            pending.drain(..=end);
        }
    }
    drop(connection);
    Ok(taken)
}

fn sent(line: &[u8]) -> Option<Duration> {
    let at = line.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let text: String = digits.map(|byte| char::from(*byte)).collect();
    text.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_when_it_was_sent() {
        let line = br#"{"type":"MODIFIED","object":{"data":{"sent":"1234","value":"x"}}}"#;
        assert_eq!(sent(line), Some(Duration::from_micros(1234)));
        assert_eq!(sent(b"{\"type\":\"BOOKMARK\"}"), None);
    }
}
