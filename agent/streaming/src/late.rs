//! What an attach came too late for: a process that printed and ended just while
//! somebody attached to it. The runtime gives an attach only what is written from
//! then on; what was written before is in the log.

use crate::logs;
use crate::runtime::{Container, Runtime};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Who attaches to an older container wants what comes, not what was.
const YOUNG: Duration = Duration::from_secs(10);
/// The runtime learns of the end a moment after the streams have ended.
const END_KNOWN_MAX: Duration = Duration::from_secs(2);
/// Logs are rotated at 10 MiB.
const LOG_BYTES_MAX: usize = 16 << 20;

pub struct Late {
    runtime: Arc<dyn Runtime>,
    id: String,
    log: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub stderr: bool,
    pub bytes: Bytes,
}

impl Late {
    /// `None` when the container has run for a while.
    pub fn of(runtime: Arc<dyn Runtime>, container: &Container, now: jiff::Timestamp) -> Option<Self> {
        let age_ns = now.as_nanosecond() - i128::from(container.started_at_ns);
        let young = u128::try_from(age_ns).unwrap_or(0) < YOUNG.as_nanos();
        young.then(|| Self {
            runtime,
            id: container.id.clone(),
            log: container.log_path.clone(),
        })
    }

    /// The whole log in order; nothing while the container still runs.
    pub async fn missed(&self) -> Vec<Piece> {
        let ended = self.runtime.ended(&self.id);
        if tokio::time::timeout(END_KNOWN_MAX, ended).await.is_err() {
            return Vec::new();
        }
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        pieces(&bytes[..bytes.len().min(LOG_BYTES_MAX)])
    }
}

/// Neighbouring lines of one stream in one piece. Pure.
fn pieces(log: &[u8]) -> Vec<Piece> {
    let mut all: Vec<(bool, Vec<u8>)> = Vec::new();
    for line in log.split(|byte| *byte == b'\n').filter_map(logs::parse) {
        if all.last().is_none_or(|(stderr, _)| *stderr != line.stderr) {
            all.push((line.stderr, Vec::new()));
        }
        if let Some((_, text)) = all.last_mut() {
            text.extend_from_slice(line.text);
            if !line.partial {
                text.push(b'\n');
            }
        }
    }
    all.into_iter()
        .map(|(stderr, text)| Piece {
            stderr,
            bytes: text.into(),
        })
        .collect()
}

/// Whether the runtime's last word says that the attach itself went well.
pub fn went_well(error_stream: &[u8]) -> bool {
    error_stream.is_empty()
        || serde_json::from_slice::<serde_json::Value>(error_stream).is_ok_and(|status| status["status"] == "Success")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_pieces_in_order() {
        let log = b"2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:01Z stdout P tw\n\
                    2026-01-01T00:00:01Z stdout F o\nnonsense\n2026-01-01T00:00:01Z stderr F oops\n";
        let found: Vec<(bool, String)> = pieces(log)
            .into_iter()
            .map(|p| (p.stderr, String::from_utf8_lossy(&p.bytes).into_owned()))
            .collect();
        assert_eq!(found, [(false, "one\ntwo\n".into()), (true, "oops\n".into())]);
        assert_eq!(pieces(b""), []);
    }

    #[test]
    fn only_success_went_well() {
        for (text, well) in [
            ("", true),
            (r#"{"metadata":{},"status":"Success"}"#, true),
            (
                r#"{"status":"Failure","message":"container is in CONTAINER_EXITED state"}"#,
                false,
            ),
            ("container is in CONTAINER_EXITED state", false),
        ] {
            assert_eq!(went_well(text.as_bytes()), well, "{text}");
        }
    }
}
