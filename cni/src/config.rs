//! The network configuration that arrives on stdin. Pure.

use crate::error::Error;
use crate::ipam::Pool;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    #[serde(default = "first_version")]
    pub cni_version: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// The node's own pod ranges: at most one of each family.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// 0 or absent leaves the kernel's 1500.
    #[serde(default)]
    pub mtu: u32,
    #[serde(default)]
    pub prev_result: Option<Value>,
    /// GC only: what is to stay.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    pub valid_attachments: BTreeSet<Attachment>,
}

#[derive(Debug, Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container: String,
    pub ifname: String,
}

fn first_version() -> String {
    // The specification: a configuration without a version is of 0.2.0, which
    // we answer in the oldest form we speak.
    "0.3.0".to_owned()
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/skiff/cni")
}

impl NetConf {
    pub fn pool(&self) -> Result<Pool, Error> {
        Pool::new(&self.pod_cidrs).map_err(Error::Config)
    }
}

pub fn parse(stdin: &[u8]) -> Result<NetConf, Error> {
    let conf: NetConf = serde_json::from_slice(stdin).map_err(Error::Decode)?;
    if !VERSIONS.contains(&conf.cni_version.as_str()) {
        return Err(Error::IncompatibleVersion {
            version: conf.cni_version,
            supported: VERSIONS.join(", "),
        });
    }
    // The name becomes a directory.
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !conf.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !conf.name.chars().all(safe) {
        return Err(Error::Config(format!(
            "name {:?} must be letters, digits, '.', '-' and '_'",
            conf.name
        )));
    }
    Ok(conf)
}

/// The version to answer in, also when the rest of the configuration is broken.
pub fn version_of(stdin: &[u8]) -> String {
    serde_json::from_slice::<Value>(stdin)
        .ok()
        .and_then(|conf| conf.get("cniVersion")?.as_str().map(str::to_owned))
        .filter(|version| VERSIONS.contains(&version.as_str()))
        .unwrap_or_else(|| "1.0.0".to_owned())
}

/// CHECK: the addresses the caller remembers are the ones leased.
pub fn previous_matches(previous: &Value, leased: &[IpAddr]) -> Result<(), Error> {
    let remembered: BTreeSet<IpAddr> = previous
        .get("ips")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.get("address")?.as_str()?.split('/').next()?.parse().ok())
        .collect();
    match leased.iter().find(|address| !remembered.contains(address)) {
        None => Ok(()),
        Some(address) => Err(Error::Mismatch(format!(
            "address {address} is leased but not in prevResult"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_agent_writes() {
        let conf = parse(
            br#"{"cniVersion":"1.0.0","name":"skiff","type":"skiff-cni",
                 "podCIDRs":["10.42.0.0/24"],"dataDir":"/x","mtu":1450}"#,
        )
        .unwrap();
        assert_eq!((conf.mtu, conf.pod_cidrs.len()), (1450, 1));
    }

    #[test]
    fn refuses_names_that_leave_the_directory_and_unknown_versions() {
        for (name, version, code) in [("../x", "1.0.0", 7), ("", "1.0.0", 7), ("ok", "9.0.0", 1)] {
            let text = format!(r#"{{"cniVersion":"{version}","name":"{name}","type":"skiff-cni"}}"#);
            assert_eq!(parse(text.as_bytes()).unwrap_err().code(), code, "{name} {version}");
        }
    }
}
