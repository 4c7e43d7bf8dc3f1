//! IP addresses and networks.

use super::{Function, fail, no_overload};
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Made<'a> = Result<Value<'a>, EvalError>;

/// An address with a prefix length; host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "ip" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Opaque(Opaque::Ip(parse_ip(text.as_str())?))),
            [Value::Opaque(Opaque::Cidr(cidr))] => Ok(Value::Opaque(Opaque::Ip(cidr.address))),
            _ => no_overload(),
        },
        "isIP" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse_ip(text.as_str()).is_ok())),
            _ => no_overload(),
        },
        "ip.isCanonical" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse_ip(text.as_str())?.to_string() == text.as_str())),
            _ => no_overload(),
        },
        "family" => |_, args| match args {
            [Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
            _ => no_overload(),
        },
        "isUnspecified" => |_, args| test(args, IpAddr::is_unspecified),
        "isLoopback" => |_, args| test(args, IpAddr::is_loopback),
        "isLinkLocalMulticast" => |_, args| {
            test(args, |ip| match ip {
                IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
                IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
            })
        },
        "isLinkLocalUnicast" => |_, args| test(args, is_link_local),
        "isGlobalUnicast" => |_, args| {
            test(args, |ip| {
                let broadcast = *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
                !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip) || broadcast)
            })
        },
        "cidr" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Opaque(Opaque::Cidr(parse_cidr(text.as_str())?))),
            _ => no_overload(),
        },
        "isCIDR" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse_cidr(text.as_str()).is_ok())),
            _ => no_overload(),
        },
        "containsIP" => |_, args| match args {
            [Value::Opaque(Opaque::Cidr(cidr)), Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool(cidr.contains(*ip))),
            [Value::Opaque(Opaque::Cidr(cidr)), Value::String(text)] => {
                Ok(Value::Bool(cidr.contains(parse_ip(text.as_str())?)))
            }
            _ => no_overload(),
        },
        "containsCIDR" => |_, args| match args {
            [Value::Opaque(Opaque::Cidr(cidr)), Value::Opaque(Opaque::Cidr(other))] => {
                Ok(Value::Bool(cidr.contains_all(other)))
            }
            [Value::Opaque(Opaque::Cidr(cidr)), Value::String(text)] => {
                Ok(Value::Bool(cidr.contains_all(&parse_cidr(text.as_str())?)))
            }
            _ => no_overload(),
        },
        "masked" => |_, args| match args {
            [Value::Opaque(Opaque::Cidr(cidr))] => Ok(Value::Opaque(Opaque::Cidr(cidr.masked()))),
            _ => no_overload(),
        },
        "prefixLength" => |_, args| match args {
            [Value::Opaque(Opaque::Cidr(cidr))] => Ok(Value::Int(i64::from(cidr.prefix))),
            _ => no_overload(),
        },
        _ => return None,
    })
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn test<'a>(args: &[Value<'a>], test: fn(&IpAddr) -> bool) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool(test(ip))),
        _ => no_overload(),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    if text.contains('%') {
        return fail(format!("IP address {text:?} with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(ip) => Ok(ip),
        Err(_) => fail(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let wrong = |what: &str| {
        fail(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {what}"
        ))
    };
    let Some((address, prefix)) = text.rsplit_once('/') else {
        return wrong("no '/'");
    };
    if address.contains('%') {
        return wrong("IPv6 zones cannot be present in a prefix");
    }
    let Ok(address) = address.parse::<IpAddr>() else {
        return wrong("ParseAddr: unable to parse IP");
    };
    if let IpAddr::V6(ip) = address
        && ip.to_ipv4_mapped().is_some()
    {
        return fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    let most = if address.is_ipv4() { 32 } else { 128 };
    let leading_zero = prefix.len() > 1 && prefix.starts_with('0');
    if leading_zero || prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return wrong(&format!("bad bits after slash: {prefix:?}"));
    }
    match prefix.parse::<u8>() {
        Ok(prefix) if prefix <= most => Ok(Cidr { address, prefix }),
        _ => wrong("prefix length out of range"),
    }
}

impl Cidr {
    pub fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Self {
            address,
            prefix: self.prefix,
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let other = Self {
            address: ip,
            prefix: self.prefix,
        };
        self.address.is_ipv4() == ip.is_ipv4() && self.masked() == other.masked()
    }

    fn contains_all(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
