//! Keeps what containerd is told of registries as `registries.yaml` says, also while
//! the node runs. A file with a mistake changes nothing; the mistake is told.

use super::Images;
use super::registries::Registries;
use crate::cache::disk::write_atomically;
use crate::error::Error;
use crate::pod::node::Shared;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

/// More is not a list of registries.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// An editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(50);

impl Images {
    /// Reads the file and tells containerd; says whether the file has changed. Where it
    /// fails, all stays as it was.
    pub fn load(&self) -> Result<bool, Error> {
        let path = &self.settings.registries_file;
        let text = match std::fs::metadata(path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => Err(std::io::Error::other("the file is too large")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            _ => std::fs::read_to_string(path),
        };
        let text = text.map_err(Error::io("read", path))?;
        // What was wrong before is told once.
        let fresh = Some(&text) != self.lock_text().as_ref();
        if !fresh {
            return Ok(false);
        }
        *self.lock_text() = Some(text.clone());
        let wrong = |why: String| Error::Image(format!("{}: {why}", path.display()));
        let registries = Registries::parse(&text).map_err(wrong)?;
        for file in registries.files() {
            if let Err(error) = std::fs::metadata(&file) {
                // It may come without the text being changed.
                *self.lock_text() = None;
                return Err(wrong(format!("cannot read {}: {error}", file.display())));
            }
        }
        self.tell(&registries)?;
        *self.registries.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(registries);
        Ok(true)
    }

    fn lock_text(&self) -> MutexGuard<'_, Option<String>> {
        self.registries_text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, registries: &Registries) -> Result<(), Error> {
        std::fs::create_dir_all(&self.certs).map_err(Error::io("create", &self.certs))?;
        let files = registries.hosts_files();
        for (registry, text) in &files {
            let directory = self.certs.join(registry);
            std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
            let path = directory.join("hosts.toml");
            if std::fs::read_to_string(&path).is_ok_and(|old| old == *text) {
                continue;
            }
            write_atomically(&path, text.as_bytes(), 0o644).map_err(Error::io("write", &path))?;
        }
        let entries = std::fs::read_dir(&self.certs).map_err(Error::io("read", &self.certs))?;
        for entry in entries.flatten() {
            if !files.contains_key(&*entry.file_name().to_string_lossy()) {
                std::fs::remove_dir_all(entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Follows the file until shutdown. `begun`: what came of it when the node started.
pub async fn follow(shared: Arc<Shared>, begun: Result<bool, Error>, shutdown: CancellationToken) {
    let path = shared.images.settings.registries_file.clone();
    tell(&shared, begun.err());
    loop {
        let changed = tokio::select! {
            () = shutdown.cancelled() => return,
            changed = change(&path) => changed,
        };
        if let Err(error) = changed {
            tracing::warn!(%error, file = %path.display(), "cannot follow a file; its changes count from the next start on");
            return;
        }
        tokio::time::sleep(SETTLE).await;
        let images = shared.clone();
        let loaded = tokio::task::spawn_blocking(move || images.images.load()).await;
        match loaded.unwrap_or_else(|e| Err(Error::Image(e.to_string()))) {
            Ok(false) => {}
            Ok(true) => tracing::info!(file = %path.display(), "registries are set"),
            Err(error) => tell(&shared, Some(error)),
        }
    }
}

fn tell(shared: &Shared, error: Option<Error>) {
    let Some(error) = error else { return };
    let text = format!("The registries stay as they were: {}", error.chain());
    tracing::error!("{text}");
    shared
        .recorder
        .node(&shared.config.node_name, true, "InvalidRegistries", text);
}

/// Waits until the file, or the way to it, has changed.
pub async fn change(path: &Path) -> std::io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    // A link to the file is followed, its replacement is seen in the directory.
    let followed = inotify.add_watch(path, flags).is_ok();
    let mut directory = path.parent();
    while let Some(dir) = directory {
        if inotify.add_watch(dir, flags).is_ok() {
            break;
        }
        directory = dir.parent();
    }
    // It came or went before it was watched.
    if path.exists() != followed {
        return Ok(());
    }
    Changes::of(&inotify)?.next().await
}

/// Changes in a directory, none of which is lost between two looks at it.
pub struct Changes {
    events: Receiver,
}

impl Changes {
    /// Files that are whole now, or gone.
    pub fn in_directory(dir: &Path) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        inotify.add_watch(dir, flags | AddWatchFlags::IN_ONLYDIR)?;
        Self::of(&inotify)
    }

    /// Any descriptor can be awaited as a pipe's end.
    fn of(inotify: &Inotify) -> std::io::Result<Self> {
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { events })
    }

    /// What has happened does not matter: who asks looks again, and what is the same changes nothing.
    pub async fn next(&mut self) -> std::io::Result<()> {
        let mut seen = [0; 4_096];
        loop {
            self.events.readable().await?;
            match self.events.try_read(&mut seen) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => return other.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Settings;
    use std::fs;

    #[test]
    fn a_mistake_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("skiff-registries-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let (file, certs) = (dir.join("registries.yaml"), dir.join("certs.d"));
        let settings = Settings {
            registries_file: file.clone(),
            ..Settings::default()
        };
        let images = Images::open(settings, certs.clone(), &dir).expect("opens");
        assert!(images.load().expect("no file is no mistake"));
        assert!(!images.load().expect("no file is no mistake"), "nothing new");
        fs::write(&file, "mirrors: {r.io: {endpoint: [\"http://m.io\"]}}").expect("written");
        images.load().expect("valid");
        let hosts = || fs::read_to_string(certs.join("r.io/hosts.toml")).unwrap_or_default();
        let before = hosts();
        assert!(before.contains("http://m.io"), "{before}");
        for wrong in ["mirrors: [", "configs: {r.io: {tls: {ca_file: /does/not/exist}}}"] {
            fs::write(&file, wrong).expect("written");
            let error = images.load().expect_err(wrong).chain();
            assert!(error.contains("registries.yaml"), "{error}");
            assert_eq!(hosts(), before);
        }
        fs::remove_file(&file).expect("removed");
        images.load().expect("gone is no mistake");
        assert!(!certs.join("r.io").exists());
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[tokio::test]
    async fn changes_are_seen_also_of_directories_to_come() {
        let dir = std::env::temp_dir().join(format!("skiff-follow-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let file = dir.join("sub/registries.yaml");
        let seen = |step: fn(&Path)| {
            let (file, at) = (file.clone(), file.clone());
            async move {
                let waits = tokio::spawn(async move { change(&file).await });
                // The watch is there once another change is seen; a change before it counts, too.
                let mut waits = waits;
                loop {
                    step(&at);
                    let pause = tokio::time::sleep(Duration::from_millis(20));
                    tokio::select! {
                        outcome = &mut waits => return outcome.expect("runs").expect("watches"),
                        () = pause => {}
                    }
                }
            }
        };
        seen(|at| {
            let parent = at.parent().expect("has one");
            let _ = fs::remove_dir(parent);
            fs::create_dir_all(parent).expect("made");
        })
        .await;
        seen(|at| fs::write(at, "a").expect("written")).await;
        seen(|at| {
            fs::write(at.with_extension("new"), "b").expect("written");
            fs::rename(at.with_extension("new"), at).expect("renamed");
        })
        .await;
        fs::remove_dir_all(&dir).expect("removed");
    }
}
