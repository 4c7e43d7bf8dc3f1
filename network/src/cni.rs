//! Puts the CNI plugin and its configuration where containerd looks.

use crate::error::Error;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Sorts before what another installation may have left; containerd takes the first.
const CONFIG: &str = "10-skiff.conflist";

/// Installs `binary` as `skiff-cni` in `bin_dir`, with the name `loopback` beside
/// it (containerd calls that plugin in every sandbox), and writes `config`
/// (of [`crate::cni_config`]) into `conf_dir`. Both appear whole or not at all,
/// so a running containerd may look at any moment; doing it again changes nothing.
pub fn install_cni(binary: &Path, bin_dir: &Path, conf_dir: &Path, config: &str) -> Result<(), Error> {
    let file = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    };
    for dir in [bin_dir, conf_dir] {
        std::fs::create_dir_all(dir).map_err(file("create", dir))?;
    }
    let (target, fresh) = (bin_dir.join("skiff-cni"), bin_dir.join(".skiff-cni.new"));
    // A copy, then a rename: a plugin that runs at this moment cannot be written over.
    std::fs::copy(binary, &fresh).map_err(file("copy the CNI plugin from", binary))?;
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).map_err(file("make executable", &fresh))?;
    std::fs::rename(&fresh, &target).map_err(file("replace", &target))?;
    let loopback = bin_dir.join("loopback");
    match symlink("skiff-cni", &loopback) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(file("link", &loopback)(error)),
        _ => {}
    }
    // The leading dot and the suffix keep the half-written file out of containerd's sight.
    let (target, fresh) = (conf_dir.join(CONFIG), conf_dir.join(".10-skiff.new"));
    std::fs::write(&fresh, config).map_err(file("write", &fresh))?;
    std::fs::rename(&fresh, &target).map_err(file("replace", &target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_twice_as_once() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, conf, binary) = (
            dir.path().join("a/bin"),
            dir.path().join("a/net.d"),
            dir.path().join("plugin"),
        );
        std::fs::write(&binary, "1").unwrap();
        let text = crate::cni_config(&["10.42.0.0/24".parse().unwrap()], Path::new("/x"), 1450);
        for content in ["1", "2"] {
            std::fs::write(&binary, content).unwrap();
            install_cni(&binary, &bin, &conf, &text).unwrap();
            assert_eq!(std::fs::read_to_string(bin.join("loopback")).unwrap(), content);
        }
        let names = |dir: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&bin), ["loopback", "skiff-cni"]);
        assert_eq!(names(&conf), [CONFIG]);
        let list: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(conf.join(CONFIG)).unwrap()).unwrap();
        assert_eq!(list["plugins"][0]["podCIDRs"][0], "10.42.0.0/24");
    }
}
