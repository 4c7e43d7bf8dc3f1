//! Rotates containers' logs by size and keeps a few of each, the older ones compressed,
//! as kubelet does: `0.log`, `0.log.20260102-030405`, `0.log.20260102-030400.gz`.
//!
//! Every ten seconds the size of each running container's log is asked of the file
//! system, one `stat` each; the runtime is asked only when one is too large.

use crate::error::Error;
use crate::pod::node::Shared;
use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::{sandbox, spec};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use skiff_proto::cri::v1 as cri;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// kubelet's containerLogMonitorInterval.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const COMPRESSED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        let pods: Vec<Arc<Pod>> = shared.cache.pods().into_values().collect();
        for pod in pods {
            for (container, log) in too_large(&shared, &pod) {
                if let Err(error) = rotate(&shared, spec::uid(&pod), &container, &log).await {
                    tracing::warn!(log = %log.display(), error = error.chain(), "a container's log was not rotated");
                }
            }
        }
    }
}

/// Running containers of the pod whose log has grown too large, and that log.
fn too_large(shared: &Shared, pod: &Pod) -> Vec<(String, PathBuf)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let running = all.into_iter().flatten().flatten();
    let running = running.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
    let folder = sandbox::log_directory(&shared.config, pod);
    running
        .filter_map(|c| {
            let log = folder.join(&c.name).join(format!("{}.log", c.restart_count));
            let size = fs::metadata(&log).ok()?.len();
            (size >= shared.config.log_bytes_max).then(|| (c.name.clone(), log))
        })
        .collect()
}

async fn rotate(shared: &Shared, uid: &str, container: &str, log: &Path) -> Result<(), Error> {
    let wanted = [(LABEL_POD_UID, uid), (LABEL_CONTAINER_NAME, container)];
    let filter = cri::ContainerFilter {
        label_selector: wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        state: Some(cri::ContainerStateValue {
            state: cri::ContainerState::ContainerRunning as i32,
        }),
        ..Default::default()
    };
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let answer = shared.runtime.cri().list_containers(request).await;
    let found = answer
        .map_err(Error::runtime("list containers"))?
        .into_inner()
        .containers;
    let Some(id) = found.into_iter().max_by_key(|c| c.created_at).map(|c| c.id) else {
        return Ok(());
    };
    let (path, keep) = (log.to_owned(), shared.config.log_files_max);
    // Compressing takes a moment.
    let tidied = tokio::task::spawn_blocking(move || tidy(&path, keep)).await;
    if let Ok(Err(error)) = tidied {
        return Err(Error::io("tidy the rotated logs of", log)(error));
    }
    let stamped = stamped(log, Timestamp::now());
    fs::rename(log, &stamped).map_err(Error::io("rename", log))?;
    if let Err(error) = shared.runtime.reopen_log(&id).await {
        // It goes on writing where it did.
        if !log.exists() {
            fs::rename(&stamped, log).map_err(Error::io("rename", &stamped))?;
        }
        return Err(error);
    }
    Ok(())
}

fn stamped(log: &Path, now: Timestamp) -> PathBuf {
    let time = now
        .to_zoned(jiff::tz::TimeZone::UTC)
        .strftime("%Y%m%d-%H%M%S")
        .to_string();
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{time}"));
    name.into()
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Plan {
    remove: Vec<String>,
    compress: Vec<String>,
}

/// What is to be done with the rotated logs of one, so that with the present one and the
/// one about to be rotated no more than `keep` remain. Pure.
fn plan(log: &str, names: &[String], keep: u32) -> Plan {
    let mut plan = Plan::default();
    let mut rotated: Vec<&String> = Vec::new();
    for name in names {
        let Some(rest) = name.strip_prefix(log).and_then(|r| r.strip_prefix('.')) else {
            continue;
        };
        // What a crash left unfinished, and what is there compressed too.
        if rest.ends_with(UNFINISHED) || names.contains(&format!("{name}{COMPRESSED}")) {
            plan.remove.push(name.clone());
        } else {
            rotated.push(name);
        }
    }
    rotated.sort();
    let most = usize::try_from(keep.saturating_sub(2)).unwrap_or(0);
    let excess = rotated.len().saturating_sub(most);
    plan.remove.extend(rotated.drain(..excess).cloned());
    plan.compress = rotated
        .into_iter()
        .filter(|n| !n.ends_with(COMPRESSED))
        .cloned()
        .collect();
    plan
}

fn tidy(log: &Path, keep: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(());
    };
    let names = fs::read_dir(folder)?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let plan = plan(&name.to_string_lossy(), &names.collect::<Vec<_>>(), keep);
    for name in plan.remove {
        fs::remove_file(folder.join(name))?;
    }
    for name in plan.compress {
        compress(&folder.join(name))?;
    }
    Ok(())
}

/// To `.tmp` first, so that what is called `.gz` is whole.
fn compress(log: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = log.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (unfinished, finished) = (with(UNFINISHED), with(COMPRESSED));
    let mut encoder = GzEncoder::new(File::create(&unfinished)?, Compression::default());
    io::copy(&mut File::open(log)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(unfinished, finished)?;
    fs::remove_file(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn the_oldest_go_and_the_older_are_compressed() {
        let found = names(&[
            "0.log",
            "0.log.3",
            "0.log.1.gz",
            "0.log.2.gz",
            "0.log.4",
            "1.log.1",
            "0.log.5.tmp",
            "0.log.2",
        ]);
        let five = plan("0.log", &found, 5);
        assert_eq!(five.remove, ["0.log.5.tmp", "0.log.2", "0.log.1.gz"]);
        assert_eq!(five.compress, ["0.log.3", "0.log.4"]);
        let two = plan("0.log", &found, 2);
        assert_eq!((two.remove.len(), two.compress.len()), (6, 0));
        assert_eq!(plan("0.log", &names(&["0.log"]), 5), Plan::default());
    }

    #[test]
    fn planning_after_acting_finds_nothing() {
        let dir = std::env::temp_dir().join(format!("skiff-rotate-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let log = dir.join("0.log");
        for name in ["0.log", "0.log.1", "0.log.2", "0.log.3", "0.log.4"] {
            fs::write(dir.join(name), name).expect("written");
        }
        tidy(&log, 5).expect("tidied");
        let found: Vec<String> = fs::read_dir(&dir)
            .expect("read")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(plan("0.log", &found, 5), Plan::default());
        let mut text = String::new();
        let file = File::open(dir.join("0.log.4.gz")).expect("a file");
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .expect("whole");
        assert_eq!(text, "0.log.4");
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn stamps_sort_by_time() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let one = stamped(Path::new("/l/0.log"), at("2026-01-02T03:04:05Z"));
        assert_eq!(one, Path::new("/l/0.log.20260102-030405"));
        assert!(stamped(Path::new("/l/0.log"), at("2026-01-02T03:04:06Z")) > one);
    }
}
