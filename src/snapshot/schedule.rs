//! Snapshots by the clock, and how many of them are kept.

use super::control::Taker;
use super::{Place, all};
use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use skiff_controllers::Schedule;
use skiff_store::RaftStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What scheduled snapshots' names begin with; only these are removed again.
const SCHEDULED: &str = "scheduled";

#[derive(Debug, Clone, Args)]
pub struct Scheduled {
    /// When the server takes a snapshot by itself, as cron has it; "off" for never
    #[arg(
        long,
        alias = "etcd-snapshot-schedule-cron",
        env = "SKIFF_SNAPSHOT_SCHEDULE",
        default_value = "0 */12 * * *",
        value_name = "CRON"
    )]
    pub snapshot_schedule: String,
    /// How many scheduled snapshots are kept
    #[arg(long, alias = "etcd-snapshot-retention", env = "SKIFF_SNAPSHOT_RETENTION", default_value_t = 5,
        value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub snapshot_retention: u16,
    #[command(flatten)]
    pub place: Place,
}

impl Scheduled {
    /// `None`: never.
    pub fn schedule(&self) -> Result<Option<Schedule>> {
        match self.snapshot_schedule.trim() {
            "" | "off" => Ok(None),
            text => match Schedule::parse(text) {
                Ok(schedule) => Ok(Some(schedule)),
                Err(why) => bail!("--snapshot-schedule: {why}"),
            },
        }
    }
}

/// Takes snapshots by the clock until told to stop.
pub async fn keep(
    args: Scheduled,
    data_dir: PathBuf,
    store: Arc<RaftStore>,
    shutdown: CancellationToken,
) -> Result<()> {
    let zone = TimeZone::system();
    let schedule = args.schedule()?;
    let dir = args.place.dir(&data_dir);
    let taker = Taker {
        data_dir,
        place: args.place,
    };
    loop {
        let next = schedule.as_ref().and_then(|s| s.next(Timestamp::now(), &zone));
        let due = async {
            let Some(next) = next else {
                return std::future::pending().await;
            };
            // A clock that is set does not make it late by more than this.
            loop {
                let left = next.duration_since(Timestamp::now());
                let Ok(left) = Duration::try_from(left) else { return };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = due => {}
        }
        match taker.take(&store, SCHEDULED).await {
            Ok(_) => prune(&dir, usize::from(args.snapshot_retention)),
            Err(error) => tracing::error!("no snapshot could be taken: {error:#}"),
        }
    }
}

/// Removes the oldest scheduled snapshots beyond `keep`.
fn prune(dir: &Path, keep: usize) {
    let Ok(found) = all(dir) else { return };
    for path in surplus(found, keep) {
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed an old snapshot"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "could not remove an old snapshot"),
        }
    }
}

/// The oldest of the scheduled ones, by the time in their names.
fn surplus(found: Vec<PathBuf>, keep: usize) -> Vec<PathBuf> {
    let mut scheduled: Vec<(u64, PathBuf)> = found
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(super::SUFFIX)?;
            let rest = name.strip_prefix(SCHEDULED)?.strip_prefix('-')?;
            let time = rest
                .rsplit('-')
                .find_map(|part| part.parse().ok().filter(|n| *n > 1_000_000_000))?;
            Some((time, path))
        })
        .collect();
    scheduled.sort();
    let gone = scheduled.len().saturating_sub(keep);
    scheduled.into_iter().take(gone).map(|(_, path)| path).collect()
}

/// What a crash left of snapshots that were being written.
pub(super) fn remove_leftovers(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(&format!("{}.partial", super::SUFFIX)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_scheduled_ones_go() {
        let found = [
            "on-demand-a-1700000000.skiff",
            "scheduled-a-1700000300.skiff",
            "scheduled-b-3-1700000100.skiff",
            "scheduled-a-1700000200-1.skiff",
            "scheduled-a-1700000200.skiff",
            "scheduled.skiff",
            "scheduled-a-1700000001.other",
        ];
        let found: Vec<PathBuf> = found.iter().map(|name| Path::new("/s").join(name)).collect();
        let gone = |keep| -> Vec<String> {
            let gone = surplus(found.clone(), keep);
            gone.iter().map(|p| p.display().to_string()).collect()
        };
        assert_eq!(gone(4), Vec::<String>::new());
        assert_eq!(gone(3), ["/s/scheduled-b-3-1700000100.skiff"]);
        assert_eq!(gone(1).len(), 3);
        assert!(!gone(1).contains(&"/s/scheduled-a-1700000300.skiff".to_owned()));
    }
}
