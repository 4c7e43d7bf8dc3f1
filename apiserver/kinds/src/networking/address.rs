//! Addresses and CIDRs as fields of objects: what is one at all, what is one
//! unambiguously, and what is written in its one canonical form.
//! Source: KEP-4858.

use crate::check::{Errors, Path};
use crate::names::{NOT_A_CIDR, NOT_AN_IP};
use std::net::IpAddr;

/// Reads what older parsers took: octets may begin with zeros.
pub(crate) fn loose_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    let octets: Vec<&str> = text.split('.').collect();
    let decimal = |o: &&str| !o.is_empty() && o.len() <= 8 && o.bytes().all(|b| b.is_ascii_digit());
    if octets.len() != 4 || !octets.iter().all(decimal) {
        return None;
    }
    let plain: Vec<&str> = octets
        .iter()
        .map(|o| match o.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        })
        .collect();
    plain.join(".").parse().ok()
}

fn loose_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let ip = loose_ip(ip)?;
    let digits = !length.is_empty() && length.len() <= 4 && length.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = digits.then(|| length.parse().ok()).flatten()?;
    (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn unmapped((ip, length): (IpAddr, u8)) -> (IpAddr, u8) {
    match ip {
        IpAddr::V6(v6) if length >= 96 => v6.to_ipv4_mapped().map_or((ip, length), |v4| (v4.into(), length - 96)),
        _ => (ip, length),
    }
}

fn masked((ip, length): (IpAddr, u8)) -> Option<ipnet::IpNet> {
    ipnet::IpNet::new(ip, length).ok().map(|net| net.trunc())
}

pub(crate) fn is_any_ip(text: &str) -> bool {
    loose_ip(text).is_some()
}

/// The range that a CIDR means, its host bits cleared.
pub(crate) fn range(text: &str) -> Option<ipnet::IpNet> {
    loose_cidr(text).and_then(masked)
}

/// What keeps readers from taking an address for the same one.
pub(crate) fn ip_fault(text: &str) -> Option<&'static str> {
    let Some(ip) = loose_ip(text) else {
        return Some(NOT_AN_IP);
    };
    if text.parse::<IpAddr>().is_err() {
        Some("must not have leading 0s")
    } else if is_mapped(ip) {
        Some("must not be an IPv4-mapped IPv6 address")
    } else {
        None
    }
}

/// What keeps readers from taking a range for the same one.
pub(crate) fn cidr_fault(text: &str) -> Option<&'static str> {
    let Some(parsed) = loose_cidr(text) else {
        return Some(NOT_A_CIDR);
    };
    let zeros = |length: &str| length.len() > 1 && length.starts_with('0');
    let plain = text
        .split_once('/')
        .is_some_and(|(ip, l)| ip.parse::<IpAddr>().is_ok() && !zeros(l));
    if !plain {
        Some("must not have leading 0s in IP or prefix length")
    } else if is_mapped(parsed.0) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else if masked(parsed).is_some_and(|net| net.addr() != parsed.0) {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    }
}

/// An address that every reader takes for the same one.
pub(crate) fn ip(path: &Path, text: &str, errors: &mut Errors) {
    if let Some(fault) = ip_fault(text) {
        errors.invalid(path, text, fault);
    }
}

/// A range that every reader takes for the same one.
pub(crate) fn cidr(path: &Path, text: &str, errors: &mut Errors) {
    if let Some(fault) = cidr_fault(text) {
        errors.invalid(path, text, fault);
    }
}

fn canonical(path: &Path, text: &str, form: &str, errors: &mut Errors) {
    if text != form {
        errors.invalid(path, text, &format!("must be in canonical form ({form:?})"));
    }
}

/// What is wrong with an address that must be written in its one form.
pub(crate) fn canonical_ip(path: &Path, text: &str, errors: &mut Errors) {
    match loose_ip(text) {
        None => errors.invalid(path, text, NOT_AN_IP),
        Some(ip) => canonical(path, text, &unmapped((ip, 128)).0.to_string(), errors),
    }
}

pub(crate) fn canonical_cidr(path: &Path, text: &str, errors: &mut Errors) {
    match loose_cidr(text).map(unmapped).and_then(masked) {
        None => errors.invalid(path, text, NOT_A_CIDR),
        Some(net) => canonical(path, text, &net.to_string(), errors),
    }
}

/// An address with the length of its network: `10.9.8.7/24`.
pub(crate) fn interface(path: &Path, text: &str, errors: &mut Errors) {
    match loose_cidr(text).map(unmapped) {
        None => {
            let text_of = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(path, text, text_of);
        }
        Some((ip, length)) => canonical(path, text, &format!("{ip}/{length}"), errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(check: fn(&Path, &str, &mut Errors), text: &str) -> String {
        let mut errors = Errors::default();
        check(&Path::new("f"), text, &mut errors);
        let shown: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        shown.join("; ")
    }

    #[test]
    fn forms() {
        type Check = fn(&Path, &str, &mut Errors);
        let rows: [(Check, &str, &str); 20] = [
            (ip, "10.0.0.1", ""),
            (ip, "010.0.0.1", "must not have leading 0s"),
            (ip, "::ffff:10.0.0.1", "IPv4-mapped"),
            (ip, "10.0.0", "must be a valid IP address"),
            (ip, "0.0.0.00000000000000000001", "must be a valid IP address"),
            (cidr, "10.0.0.0/8", ""),
            (cidr, "10.0.0.1/8", "bits set beyond the prefix length"),
            (cidr, "10.0.0.0/08", "leading 0s in IP or prefix length"),
            (cidr, "10.0.0.0/33", "must be a valid CIDR value"),
            (cidr, "::ffff:10.0.0.0/104", "IPv4-mapped"),
            (canonical_ip, "2001:db8::1", ""),
            (canonical_ip, "2001:DB8:0::1", "canonical form (\"2001:db8::1\")"),
            (canonical_ip, "010.0.0.1", "canonical form (\"10.0.0.1\")"),
            (canonical_cidr, "10.0.0.1/8", "canonical form (\"10.0.0.0/8\")"),
            (canonical_cidr, "fd00::/64", ""),
            (canonical_cidr, "x/64", "must be a valid CIDR value"),
            (interface, "10.9.8.7/24", ""),
            (interface, "10.9.8.7", "must be a valid address in CIDR form"),
            (
                interface,
                "::ffff:192.168.0.1/120",
                "canonical form (\"192.168.0.1/24\")",
            ),
            (interface, "2001:DB8::1/64", "canonical form (\"2001:db8::1/64\")"),
        ];
        for (check, text, want) in rows {
            let got = faults(check, text);
            assert!(
                if want.is_empty() {
                    got.is_empty()
                } else {
                    got.contains(want)
                },
                "{text}: {got}"
            );
        }
    }
}
