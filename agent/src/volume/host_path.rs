//! `hostPath`: a file or directory of the node, checked or made as its type asks.

use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

pub fn prepare(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let found = std::fs::metadata(path).ok();
    let must = |ok: bool, what: &str| {
        if ok {
            Ok(())
        } else {
            Err(format!("hostPath type check failed: {} is not {what}", source.path))
        }
    };
    let made = |outcome: std::io::Result<()>, mode: u32| {
        outcome
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
            .map_err(|error| format!("cannot create {}: {error}", source.path))
    };
    match source.type_.as_deref().unwrap_or_default() {
        "" => Ok(()),
        "DirectoryOrCreate" => match found {
            Some(meta) => must(meta.is_dir(), "a directory"),
            None => made(std::fs::create_dir_all(path), 0o755),
        },
        "FileOrCreate" => match found {
            Some(meta) => must(meta.is_file(), "a file"),
            None => made(std::fs::write(path, []), 0o644),
        },
        "Directory" => must(found.is_some_and(|m| m.is_dir()), "a directory"),
        "File" => must(found.is_some_and(|m| m.is_file()), "a file"),
        "Socket" => must(found.is_some_and(|m| m.file_type().is_socket()), "a socket file"),
        "CharDevice" => must(
            found.is_some_and(|m| m.file_type().is_char_device()),
            "a character device",
        ),
        "BlockDevice" => must(found.is_some_and(|m| m.file_type().is_block_device()), "a block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = std::env::temp_dir().join(format!("skiff-host-path-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        let (made, file) = (dir.join("made"), dir.join("file"));
        for (path, kind, failure) in [
            (dir.join("any"), "", None),
            (made.clone(), "Directory", Some("is not a directory")),
            (made.clone(), "DirectoryOrCreate", None),
            (made.clone(), "Directory", None),
            (made.clone(), "FileOrCreate", Some("is not a file")),
            (file.clone(), "File", Some("is not a file")),
            (file.clone(), "FileOrCreate", None),
            (file.clone(), "File", None),
            (file.clone(), "Socket", Some("is not a socket file")),
            ("/dev/null".into(), "CharDevice", None),
            ("/dev/null".into(), "BlockDevice", Some("is not a block device")),
            (file, "Odd", Some("Odd is an invalid volume type")),
        ] {
            let source = HostPathVolumeSource {
                path: path.display().to_string(),
                type_: Some(kind.into()),
            };
            match (prepare(&source), failure) {
                (Ok(()), None) => {}
                (Err(text), Some(wanted)) if text.contains(wanted) => {}
                (outcome, _) => panic!("{} {kind}: {outcome:?}", path.display()),
            }
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
