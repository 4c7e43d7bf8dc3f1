//! Which pods are bound, seen by one watch of a namespace.

use super::super::connection::{Call, Endpoint};
use anyhow::{Result, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Nothing was bound for so long: it will not be.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    bound: Mutex<HashMap<String, Instant>>,
    changed: Notify,
}

/// Ends its watch when dropped.
pub struct Seen {
    shared: Arc<Shared>,
    task: JoinHandle<Result<()>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(default)]
    name: &'a str,
}

impl Seen {
    /// Follows the namespace's pods that have a node.
    pub async fn start(endpoint: &Endpoint, namespace: &str) -> Result<Self> {
        let path =
            format!("/api/v1/namespaces/{namespace}/pods?watch=1&resourceVersion=0&fieldSelector=spec.nodeName%21%3D");
        let body = endpoint.connect_http2().await?.open(Call::get(path)).await?.into_body();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(follow(body, shared.clone()));
        Ok(Self { shared, task })
    }

    /// Waits until so many were seen bound; tells when each was.
    pub async fn bound(&self, count: usize) -> Result<HashMap<String, Instant>> {
        loop {
            let changed = self.shared.changed.notified();
            let seen = self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).len();
            if seen >= count {
                return Ok(self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
            if self.task.is_finished() || tokio::time::timeout(STALLED, changed).await.is_err() {
                bail!("only {seen} of {count} pods are bound");
            }
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut body: Incoming, shared: Arc<Shared>) -> Result<()> {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let Some(data) = frame.data_ref() else { continue };
        let now = Instant::now();
        rest.extend_from_slice(data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        {
            let mut bound = shared.bound.lock().unwrap_or_else(PoisonError::into_inner);
            for line in rest[..end].split(|byte| *byte == b'\n') {
                let line: Line<'_> = serde_json::from_slice(line)?;
                if line.kind == "ADDED" || line.kind == "MODIFIED" {
                    bound.entry(line.object.metadata.name.to_string()).or_insert(now);
                }
            }
        }
        rest.drain(..=end);
        shared.changed.notify_waiters();
    }
    Ok(())
}
