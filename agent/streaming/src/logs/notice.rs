//! Tells of writes in folders of logs. One inotify instance for all who follow: a user
//! may have 128 of them, and a node has more followers than that.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Watches folders for all who follow a log. While nobody does, there is no descriptor and no task.
#[derive(Default)]
pub struct Notices(Mutex<Option<Arc<Reader>>>);

struct Reader {
    inotify: Inotify,
    /// Who waits for news of a folder, by its watch.
    folders: Mutex<HashMap<WatchDescriptor, (Arc<Notify>, usize)>>,
    /// Ends the task that reads.
    _end: DropGuard,
}

impl Reader {
    fn folders(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, (Arc<Notify>, usize)>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    /// How many watch now.
    #[cfg(test)]
    pub fn followers(&self) -> usize {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |reader: &Arc<Reader>| reader.folders().values().map(|(_, count)| count).sum();
        shared.as_ref().map_or(0, count)
    }

    pub fn watch(self: &Arc<Self>, folder: &Path) -> io::Result<Watch> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match &*shared {
            Some(reader) => reader.clone(),
            None => {
                let reader = begin()?;
                *shared = Some(reader.clone());
                reader
            }
        };
        let mut folders = reader.folders();
        let descriptor = reader.inotify.add_watch(
            folder,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY,
        )?;
        let entry = folders.entry(descriptor).or_default();
        entry.1 += 1;
        let notify = entry.0.clone();
        drop(folders);
        Ok(Watch {
            notices: self.clone(),
            reader,
            descriptor,
            notify,
        })
    }
}

/// News of one folder, until it is dropped.
pub struct Watch {
    notices: Arc<Notices>,
    reader: Arc<Reader>,
    descriptor: WatchDescriptor,
    notify: Arc<Notify>,
}

impl Watch {
    /// Ends with the next news after this call: what is read after it is not missed.
    pub fn news(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In this order, as `watch` takes them: the last to leave ends the reader.
        let mut shared = self.notices.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folders = self.reader.folders();
        if let Some((_, count)) = folders.get_mut(&self.descriptor) {
            *count -= 1;
            if *count == 0 {
                folders.remove(&self.descriptor);
                // Fails where the folder is gone, and its watch with it.
                let _ = self.reader.inotify.rm_watch(self.descriptor);
            }
        }
        if folders.is_empty() {
            *shared = None;
        }
    }
}

/// Starts a reader that ends when nobody watches any more.
fn begin() -> io::Result<Arc<Reader>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let copy: OwnedFd = inotify.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by the AsyncFd and closed only with it.
    let ready = unsafe { AsyncFd::register(copy) }?;
    let end = CancellationToken::new();
    let reader = Arc::new(Reader {
        inotify,
        folders: Mutex::default(),
        _end: end.clone().drop_guard(),
    });
    let weak = Arc::downgrade(&reader);
    tokio::spawn(async move {
        loop {
            let mut guard = tokio::select! {
                () = end.cancelled() => return,
                guard = ready.readable() => match guard {
                    Ok(guard) => guard,
                    Err(_) => return,
                },
            };
            let Some(reader) = weak.upgrade() else { return };
            while let Ok(events) = reader.inotify.read_events() {
                let folders = reader.folders();
                for event in &events {
                    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                        folders.values().for_each(|(notify, _)| notify.notify_waiters());
                    } else if let Some((notify, _)) = folders.get(&event.wd) {
                        notify.notify_waiters();
                    }
                }
            }
            guard.clear_ready();
        }
    });
    Ok(reader)
}
