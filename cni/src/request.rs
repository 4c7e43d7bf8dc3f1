//! What the caller asks, from the environment. Pure.

use crate::error::Error;
use crate::ipam::LeaseRequest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

#[derive(Debug)]
pub struct Request {
    pub container: String,
    pub ifname: String,
    pub netns: Option<PathBuf>,
    /// Who the address belongs to: the pod, whatever sandboxes it goes through.
    pub owner: String,
}

impl Request {
    pub fn lease(&self) -> LeaseRequest {
        LeaseRequest {
            owner: self.owner.clone(),
            container: self.container.clone(),
            ifname: self.ifname.clone(),
        }
    }

    pub fn netns_path(&self) -> Result<&Path, Error> {
        self.netns.as_deref().ok_or(Error::Environment {
            name: "CNI_NETNS",
            problem: "must name the pod's network namespace".into(),
        })
    }
}

pub fn command(env: &BTreeMap<String, String>) -> Result<Command, Error> {
    Ok(match env.get("CNI_COMMAND").map_or("", String::as_str) {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "GC" => Command::Gc,
        "STATUS" => Command::Status,
        "VERSION" => Command::Version,
        other => {
            let problem = format!("is {other:?}; set ADD, DEL, CHECK, GC, STATUS or VERSION");
            return Err(Error::Environment {
                name: "CNI_COMMAND",
                problem,
            });
        }
    })
}

pub fn parse(command: Command, env: &BTreeMap<String, String>) -> Result<Request, Error> {
    let get = |name: &str| env.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let container = get("CNI_CONTAINERID").ok_or(Error::Environment {
        name: "CNI_CONTAINERID",
        problem: "must be set".into(),
    })?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !container.starts_with(|c: char| c.is_ascii_alphanumeric()) || !container.chars().all(allowed) {
        let problem = format!("is {container:?}; use letters, digits, '.', '-' and '_'");
        return Err(Error::Environment {
            name: "CNI_CONTAINERID",
            problem,
        });
    }
    let ifname = get("CNI_IFNAME").ok_or(Error::Environment {
        name: "CNI_IFNAME",
        problem: "must be set".into(),
    })?;
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if ifname.len() > 15 || ifname == "." || ifname == ".." || ifname.contains(bad) {
        let problem = format!("is {ifname:?}, which is no interface name");
        return Err(Error::Environment {
            name: "CNI_IFNAME",
            problem,
        });
    }
    let netns = get("CNI_NETNS").map(PathBuf::from);
    if netns.is_none() && matches!(command, Command::Add | Command::Check) {
        return Err(Error::Environment {
            name: "CNI_NETNS",
            problem: "must name the pod's network namespace".into(),
        });
    }
    let args: BTreeMap<&str, &str> = get("CNI_ARGS")
        .unwrap_or("")
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let owner = owner(&args, container, ifname);
    Ok(Request {
        container: container.to_owned(),
        ifname: ifname.to_owned(),
        netns,
        owner,
    })
}

/// By pod UID; by name and sandbox where the runtime does not pass the UID;
/// else by sandbox alone.
fn owner(args: &BTreeMap<&str, &str>, container: &str, ifname: &str) -> String {
    let arg = |name: &str| args.get(name).copied().filter(|value| !value.is_empty());
    match (arg("K8S_POD_UID"), arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) {
        (Some(uid), _, _) => format!("uid/{uid}/{ifname}"),
        (None, Some(namespace), Some(name)) => format!("pod/{namespace}/{name}/{container}/{ifname}"),
        _ => format!("container/{container}/{ifname}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn owner_prefers_the_uid() {
        let base = [("CNI_CONTAINERID", "abc"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")];
        for (args, want) in [
            (
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=u",
                "uid/u/eth0",
            ),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", "pod/a/b/abc/eth0"),
            ("", "container/abc/eth0"),
        ] {
            let mut all = env(&base);
            all.insert("CNI_ARGS".into(), args.into());
            assert_eq!(parse(Command::Add, &all).unwrap().owner, want);
        }
    }

    #[test]
    fn bad_environment_has_code_4() {
        let cases = [
            env(&[("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")]),
            env(&[("CNI_CONTAINERID", "../a"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")]),
            env(&[("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "a/b"), ("CNI_NETNS", "/n")]),
            env(&[("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0")]),
        ];
        for case in cases {
            assert_eq!(parse(Command::Add, &case).unwrap_err().code(), 4, "{case:?}");
        }
    }
}
