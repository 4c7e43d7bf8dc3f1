//! Backups: taken while things go wrong, looked at when all is well, and one of them put
//! back: into a cluster of its own, by a machine that may lose its power meanwhile.

use crate::disk::SimDisk;
use crate::host::SimHost;
use crate::invariants::{Report, backups};
use crate::nemesis;
use crate::random::lock;
use crate::world::{World, name};
use skiff_store::Store;
use skiff_store::backup::{self, About, BackupError, REVISION_STEP};
use skiff_store::host::{self, Disk, Open};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Where servers keep them.
const DIR: &str = "/backups";

/// Steps on the disk until the power fails in the midst of a restore.
const FUSE_STEPS: std::ops::Range<u64> = 0..60;

/// A restore is tried again so often.
const TRIES_MAX: usize = 20;

const HEAL_MAX: Duration = Duration::from_secs(60);

/// Backups whose operator was told that they were taken: the server, where, and what they are.
#[derive(Default)]
pub struct Backups(Mutex<Vec<(u64, PathBuf, About)>>);

impl Backups {
    /// Takes one now and then, until all is well.
    pub async fn take(self: Arc<Self>, world: Arc<World>) {
        for number in 0.. {
            sleep(world.random.millis(300..4000)).await;
            if world.is_healed() {
                return;
            }
            let Some(up) = world.any_up() else { continue };
            let (id, path) = (up.host.id, Path::new(DIR).join(format!("{number}.skiff")));
            let Some(disk) = world.disk(id) else { continue };
            if disk.make_dir(Path::new(DIR)).is_err() {
                continue;
            }
            let taken = up.ask(Duration::from_secs(20), up.store.back_up(&path, None, "simulation"));
            let taken = taken.await;
            world.tell(|| format!("backup {} of {id}: {taken:?}", path.display()));
            if let Some(Ok(about)) = taken {
                lock(&self.0).push((id, path, about));
            }
        }
    }

    /// Looks at all there are, and puts one back.
    pub async fn check(&self, world: &Arc<World>, report: &Report) -> Result<(), String> {
        for id in world.ids() {
            let Some(disk) = world.disk(id) else { continue };
            for path in disk.list(Path::new(DIR)).unwrap_or_default() {
                if path.extension().is_some_and(|e| e == "skiff") {
                    let about = backup::check_on(&disk, &path).map_err(|e| format!("of server {id}: {e}"))?;
                    backups::check(report, &path.display().to_string(), &about)?;
                }
            }
        }
        let taken = lock(&self.0).clone();
        // Those of servers that were taken away went with them.
        let there = taken
            .into_iter()
            .filter_map(|(id, path, about)| Some((world.disk(id)?, path, about)));
        let there: Vec<(SimDisk, PathBuf, About)> = there.collect();
        for (disk, path, about) in &there {
            let found = backup::check_on(disk, path).map_err(|e| format!("a backup that was taken: {e}"))?;
            if found != *about {
                return Err(format!("{} is {found:?}, and was {about:?}", path.display()));
            }
        }
        match world.random.pick(&there) {
            Some((disk, path, about)) => put_back(world, report, &disk, &path, &about).await,
            None => Ok(()),
        }
    }
}

fn text_of(error: impl std::fmt::Display) -> String {
    format!("a restore: {error}")
}

/// Makes a cluster of one of a backup, lets it grow to three, and looks at what it has.
async fn put_back(
    world: &Arc<World>,
    report: &Report,
    from: &SimDisk,
    path: &Path,
    about: &About,
) -> Result<(), String> {
    world.tell(|| format!("restore {}", path.display()));
    let bytes = from
        .open(path, Open::Read)
        .and_then(|file| file.read_all())
        .map_err(text_of)?;
    let other = world.beside();
    let first = other.add(false);
    let disk = other.disk(first).ok_or("a new server has a disk")?;
    disk.put_file(Path::new("/saved.skiff"), &bytes);
    restore(&other, first, &disk).await?;
    if !other.start(first).await {
        return Err("what was restored does not start".into());
    }
    let expected = report.values_at(about.revision);
    // Leases begin anew, and may end meanwhile.
    let lasting = |values: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
        let lasting = values.iter().filter(|(key, _)| !key.starts_with("/lease/"));
        lasting.map(|(key, value)| (key.clone(), *value)).collect()
    };
    let content = |id: u64| -> Result<BTreeMap<String, u64>, String> {
        let up = other.up(id).ok_or("a restored server has ended")?;
        let state = up.store.snapshot();
        if state.revision() < about.revision + REVISION_STEP {
            return Err(format!("it goes on at revision {}", state.revision()));
        }
        let entries = state.range(b"", None, 0).entries;
        let pair = |e: &skiff_store::Entry| (crate::observer::text(e.key()), crate::observer::number(e));
        Ok(entries.iter().map(pair).collect())
    };
    let found = content(first)?;
    if found != expected {
        return Err(format!(
            "restored at {}: {found:?} in place of {expected:?}",
            about.revision
        ));
    }
    for _ in 0..2 {
        let id = other.add(true);
        if !other.join(id).await {
            return Err(format!("server {id} does not join what was restored"));
        }
    }
    nemesis::heal(&other, HEAL_MAX).await?;
    for id in other.ids() {
        let found = content(id)?;
        if lasting(&found) != lasting(&expected) {
            return Err(format!("server {id} of what was restored has {found:?}"));
        }
    }
    match other.observer.failure() {
        Some(failure) => Err(format!("in what was restored: {failure}")),
        None => Ok(()),
    }
}

/// Restores until it is done, whatever power losses cost.
async fn restore(other: &Arc<World>, id: u64, disk: &SimDisk) -> Result<(), String> {
    let random = &other.random;
    let dir = PathBuf::from(format!("/{}", name(id)));
    for attempt in 0..TRIES_MAX {
        let host = SimHost::new(
            id,
            other.schedule.clone(),
            random.clone(),
            other.observer.clone(),
            Duration::ZERO,
        );
        let disk = disk.for_life(host.life.clone());
        if attempt + 1 < TRIES_MAX && random.once_in(2) {
            disk.lose_power_in(random.below(FUSE_STEPS));
        }
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let (path, address) = (Path::new("/saved.skiff"), name(id));
        let restoring = host::on(host.clone(), backup::restore_on(&on, path, &dir, None, id, &address));
        let done = tokio::select! {
            biased;
            () = host.life.ends() => None,
            done = restoring => Some(done),
        };
        let lost = host.life.has_ended();
        host.end();
        match done {
            // Done before, though nobody was told; it is looked at when it starts.
            Some(Ok(_)) if !lost => return Ok(()),
            Some(Err(BackupError::Exists(_))) if !lost => return Ok(()),
            Some(Err(error)) if !lost => return Err(text_of(error)),
            _ => disk.lose_power(),
        }
    }
    Err("a restore does not come to an end".into())
}
