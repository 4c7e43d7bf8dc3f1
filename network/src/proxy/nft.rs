//! Runs `nft -f -`: one call is one atomic transaction.

use crate::error::Error;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What is kept of nft's complaint, which repeats the offending lines.
const COMPLAINT_CHARS_MAX: usize = 2000;

pub async fn apply(text: &str) -> Result<(), Error> {
    let failed = |source| Error::Program { program: "nft", source };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let writing = async move {
        // nft reads everything before it acts, so writing first cannot block on its output.
        let written = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        written
    };
    let (written, output) = tokio::join!(writing, child.wait_with_output());
    let output = output.map_err(failed)?;
    if output.status.success() {
        return written.map_err(failed);
    }
    let message = String::from_utf8_lossy(&output.stderr)
        .chars()
        .take(COMPLAINT_CHARS_MAX)
        .collect();
    Err(Error::Ruleset { message })
}

/// What nft prints; none when it has nothing of the kind.
pub async fn list(arguments: &[&str]) -> Option<String> {
    let output = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
