//! `skiff-images OUT_DIR --pause FILE --web FILE --busybox FILE`: writes
//! `pause.tar` and `web.tar`, the archives that an agent loads at start.

use skiff_images::Image;
use std::path::{Path, PathBuf};

fn main() {
    if let Err(message) = run() {
        eprintln!("skiff-images: {message}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: skiff-images OUT_DIR --pause FILE --web FILE --busybox FILE";
    let out = PathBuf::from(arguments.next().ok_or(usage)?);
    let (mut pause, mut web, mut busybox) = (None, None, None);
    while let Some(flag) = arguments.next() {
        let path = arguments.next().ok_or(usage)?;
        let content = std::fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        match flag.as_str() {
            "--pause" => pause = Some(content),
            "--web" => web = Some(content),
            "--busybox" => busybox = Some(content),
            _ => return Err(usage.to_string()),
        }
    }
    std::fs::create_dir_all(&out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    let pause = Image {
        entrypoint: vec!["/pause".to_string()],
        ..Image::new(&format!("skiff.local/pause:{version}")).file("pause", 0o755, pause.ok_or(usage)?)
    };
    let web = Image {
        command: vec!["/web".to_string()],
        env: vec!["PATH=/bin:/".to_string()],
        exposed_ports: vec!["8080/tcp".to_string()],
        ..Image::new(&format!("skiff.local/web:{version}"))
            .busybox(busybox.ok_or(usage)?)
            .file("web", 0o755, web.ok_or(usage)?)
    };
    write(&pause, &out.join("pause.tar"))?;
    write(&web, &out.join("web.tar"))
}

/// Writes beside and renames, so that an agent never loads half an archive.
fn write(image: &Image, path: &Path) -> Result<(), String> {
    let beside = path.with_extension("tmp");
    let result = std::fs::File::create(&beside)
        .and_then(|file| image.write(std::io::BufWriter::new(file)))
        .and_then(|()| std::fs::rename(&beside, path));
    result.map_err(|error| format!("cannot write {}: {error}", path.display()))
}
