//! As much of rtnetlink as a veth needs, by hand: the plugin runs once per pod
//! and must start in a millisecond, so it carries no runtime and no netlink crate.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's answers to what we ask fit one page; a dump is never asked.
const ANSWER_BYTES_MAX: usize = 32 << 10;
const HEADER: usize = 16;

/// One request, built in place: header, fixed part, attributes.
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("netlink flags are 16 bits");
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Message { bytes }
    }

    pub fn attr(mut self, kind: u16, value: &[u8]) -> Message {
        put(&mut self.bytes, kind, value);
        self
    }

    pub fn addr(self, kind: u16, address: IpAddr) -> Message {
        match address {
            IpAddr::V4(v4) => self.attr(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attr(kind, &v6.octets()),
        }
    }
}

/// Appends one attribute, padded to the kernel's four bytes.
pub fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("attributes here are names, addresses and small nests");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

pub fn name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `struct ifinfomsg`.
pub fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for word in [index, flags, change] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// `struct ifaddrmsg` for a single address.
pub fn address(ip: IpAddr, flags: u8, index: u32) -> Vec<u8> {
    let mut bytes = vec![family(ip), bits(ip), flags, libc::RT_SCOPE_UNIVERSE];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes
}

/// `struct rtmsg` in the main table; `length` 0 is the default route.
pub fn route(ip: IpAddr, length: u8, scope: u8, flags: u32) -> Vec<u8> {
    let mut bytes = vec![
        family(ip),
        length,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
    ];
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes
}

/// `struct ndmsg` of a neighbour that needs no resolution and never ages.
pub fn neighbour(ip: IpAddr, index: u32) -> Vec<u8> {
    const NUD_PERMANENT: u16 = 0x80;
    let mut bytes = vec![family(ip), 0, 0, 0];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

pub fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).expect("address families are small")
}

/// A route socket. It stays in the namespace in which it was opened, wherever
/// the process goes next.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub fn open() -> io::Result<Socket> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends one request and waits for the kernel's verdict. The kernel works
    /// while we send, so the answer is there when `recv` is called.
    pub fn call(&mut self, message: Message) -> io::Result<()> {
        let mut bytes = message.bytes;
        self.sequence += 1;
        let length = u32::try_from(bytes.len()).expect("requests are a few hundred bytes");
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            if let Some(verdict) = verdict(&answer[..length], self.sequence) {
                return if verdict == 0 {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(-verdict))
                };
            }
        }
    }
}

/// The error number (0 or negative) of the acknowledgement of `sequence`.
fn verdict(mut answer: &[u8], sequence: u32) -> Option<i32> {
    while let (Some(header), Some(body)) = (answer.get(..HEADER), answer.get(HEADER..)) {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        if kind == libc::NLMSG_ERROR && word(8) == sequence {
            return body
                .get(..4)
                .map(|code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
        }
        let length = usize::try_from(word(0)).ok()?.max(HEADER).next_multiple_of(4);
        answer = answer.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, &name("eth0"));
        assert_eq!(bytes, [9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
    }

    #[test]
    fn verdict_skips_answers_to_others_and_survives_rubbish() {
        let ack = |sequence: u32, code: i32| {
            let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0];
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert_eq!(verdict(&[ack(1, -17), ack(2, -19)].concat(), 2), Some(-19));
        assert_eq!(verdict(&ack(1, 0), 2), None);
        assert_eq!(verdict(&[0; 40], 2), None);
        assert_eq!(verdict(&[1, 2, 3], 2), None);
    }
}
