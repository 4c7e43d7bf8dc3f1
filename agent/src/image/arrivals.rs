//! Imports the archives that lie in the images folder, and those that come into it later.
//! Where one cannot be imported, it is tried again: the disk may have been full.

use super::watch::Changes;
use crate::config::Config;
use crate::runtime::config::Layout;
use crate::runtime::images;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Archives are often copied several at a time: nothing is imported until no more come.
const SETTLE: Duration = Duration::from_millis(300);
/// From a failure to the next try; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Until shutdown. `done` tells when what lay there at the start has been gone through.
pub async fn follow(config: Config, layout: Layout, done: watch::Sender<bool>, shutdown: CancellationToken) {
    let dir = &config.images_dir;
    let changes = std::fs::create_dir_all(dir).and_then(|()| Changes::in_directory(dir));
    let mut changes = match changes {
        Ok(changes) => Some(changes),
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "cannot follow a directory; archives put into it are imported at the next start");
            None
        }
    };
    let mut pause = PAUSE_MIN;
    let mut told = Vec::new();
    loop {
        let problems = images::import_all(&config.ctr_binary, &layout.socket, &layout.root, dir).await;
        let problems: Vec<String> = problems.iter().map(crate::error::Error::chain).collect();
        for problem in problems.iter().filter(|problem| !told.contains(*problem)) {
            tracing::warn!(error = problem, "an image was not imported; it is tried again");
        }
        done.send_replace(true);
        let again = (!problems.is_empty()).then_some(pause);
        pause = if problems.is_empty() {
            PAUSE_MIN
        } else {
            (pause * 2).min(PAUSE_MAX)
        };
        told = problems;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wait(again) => {}
            outcome = settled(&mut changes) => match outcome {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "a directory is no longer followed");
                    changes = None;
                }
            },
        }
    }
}

async fn wait(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Something has changed, and for a while nothing has since.
async fn settled(changes: &mut Option<Changes>) -> std::io::Result<()> {
    let Some(changes) = changes else {
        return std::future::pending().await;
    };
    changes.next().await?;
    while let Ok(more) = tokio::time::timeout(SETTLE, changes.next()).await {
        more?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn what_comes_while_nobody_looks_is_not_missed() {
        let dir = std::env::temp_dir().join(format!("skiff-arrivals-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let mut changes = Some(Changes::in_directory(&dir).expect("watches"));
        fs::write(dir.join("a.tar"), "whole").expect("written");
        settled(&mut changes).await.expect("seen");
        fs::rename(dir.join("a.tar"), dir.join("b.tar")).expect("renamed");
        settled(&mut changes).await.expect("seen");
        let mut unfinished = fs::File::create(dir.join("c.tar")).expect("made");
        let early = tokio::time::timeout(Duration::from_millis(50), settled(&mut changes)).await;
        assert!(early.is_err(), "a file that is being written is left alone");
        std::io::Write::write_all(&mut unfinished, b"whole").expect("written");
        drop(unfinished);
        settled(&mut changes).await.expect("seen");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
