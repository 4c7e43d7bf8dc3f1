//! As much of ctnetlink as forgetting flows needs: list a family's flows, delete
//! those that match. `parse` is pure; the rest is a blocking socket, to be
//! called off the runtime's threads.

use super::flows::Flow;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel fills pages of at most this much when it lists.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const HEADER: usize = 16;
/// `struct nfgenmsg`.
const GENERIC: usize = 4;
/// `NFNL_SUBSYS_CTNETLINK` in the upper byte, `IPCTNL_MSG_CT_*` in the lower.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
/// The upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Deletes the UDP flows that match; returns how many.
pub fn forget(flows: &BTreeSet<Flow>) -> io::Result<usize> {
    let mut forgotten = 0;
    for v4 in [true, false] {
        if !flows.iter().any(|flow| flow.backend.is_ipv4() == v4) {
            continue;
        }
        let family = u8::try_from(if v4 { libc::AF_INET } else { libc::AF_INET6 }).expect("families are small");
        let found = list(family, |tuple| flows.iter().any(|flow| matches(flow, tuple)))?;
        let socket = open()?;
        for (sequence, orig) in (1..).zip(found) {
            let mut body = Vec::new();
            put(&mut body, TUPLE_ORIG | NESTED, &orig);
            send(&socket, DELETE, libc::NLM_F_ACK, sequence, family, &body)?;
            let mut answer = vec![0; ANSWER_BYTES_MAX];
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            // It may have ended by itself in between: then there is nothing to count.
            forgotten += usize::from(error_code(&answer[..length]) == Some(0));
        }
    }
    Ok(forgotten)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    pub protocol: u8,
    /// The address asked for.
    pub destination: IpAddr,
    pub port: u16,
    /// Who answers: the backend.
    pub replier: IpAddr,
}

fn matches(flow: &Flow, tuple: &Tuple) -> bool {
    i32::from(tuple.protocol) == libc::IPPROTO_UDP
        && tuple.port == flow.port
        && tuple.replier == flow.backend
        && flow.frontend.is_none_or(|ip| ip == tuple.destination)
}

/// The original tuples, as the kernel wrote them, of the flows that are wanted.
fn list(family: u8, wanted: impl Fn(&Tuple) -> bool) -> io::Result<Vec<Vec<u8>>> {
    let socket = open()?;
    send(&socket, GET, libc::NLM_F_DUMP, 0, family, &[])?;
    let (mut found, mut answer) = (Vec::new(), vec![0; ANSWER_BYTES_MAX]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        for (kind, body) in messages(&answer[..length]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => {
                    let code = body
                        .get(..4)
                        .map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => {
                    if let Some((tuple, orig)) = body.get(GENERIC..).and_then(parse)
                        && wanted(&tuple)
                    {
                        found.push(orig.to_vec());
                    }
                }
            }
        }
    }
}

/// A flow's attributes: what it is, and its original tuple's bytes.
fn parse(attributes_of_flow: &[u8]) -> Option<(Tuple, &[u8])> {
    let orig = attribute(attributes_of_flow, TUPLE_ORIG)?;
    let reply = attribute(attributes_of_flow, TUPLE_REPLY)?;
    let proto = attribute(orig, 2)?;
    let tuple = Tuple {
        protocol: *attribute(proto, 1)?.first()?,
        destination: address(attribute(orig, 1)?, 2, 4)?,
        port: u16::from_be_bytes(attribute(proto, 3)?.try_into().ok()?),
        replier: address(attribute(reply, 1)?, 1, 3)?,
    };
    Some((tuple, orig))
}

fn address(ips: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = attribute(ips, v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(attribute(ips, v6)?).ok()?).into())
}

fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d, ..] = bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        if u16::from_ne_bytes([*c, *d]) & TYPE_MASK == kind {
            return bytes.get(4..length);
        }
        bytes = bytes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = usize::try_from(u32::from_ne_bytes(header[..4].try_into().ok()?)).ok()?;
        let body = bytes.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn error_code(answer: &[u8]) -> Option<i32> {
    let (_, body) = messages(answer).find(|(kind, _)| i32::from(*kind) == libc::NLMSG_ERROR)?;
    Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?))
}

fn open() -> io::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

fn send(socket: &OwnedFd, kind: u16, flags: i32, sequence: u32, family: u8, body: &[u8]) -> io::Result<()> {
    let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("netlink flags are 16 bits");
    let length = u32::try_from(HEADER + GENERIC + body.len()).expect("a tuple is some dozen bytes");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(body);
    sendto(socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("a tuple is some dozen bytes");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nest(kind: u16, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        parts.iter().for_each(|(kind, value)| put(&mut inner, *kind, value));
        put(&mut outer, kind | NESTED, &inner);
        outer
    }

    #[test]
    fn reads_a_flow_and_survives_rubbish() {
        let tuple = |source: &[u8], destination: &[u8], port: u16| {
            let ip = nest(1, &[(1, source), (2, destination)]);
            let proto = nest(2, &[(1, &[17]), (2, &[0, 9]), (3, &port.to_be_bytes())]);
            [ip, proto].concat()
        };
        let (orig, reply) = (
            tuple(&[10, 0, 0, 1], &[10, 43, 0, 5], 53),
            tuple(&[10, 42, 0, 7], &[10, 0, 0, 1], 9),
        );
        let mut flow = Vec::new();
        put(&mut flow, TUPLE_ORIG | NESTED, &orig);
        put(&mut flow, TUPLE_REPLY | NESTED, &reply);
        let (found, bytes) = parse(&flow).unwrap();
        assert_eq!(bytes, orig);
        let flow_of = |frontend: Option<&str>, port, backend: &str| Flow {
            frontend: frontend.map(|ip| ip.parse().unwrap()),
            port,
            backend: backend.parse().unwrap(),
        };
        assert!(matches(&flow_of(Some("10.43.0.5"), 53, "10.42.0.7"), &found));
        assert!(matches(&flow_of(None, 53, "10.42.0.7"), &found));
        assert!(!matches(&flow_of(Some("10.43.0.6"), 53, "10.42.0.7"), &found));
        assert!(!matches(&flow_of(None, 54, "10.42.0.7"), &found));
        assert!(!matches(&flow_of(None, 53, "10.42.0.8"), &found));
        for end in 0..flow.len() {
            assert!(end >= flow.len() - 8 || parse(&flow[..end]).is_none());
        }
        assert_eq!(messages(&[255; 40]).count(), 0);
    }
}
