//! Reads the files of an `emptyDir` that containers take variables from
//! (`fileKeyRef`), without following what a container may have linked out of it.

use super::{sub_path, volume_path};
use crate::config::Config;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// What one process may be given as environment is less.
const BYTES_MAX: u64 = 2 << 20;

pub fn read(config: &Config, pod: &Pod, container: &Container) -> BTreeMap<(String, String), Result<String, String>> {
    let sources = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    let mut files = BTreeMap::new();
    for wanted in sources.filter_map(|s| s.file_key_ref.as_ref()) {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let Some(volume) = volumes.into_iter().find(|v| v.name == wanted.volume_name) else {
            continue;
        };
        let text = read_one(&volume_path(config, pod, volume), &wanted.path);
        files.insert((wanted.volume_name.clone(), wanted.path.clone()), text);
    }
    files
}

fn read_one(volume: &Path, path: &str) -> Result<String, String> {
    let mut file = sub_path::open_file(volume, path).map_err(|e| e.chain())?;
    let mut text = String::new();
    let read = Read::by_ref(&mut file).take(BYTES_MAX).read_to_string(&mut text);
    read.map_err(|e| e.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = std::env::temp_dir().join(format!("skiff-variable-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("v/d")).expect("made");
        std::fs::write(dir.join("v/d/f"), "A='1'").expect("written");
        std::fs::write(dir.join("secret"), "A='2'").expect("written");
        std::os::unix::fs::symlink("../secret", dir.join("v/out")).expect("linked");
        std::os::unix::fs::symlink("d/f", dir.join("v/in")).expect("linked");
        for (path, expected) in [
            ("d/f", Some("A='1'")),
            ("in", Some("A='1'")),
            ("out", None),
            ("d", None),
            ("../secret", None),
            ("none", None),
        ] {
            assert_eq!(read_one(&dir.join("v"), path).ok().as_deref(), expected, "{path}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
