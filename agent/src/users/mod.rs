//! Users of pods' own (KEP-127, `hostUsers: false`): each such pod's users and groups stand for
//! IDs of the node that no other pod has, so that its root is nobody outside of it.
//!
//! Volumes keep the owners that containers see; the runtime maps each mount for the pod's namespace.
//! What a pod was given is in a file in its directory, as kubelet's, and is the pod's as long as
//! the file is there.

mod plan;

pub use plan::{Mapping, namespace, wanted};

use crate::cache::disk;
use crate::config::Config;
use crate::error::Error;
use crate::runtime::config::Layout;
use plan::{Book, Range};
use skiff_proto::cri::v1 as cri;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Whose subordinate IDs are the pods'.
const USER: &str = "kubelet";

#[derive(Debug)]
pub struct Users {
    pods_dir: PathBuf,
    /// The error: which IDs are the pods' is not known.
    book: Result<Mutex<Book>, String>,
}

impl Users {
    /// Reads what pods were given before. Blocks for as long as that takes.
    pub fn open(config: &Config) -> Self {
        let pods_dir = config.pods_dir();
        let range = range(config.pods_max).map_err(|why| format!("kubelet mappings: {why}"));
        if let Err(why) = &range {
            tracing::error!(why, "no pod can have users of its own");
        }
        let book = range.map(|range| {
            let mut book = Book::new(range);
            for entry in std::fs::read_dir(&pods_dir).into_iter().flatten().flatten() {
                let uid = entry.file_name().to_string_lossy().into_owned();
                if let Err(why) = recall(&mut book, &pods_dir, &uid) {
                    tracing::warn!(uid, why, "it is not known which users are a pod's");
                }
            }
            Mutex::new(book)
        });
        Self { pods_dir, book }
    }

    /// The same for a pod that is about to be made here, for which the way is opened.
    pub fn admit(&self, uid: &str, layout: &Layout) -> Result<Mapping, Error> {
        open_way(&self.pods_dir, &layout.state)?;
        self.of(uid)
    }

    /// What the pod was given, or is given now. Blocks for a small write.
    pub fn of(&self, uid: &str) -> Result<Mapping, Error> {
        let book = self.book.as_ref().map_err(|why| Error::Pod(why.clone()))?;
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapping) = book.of(uid) {
            return Ok(mapping);
        }
        let kept = recall(&mut book, &self.pods_dir, uid);
        if let Some(mapping) = kept.map_err(|why| Error::Pod(format!("user namespace: {why}")))? {
            return Ok(mapping);
        }
        book.retain(|uid| file(&self.pods_dir, uid).exists());
        let failed = |why: String| Error::Pod(format!("create user namespace: {why}"));
        let mapping = book.allocate(uid).map_err(failed)?;
        let written = keep(&file(&self.pods_dir, uid), mapping);
        if let Err(error) = written {
            book.retain(|other| other != uid);
            return Err(failed(error.to_string()));
        }
        Ok(mapping)
    }
}

/// Why a pod with users of its own cannot run with this handler, if it cannot.
pub fn able(handlers: &[cri::RuntimeHandler], handler: &str) -> Result<(), Error> {
    plan::refusal(handlers, handler).map_or(Ok(()), |why| Err(Error::Pod(why)))
}

/// Lets everybody pass the directories on the way to the pods' root file systems, where the pods' own
/// users have to get by themselves; see into them they may not. What lies beside the way is closed.
fn open_way(pods_dir: &Path, state: &Path) -> Result<(), Error> {
    // The agent's own directory, and that of all of Skiff.
    let own = pods_dir.ancestors().nth(2).unwrap_or(pods_dir);
    for dir in state.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        let read = Error::io("look at", dir);
        let mut mode = std::fs::metadata(dir).map_err(read)?.permissions();
        if mode.mode() & 0o001 != 0 {
            continue;
        }
        if !dir.starts_with(own) {
            let dir = dir.display();
            return Err(Error::Pod(format!(
                "the users of pods cannot get through {dir}, which is closed to others"
            )));
        }
        mode.set_mode(mode.mode() | 0o001);
        std::fs::set_permissions(dir, mode).map_err(Error::io("set the mode of", dir))?;
    }
    Ok(())
}

/// Closes to all but root the directories that lie beside that way; those that are to come are made.
pub fn close(data_dir: &Path) -> Result<(), Error> {
    for name in ["pods", "copy", "containerd", "cni", "network"] {
        let dir = data_dir.join(name);
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    }
    let entries = std::fs::read_dir(data_dir).map_err(Error::io("read", data_dir))?;
    for entry in entries.flatten() {
        if entry.file_name() == "run" || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let dir = entry.path();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&dir, mode).map_err(Error::io("set the mode of", &dir))?;
    }
    Ok(())
}

fn file(pods_dir: &Path, uid: &str) -> PathBuf {
    pods_dir.join(uid).join("userns")
}

fn recall(book: &mut Book, pods_dir: &Path, uid: &str) -> Result<Option<Mapping>, String> {
    let text = match std::fs::read(file(pods_dir, uid)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mapping = Mapping::parse(&text)?;
    book.enter(uid, mapping)?;
    Ok(Some(mapping))
}

/// On the disk before the pod runs: a node that went down must not give the same to another.
fn keep(file: &Path, mapping: Mapping) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    disk::write_atomically(file, mapping.text().as_bytes(), 0o644)?;
    std::fs::File::open(dir)?.sync_all()
}

/// The subordinate IDs of the user `kubelet`, where there is one; else all but the machine's own.
fn range(pods_max: u32) -> Result<Range, String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if !users.lines().any(|line| line.split(':').next() == Some(USER)) {
        return Ok(Range::WHOLE);
    }
    let ask = |arguments: &[&str]| -> Result<Option<String>, String> {
        let answer = match Command::new("getsubids").args(arguments).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| format!("cannot run getsubids: {error}"))?,
        };
        if !answer.status.success() {
            let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
            return Err(format!("error additional IDs for user {USER:?}: {said}"));
        }
        Ok(Some(String::from_utf8_lossy(&answer.stdout).into_owned()))
    };
    let (Some(users), Some(groups)) = (ask(&[USER])?, ask(&["-g", USER])?) else {
        return Ok(Range::WHOLE);
    };
    if users != groups {
        return Err(format!("mismatched subuids and subgids for user {USER:?}"));
    }
    Range::parse(&users, pods_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_pods_is_open_and_what_lies_beside_it_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().join("top");
        let agent = top.join("skiff/agent");
        let (state, pods) = (agent.join("run/containerd"), agent.join("pods"));
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let set = |path: &Path, mode: u32| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("set");
        };
        std::fs::create_dir_all(&state).expect("made");
        close(&agent).expect("closed");
        set(&agent, 0o700);
        set(&top, 0o700);
        set(dir.path(), 0o755);
        let refused = open_way(&pods, &state).expect_err("it is not Skiff's").chain();
        assert!(refused.contains("/top, which is closed to others"), "{refused}");
        set(&top, 0o755);
        open_way(&pods, &state).expect("opened");
        assert_eq!((mode(&top), mode(&agent), mode(&pods)), (0o755, 0o701, 0o700));
    }

    #[test]
    fn a_pods_users_are_kept_over_a_restart_and_free_with_its_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config::new("n", dir.path());
        let users = Users::open(&config);
        let (a, b) = (users.of("a").expect("given"), users.of("b").expect("given"));
        assert_ne!(a, b);
        assert_eq!(users.of("a").expect("given"), a);
        std::fs::write(config.pod_dir("b").join("userns"), "{").expect("written");
        std::fs::create_dir_all(config.pod_dir("c")).expect("made");

        let users = Users::open(&config);
        assert_eq!(users.of("a").expect("given"), a);
        let why = users.of("b").expect_err("a broken file").chain();
        assert!(
            why.starts_with("user namespace: invalid user namespace mappings file: "),
            "{why}"
        );
        let held = |uid: &str| {
            let book = users.book.as_ref().expect("a range").lock().expect("alone");
            book.of(uid)
        };
        assert_eq!((held("a"), held("c")), (Some(a), None));

        std::fs::remove_dir_all(config.pod_dir("a")).expect("removed");
        users.of("c").expect("given");
        assert_eq!(held("a"), None);
    }
}
