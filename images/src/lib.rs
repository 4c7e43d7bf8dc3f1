//! Writes images as OCI archives (image-spec v1.1 layout in a tar, with a
//! Docker `manifest.json` beside it, so that every importer takes them). The
//! same input gives the same bytes: times are zero, entries are sorted.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// One file of the root file system.
#[derive(Debug, Clone)]
pub enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
}

/// A root file system and how to start it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// `registry/name:tag`.
    pub reference: String,
    /// Absolute path without the leading slash -> what is there. Parents are made.
    pub files: BTreeMap<String, Node>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub exposed_ports: Vec<String>,
}

impl Image {
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_string(),
            ..Self::default()
        }
    }

    pub fn file(mut self, path: &str, mode: u32, content: Vec<u8>) -> Self {
        self.files
            .insert(path.trim_start_matches('/').to_string(), Node::File { mode, content });
        self
    }

    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.files
            .insert(path.trim_start_matches('/').to_string(), Node::Directory { mode });
        self
    }

    /// busybox at `/bin/busybox` with a link for each applet that demos and tests use.
    pub fn busybox(mut self, content: Vec<u8>) -> Self {
        for applet in APPLETS {
            self.files.insert(
                format!("bin/{applet}"),
                Node::Symlink {
                    target: "busybox".to_string(),
                },
            );
        }
        self.directory("tmp", 0o1777)
            .directory("root", 0o700)
            .file("bin/busybox", 0o755, content)
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_vec(),
            )
            .file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n".to_vec())
    }

    /// The archive, uncompressed: importing then costs a copy and nothing more.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let layer = self.layer()?;
        let layer_digest = sha256(&layer);
        let config = self.config(&layer_digest).to_string().into_bytes();
        let config_digest = sha256(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{config_digest}"), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{layer_digest}"), "size": layer.len()}],
        })
        .to_string()
        .into_bytes();
        let manifest_digest = sha256(&manifest);
        let tag = self.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"),
                "size": manifest.len(),
                "annotations": {"io.containerd.image.name": self.reference, "org.opencontainers.image.ref.name": tag},
            }],
        });
        let docker = json!([{
            "Config": format!("blobs/sha256/{config_digest}"),
            "RepoTags": [self.reference],
            "Layers": [format!("blobs/sha256/{layer_digest}")],
        }]);
        let mut archive = tar::Builder::new(out);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        append(&mut archive, "index.json", index.to_string().as_bytes(), 0o644)?;
        append(&mut archive, "manifest.json", docker.to_string().as_bytes(), 0o644)?;
        for (digest, content) in [
            (config_digest, config),
            (manifest_digest, manifest),
            (layer_digest, layer),
        ] {
            append(&mut archive, &format!("blobs/sha256/{digest}"), &content, 0o644)?;
        }
        archive.into_inner()?.flush()
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut nodes = self.files.clone();
        for path in self.files.keys() {
            for parent in Path::new(path).ancestors().skip(1) {
                let parent = parent.to_string_lossy().into_owned();
                if !parent.is_empty() {
                    nodes.entry(parent).or_insert(Node::Directory { mode: 0o755 });
                }
            }
        }
        let mut layer = tar::Builder::new(Vec::new());
        for (path, node) in &nodes {
            match node {
                Node::Directory { mode } => {
                    let mut header = header(0, *mode);
                    header.set_entry_type(tar::EntryType::Directory);
                    layer.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File { mode, content } => append(&mut layer, path, content, *mode)?,
                Node::Symlink { target } => {
                    let mut header = header(0, 0o777);
                    header.set_entry_type(tar::EntryType::Symlink);
                    layer.append_link(&mut header, path, target)?;
                }
            }
        }
        layer.into_inner()
    }

    fn config(&self, layer_digest: &str) -> Value {
        let ports: serde_json::Map<String, Value> = self.exposed_ports.iter().map(|p| (p.clone(), json!({}))).collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint, "Cmd": self.command, "Env": self.env, "User": self.user,
                "WorkingDir": self.working_dir, "ExposedPorts": ports,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "skiff"}],
        })
    }
}

const APPLETS: &[&str] = &[
    "[",
    "arping",
    "awk",
    "base64",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "gzip",
    "head",
    "hostname",
    "httpd",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "killall",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "more",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nohup",
    "nproc",
    "nslookup",
    "od",
    "pgrep",
    "pidof",
    "ping",
    "ping6",
    "pkill",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "sync",
    "tail",
    "tar",
    "tee",
    "telnet",
    "test",
    "timeout",
    "top",
    "touch",
    "tr",
    "traceroute",
    "true",
    "truncate",
    "tty",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "usleep",
    "vi",
    "watch",
    "wc",
    "wget",
    "which",
    "whoami",
    "xargs",
    "yes",
];

/// The architecture as image-spec names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    archive.append_data(&mut header(content.len() as u64, mode), path, content)
}

fn sha256(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Image {
        Image {
            entrypoint: vec!["/web".into()],
            ..Image::new("skiff.local/sample:1")
        }
        .file("web", 0o755, b"binary".to_vec())
    }

    #[test]
    fn same_input_gives_the_same_archive() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sample().write(&mut first).expect("written");
        sample().write(&mut second).expect("written");
        assert_eq!(first, second);
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_reachable_from_the_index() {
        let mut bytes = Vec::new();
        sample().busybox(b"bb".to_vec()).write(&mut bytes).expect("written");
        let mut blobs = BTreeMap::new();
        let mut index = Value::Null;
        for entry in tar::Archive::new(bytes.as_slice()).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            io::copy(&mut entry, &mut content).expect("content");
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, sha256(&content));
                blobs.insert(format!("sha256:{digest}"), content);
            } else if path == "index.json" {
                index = serde_json::from_slice(&content).expect("JSON");
            }
        }
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "skiff.local/sample:1"
        );
        let manifest: Value =
            serde_json::from_slice(&blobs[index["manifests"][0]["digest"].as_str().expect("digest")]).expect("JSON");
        assert!(blobs.contains_key(manifest["config"]["digest"].as_str().expect("digest")));
        let layer = &blobs[manifest["layers"][0]["digest"].as_str().expect("digest")];
        let names: Vec<String> = tar::Archive::new(layer.as_slice())
            .entries()
            .expect("a tar")
            .map(|e| {
                e.expect("an entry")
                    .path()
                    .expect("a path")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        for expected in ["bin/", "bin/sh", "bin/busybox", "web", "tmp/"] {
            assert!(
                names.contains(&expected.to_string()),
                "{expected} is missing from {names:?}"
            );
        }
    }
}
