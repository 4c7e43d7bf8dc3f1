//! The veth of a pod: what it looks like (`plan`, pure) and making it so.
//!
//! ```text
//!   pod: eth0 10.42.0.5/32             host: skv1a2b3c...  (no address)
//!        default via 169.254.1.1  ---->      10.42.0.5/32 dev skv... scope link
//!        169.254.1.1 is host's MAC           10.42.0.5 is pod's MAC
//! ```
//!
//! The gateway address exists nowhere: a permanent neighbour entry gives it the
//! host end's MAC, so nothing is ever asked by ARP or neighbour discovery.
//! Both MACs are derived from the sandbox's ID, so one message makes both ends.

use crate::error::Error;
use crate::netlink::{self, Message, Socket, put};
use crate::request::Request;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

/// Host ends are called this and twelve hexadecimal digits; the dataplane's
/// rules know pod traffic by it.
pub const HOST_PREFIX: &str = "skv";
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
/// linux/rtnetlink.h: the gateway is reachable although no route says so.
const RTNH_F_ONLINK: u32 = 4;
/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[derive(Debug)]
pub struct Plan {
    pub host_name: String,
    pub host_mac: Mac,
    pub pod_name: String,
    pub pod_mac: Mac,
    pub addresses: Vec<IpAddr>,
    pub mtu: u32,
}

pub fn plan(request: &Request, addresses: &[IpAddr], mtu: u32) -> Plan {
    let digest = digest(&request.container, &request.ifname);
    let mac = |salt: u8| {
        let [_, _, b, c, d, e, f, _] = digest.to_be_bytes();
        // Locally administered, unicast; the two ends differ in the first byte.
        Mac([salt, b, c, d, e, f])
    };
    Plan {
        host_name: host_name(&request.container, &request.ifname),
        host_mac: mac(0x0a),
        pod_name: request.ifname.clone(),
        pod_mac: mac(0x0e),
        addresses: addresses.to_vec(),
        mtu,
    }
}

pub fn host_name(container: &str, ifname: &str) -> String {
    format!("{HOST_PREFIX}{:012x}", digest(container, ifname) >> 16)
}

/// FNV-1a: stable across builds, which the standard hasher does not promise.
fn digest(container: &str, ifname: &str) -> u64 {
    let bytes = container.bytes().chain([0]).chain(ifname.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    // FNV's high bits are weak on short inputs: fold them once more.
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Makes the attachment, replacing what a crashed ADD may have left of it.
/// Leaves the process in the pod's namespace.
pub fn connect(plan: &Plan, netns: &Path) -> Result<(), Error> {
    let mut host = Socket::open().map_err(failed("open a route socket"))?;
    let pod_ns = File::open(netns).map_err(failed(format!("open the network namespace {}", netns.display())))?;
    let create = || veth(plan, pod_ns.as_raw_fd());
    match host.call(create()) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            delete(&mut host, &plan.host_name)?;
            host.call(create())
        }
        other => other,
    }
    .map_err(failed(format!(
        "create {} with its end {} in the pod",
        plan.host_name, plan.pod_name
    )))?;
    let host_index = index(&plan.host_name)?;
    // Strict: a pod can only send from the address that is routed to it.
    sysctl("ipv4", &plan.host_name, "rp_filter", "1");
    sysctl("ipv4", &plan.host_name, "forwarding", "1");

    enter(&pod_ns)?;
    let mut pod = Socket::open().map_err(failed("open a route socket in the pod"))?;
    lo_up(&mut pod)?;
    let pod_index = index(&plan.pod_name)?;
    set_up(&mut pod, pod_index).map_err(failed(format!("set {} up", plan.pod_name)))?;
    for ip in &plan.addresses {
        configure_pod(&mut pod, plan, pod_index, *ip)?;
        configure_host(&mut host, plan, host_index, *ip)?;
    }
    Ok(())
}

fn configure_pod(pod: &mut Socket, plan: &Plan, index: u32, ip: IpAddr) -> Result<(), Error> {
    let gateway = if ip.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 };
    let create = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    // No duplicate address detection: the lease is what makes it unique.
    let flags = if ip.is_ipv4() { 0 } else { libc::IFA_F_NODAD as u8 };
    let address = Message::new(libc::RTM_NEWADDR, create, &netlink::address(ip, flags, index));
    pod.call(address.addr(libc::IFA_LOCAL, ip).addr(libc::IFA_ADDRESS, ip))
        .map_err(failed(format!("give {} the address {ip}", plan.pod_name)))?;
    pod.call(neighbour(gateway, index, plan.host_mac))
        .map_err(failed(format!("set the gateway's neighbour {gateway}")))?;
    let default = netlink::route(ip, 0, libc::RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
    let default = Message::new(libc::RTM_NEWROUTE, create, &default);
    pod.call(
        default
            .addr(libc::RTA_GATEWAY, gateway)
            .attr(libc::RTA_OIF, &index.to_ne_bytes()),
    )
    .map_err(failed(format!("set the pod's default route via {gateway}")))
}

fn configure_host(host: &mut Socket, plan: &Plan, index: u32, ip: IpAddr) -> Result<(), Error> {
    host.call(neighbour(ip, index, plan.pod_mac))
        .map_err(failed(format!("set the neighbour {ip}")))?;
    let route = netlink::route(ip, netlink::bits(ip), libc::RT_SCOPE_LINK, 0);
    let route = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &route);
    host.call(route.addr(libc::RTA_DST, ip).attr(libc::RTA_OIF, &index.to_ne_bytes()))
        .map_err(failed(format!("route {ip} to {}", plan.host_name)))
}

fn neighbour(ip: IpAddr, index: u32, mac: Mac) -> Message {
    let create = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Message::new(libc::RTM_NEWNEIGH, create, &netlink::neighbour(ip, index))
        .addr(libc::NDA_DST, ip)
        .attr(libc::NDA_LLADDR, &mac.0)
}

fn veth(plan: &Plan, pod_ns: RawFd) -> Message {
    let up = netlink::link(0, libc::IFF_UP as u32, libc::IFF_UP as u32);
    // The kernel makes the peer first, and a veth without its other end cannot be up.
    let mut peer = netlink::link(0, 0, 0);
    put(&mut peer, libc::IFLA_IFNAME, &netlink::name(&plan.pod_name));
    put(&mut peer, libc::IFLA_ADDRESS, &plan.pod_mac.0);
    put(&mut peer, libc::IFLA_NET_NS_FD, &pod_ns.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &up)
        .attr(libc::IFLA_IFNAME, &netlink::name(&plan.host_name))
        .attr(libc::IFLA_ADDRESS, &plan.host_mac.0);
    if plan.mtu > 0 {
        put(&mut peer, libc::IFLA_MTU, &plan.mtu.to_ne_bytes());
        message = message.attr(libc::IFLA_MTU, &plan.mtu.to_ne_bytes());
    }
    let (mut data, mut info) = (Vec::new(), Vec::new());
    put(&mut data, VETH_INFO_PEER, &peer);
    put(&mut info, libc::IFLA_INFO_KIND, b"veth");
    put(&mut info, libc::IFLA_INFO_DATA, &data);
    message.attr(libc::IFLA_LINKINFO, &info)
}

/// Removes the host end, and with it the pod's end and all routes. Fine when gone.
pub fn remove(host_name: &str) -> Result<(), Error> {
    let mut host = Socket::open().map_err(failed("open a route socket"))?;
    delete(&mut host, host_name)
}

fn delete(host: &mut Socket, host_name: &str) -> Result<(), Error> {
    let message = Message::new(libc::RTM_DELLINK, 0, &netlink::link(0, 0, 0));
    match host.call(message.attr(libc::IFLA_IFNAME, &netlink::name(host_name))) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other.map_err(failed(format!("delete {host_name}"))),
    }
}

pub fn loopback_up(netns: &Path) -> Result<(), Error> {
    let pod_ns = File::open(netns).map_err(failed(format!("open the network namespace {}", netns.display())))?;
    enter(&pod_ns)?;
    lo_up(&mut Socket::open().map_err(failed("open a route socket in the pod"))?)
}

fn lo_up(pod: &mut Socket) -> Result<(), Error> {
    const LO_INDEX: u32 = 1;
    set_up(pod, LO_INDEX).map_err(failed("set lo up"))
}

fn set_up(socket: &mut Socket, index: u32) -> io::Result<()> {
    let up = netlink::link(index, libc::IFF_UP as u32, libc::IFF_UP as u32);
    socket.call(Message::new(libc::RTM_NEWLINK, 0, &up))
}

/// CHECK: both ends exist and the pod's has its addresses.
pub fn verify(plan: &Plan, netns: &Path) -> Result<(), Error> {
    let missing = |what: String| Error::Mismatch(format!("{what} is missing"));
    if_nametoindex(plan.host_name.as_str()).map_err(|_| missing(format!("interface {}", plan.host_name)))?;
    enter(&File::open(netns).map_err(failed(format!("open the network namespace {}", netns.display())))?)?;
    if_nametoindex(plan.pod_name.as_str()).map_err(|_| missing(format!("interface {} in the pod", plan.pod_name)))?;
    for ip in &plan.addresses {
        // A socket can be bound only to an address that the namespace has.
        std::net::UdpSocket::bind((*ip, 0)).map_err(|_| missing(format!("address {ip} in the pod")))?;
    }
    Ok(())
}

fn enter(netns: &File) -> Result<(), Error> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| failed("enter the pod's network namespace")(errno.into()))
}

fn index(name: &str) -> Result<u32, Error> {
    if_nametoindex(name).map_err(|errno| failed(format!("find interface {name}"))(errno.into()))
}

/// Hardening, not function: where the file cannot be written (a namespace with
/// a read-only /proc/sys), pods work all the same.
fn sysctl(family: &str, interface: &str, key: &str, value: &str) {
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{key}");
    if let Err(error) = std::fs::write(&path, value) {
        eprintln!("skiff-cni: {path} stays as it is: {error}");
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    move |source| Error::Netlink { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_by_sandbox_and_interface() {
        let names = [host_name("a", "eth0"), host_name("b", "eth0"), host_name("a", "eth1")];
        assert!(names.iter().all(|name| name.len() == 15));
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
        // A name outlives the plugin's version: DEL after an upgrade must find it.
        assert_eq!(host_name("a", "eth0"), host_name("a", "eth0"));
    }
}
