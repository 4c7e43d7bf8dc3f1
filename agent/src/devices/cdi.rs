//! The Container Device Interface for runtimes that do not know it (containerd before 1.7): what a device's
//! specification does to a container, as CRI can say it: variables, device nodes, mounts. Hooks it cannot say.
//! Source: <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>.

use serde::Deserialize;
use skiff_proto::cri::v1 as cri;
use std::path::Path;

/// Where specifications are; of two that speak of one device the later counts.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// `vendor/class`.
    kind: String,
    devices: Vec<Device>,
    /// For each of its devices.
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
}

/// What is to be added to a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Added {
    pub env: Vec<(String, String)>,
    pub devices: Vec<cri::Device>,
    pub mounts: Vec<cri::Mount>,
}

/// Whether a runtime of this version knows CDI names by itself.
pub fn is_known_to(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    (number(), number()) >= (1, 7)
}

/// Reads all specifications of the node. One that cannot be read is passed over, as runtimes do.
pub fn read(dirs: &[&str]) -> Vec<Spec> {
    let mut specs = Vec::new();
    for dir in dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).take(FILES_MAX).collect();
        paths.sort();
        specs.extend(paths.iter().filter_map(|path| file(path)));
    }
    specs
}

fn file(path: &Path) -> Option<Spec> {
    let kind = path.extension()?.to_str()?;
    let small = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX);
    if !small || !["json", "yaml", "yml"].contains(&kind) {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let read = match kind {
        "json" => serde_json::from_str(&text).map_err(|error| error.to_string()),
        _ => serde_saphyr::from_str(&text).map_err(|error| error.to_string()),
    };
    read.map_err(|error| tracing::warn!(error, path = %path.display(), "a CDI specification is passed over"))
        .ok()
}

/// What these devices do to a container. Pure.
pub fn added(specs: &[Spec], names: &[String]) -> Result<Added, String> {
    let mut all = Added::default();
    let mut whole: Vec<&str> = Vec::new();
    for name in names {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        let mut known = specs.iter().rev().filter(|spec| spec.kind == kind);
        let found = known.find_map(|spec| {
            let device = spec.devices.iter().find(|known| known.name == device)?;
            Some((spec, device))
        });
        let Some((spec, device)) = found else {
            return Err(format!("CDI device injection failed: unresolvable CDI devices {name}"));
        };
        if !whole.contains(&kind) {
            whole.push(kind);
            all.add(&spec.container_edits, name)?;
        }
        all.add(&device.container_edits, name)?;
    }
    Ok(all)
}

impl Added {
    fn add(&mut self, edits: &Edits, name: &str) -> Result<(), String> {
        if !edits.hooks.is_empty() {
            return Err(format!(
                "CDI device injection failed: {name} has hooks, which need containerd 1.7 or newer"
            ));
        }
        for variable in &edits.env {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.env.retain(|(known, _)| known != key);
            self.env.push((key.to_string(), value.to_string()));
        }
        let or = |text: &String, other: &str| {
            if text.is_empty() {
                other.to_string()
            } else {
                text.clone()
            }
        };
        self.devices.extend(edits.device_nodes.iter().map(|node| cri::Device {
            container_path: node.path.clone(),
            host_path: or(&node.host_path, &node.path),
            permissions: or(&node.permissions, "rwm"),
        }));
        self.mounts.extend(edits.mounts.iter().map(|mount| cri::Mount {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.options.iter().any(|option| option == "ro"),
            ..cri::Mount::default()
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).expect("a specification")
    }

    #[test]
    fn newer_runtimes_know_cdi() {
        for (version, known) in [
            ("1.6.20~ds1", false),
            ("1.7.0", true),
            ("v1.7.27", true),
            ("v2.0.1", true),
            ("1.5.9", false),
            ("", false),
        ] {
            assert_eq!(is_known_to(version), known, "{version}");
        }
    }

    #[test]
    fn devices_do_what_their_specification_says() {
        let common = json!({"env": ["ALL=1"], "mounts": [{"hostPath": "/lib/x", "containerPath": "/x", "options": ["ro", "bind"]}]});
        let one = |name: &str| {
            json!({"name": name, "containerEdits": {"env": [format!("DEVICE_{name}=yes")],
                "deviceNodes": [{"path": format!("/dev/{name}"), "hostPath": format!("/dev/real-{name}")}, {"path": "/dev/null", "permissions": "r"}]}})
        };
        let specs = [
            spec(
                json!({"cdiVersion": "0.6.0", "kind": "x.io/gpu", "devices": [one("a")], "containerEdits": {"env": ["OLD=1"]}}),
            ),
            spec(
                json!({"cdiVersion": "0.6.0", "kind": "x.io/gpu", "devices": [one("a"), one("b")], "containerEdits": common}),
            ),
            spec(
                json!({"cdiVersion": "0.6.0", "kind": "x.io/net", "devices": [{"name": "n", "containerEdits": {"hooks": [{"hookName": "prestart"}]}}]}),
            ),
        ];
        let of = |names: &[&str]| added(&specs, &names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let got = of(&["x.io/gpu=a", "x.io/gpu=b"]).expect("known");
        let env: Vec<String> = got.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(env, ["ALL=1", "DEVICE_a=yes", "DEVICE_b=yes"]);
        let nodes: Vec<(&str, &str, &str)> = got
            .devices
            .iter()
            .map(|device| {
                (
                    device.container_path.as_str(),
                    device.host_path.as_str(),
                    device.permissions.as_str(),
                )
            })
            .collect();
        let null = ("/dev/null", "/dev/null", "r");
        let wanted = [
            ("/dev/a", "/dev/real-a", "rwm"),
            null,
            ("/dev/b", "/dev/real-b", "rwm"),
            null,
        ];
        assert_eq!(nodes, wanted);
        assert_eq!(got.mounts.len(), 1);
        assert!(got.mounts[0].readonly && got.mounts[0].container_path == "/x");
        assert_eq!(
            of(&["x.io/gpu=c"]),
            Err("CDI device injection failed: unresolvable CDI devices x.io/gpu=c".into())
        );
        assert!(of(&["nonsense"]).is_err());
        assert!(of(&["x.io/net=n"]).expect_err("hooks").contains("containerd 1.7"));
        assert_eq!(of(&[]), Ok(Added::default()));
    }
}
