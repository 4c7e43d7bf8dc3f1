//! `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`: a link to each container's log, by
//! whose name collectors of logs learn what a line is about. As kubelet makes them.

use super::spec::Key;
use crate::config::Config;
use crate::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".log";
/// What a file system takes as a name.
const NAME_BYTES_MAX: usize = 255;

/// The link's name. Pure.
fn name((namespace, pod): &Key, container: &str, container_id: &str) -> String {
    let mut name = format!("{pod}_{namespace}_{container}-{container_id}");
    // All of it is ASCII.
    name.truncate(NAME_BYTES_MAX - SUFFIX.len());
    name + SUFFIX
}

fn path(config: &Config, key: &Key, container: &str, id: &str) -> PathBuf {
    config.container_logs_dir.join(name(key, container, id))
}

/// Makes the link if the log is there; one that is there already is right.
pub fn make(config: &Config, key: &Key, container: &str, id: &str, log: &Path) -> Result<(), Error> {
    if !log.exists() {
        return Ok(());
    }
    let link = path(config, key, container, id);
    match std::os::unix::fs::symlink(log, &link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(Error::io("link", &link)),
    }
}

pub fn remove(config: &Config, key: &Key, container: &str, id: &str) {
    let _ = std::fs::remove_file(path(config, key, container, id));
}

/// Removes the links of one pod, or of all, whose logs are no more. Other programs may keep
/// links of their own there.
pub fn sweep(links_dir: &Path, logs_dir: &Path, of: Option<&Key>) {
    let begin = of.map(|(namespace, pod)| format!("{pod}_{namespace}_"));
    for entry in std::fs::read_dir(links_dir).into_iter().flatten().flatten() {
        let others = |begin: &String| !entry.file_name().to_string_lossy().starts_with(begin);
        if begin.as_ref().is_some_and(others) {
            continue;
        }
        let link = entry.path();
        let ours = std::fs::read_link(&link).is_ok_and(|target| target.starts_with(logs_dir));
        if ours && !link.exists() {
            let _ = std::fs::remove_file(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pod: &str) -> Key {
        ("default".to_owned(), pod.to_owned())
    }

    #[test]
    fn names_fit_the_file_system() {
        assert_eq!(name(&key("a-1"), "web", "0123"), "a-1_default_web-0123.log");
        let long = "p".repeat(253);
        assert_eq!(name(&key(&long), "web", "0123"), format!("{}.log", &long[..251]));
    }

    #[test]
    fn links_live_as_long_as_their_logs() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::new("n", dir.path());
        config.container_logs_dir = dir.path().join("containers");
        config.pod_logs_dir = dir.path().join("pods");
        let log = config.pod_logs_dir.join("default_a_uid/web/0.log");
        for folder in [&config.container_logs_dir, &log.parent().expect("one").to_owned()] {
            std::fs::create_dir_all(folder).expect("made");
        }
        let link = config.container_logs_dir.join("a_default_web-0.log");
        let is_link = || std::fs::symlink_metadata(&link).is_ok();
        let make = || make(&config, &key("a"), "web", "0", &log).expect("no error");
        make();
        assert!(!is_link(), "there is no log yet");
        std::fs::write(&log, "text").expect("written");
        for _ in 0..2 {
            make();
            assert_eq!(std::fs::read_to_string(&link).expect("followed"), "text");
        }
        let foreign = config.container_logs_dir.join("theirs");
        std::os::unix::fs::symlink("/nowhere/at/all", &foreign).expect("made");
        let tidy = |of: Option<&Key>| sweep(&config.container_logs_dir, &config.pod_logs_dir, of);
        tidy(None);
        assert!(is_link());
        std::fs::remove_file(&log).expect("removed");
        tidy(Some(&key("b")));
        assert!(is_link(), "of another pod");
        tidy(Some(&key("a")));
        assert!(!is_link());
        tidy(None);
        assert!(std::fs::symlink_metadata(&foreign).is_ok(), "not ours");
        std::fs::write(&log, "text").expect("written");
        make();
        remove(&config, &key("a"), "web", "0");
        assert!(!is_link());
    }
}
