//! What goes to stdout, in the form of the version that was asked. Pure.

use crate::config::{NetConf, VERSIONS};
use crate::error::Error;
use crate::request::Request;
use crate::wire::Plan;
use serde_json::{Value, json};
use std::error::Error as _;
use std::net::IpAddr;

pub fn added(conf: &NetConf, request: &Request, plan: &Plan) -> String {
    let mut interfaces = vec![
        json!({"name": plan.host_name, "mac": plan.host_mac.to_string()}),
        json!({"name": request.ifname, "mac": plan.pod_mac.to_string(), "sandbox": request.netns}),
    ];
    if conf.cni_version == "1.1.0" && conf.mtu > 0 {
        interfaces
            .iter_mut()
            .for_each(|interface| interface["mtu"] = conf.mtu.into());
    }
    let ips: Vec<Value> = plan.addresses.iter().map(|address| ip(conf, *address, 1)).collect();
    let routes: Vec<Value> = plan
        .addresses
        .iter()
        .map(|address| json!({"dst": if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" }}))
        .collect();
    json!({"cniVersion": conf.cni_version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": {}})
        .to_string()
}

pub fn loopback(conf: &NetConf, request: &Request) -> String {
    let interface = json!({"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": request.netns});
    let mut address = ip(conf, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
    address["address"] = "127.0.0.1/8".into();
    json!({"cniVersion": conf.cni_version, "interfaces": [interface], "ips": [address], "dns": {}}).to_string()
}

/// Before 1.0.0 an address said its family in `version`.
fn ip(conf: &NetConf, address: IpAddr, interface: usize) -> Value {
    let (family, bits) = if address.is_ipv4() { ("4", 32) } else { ("6", 128) };
    let mut ip = json!({"interface": interface, "address": format!("{address}/{bits}")});
    if conf.cni_version.starts_with("0.") {
        ip["version"] = family.into();
    }
    ip
}

pub fn versions(asked: &str) -> String {
    json!({"cniVersion": asked, "supportedVersions": VERSIONS}).to_string()
}

pub fn error(version: &str, error: &Error) -> String {
    let mut details = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        details.push(cause.to_string());
        source = cause.source();
    }
    let mut message = json!({"cniVersion": version, "code": error.code(), "msg": error.to_string()});
    if !details.is_empty() {
        message["details"] = details.join(": ").into();
    }
    message.to_string()
}
