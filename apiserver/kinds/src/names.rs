//! What names and addresses must look like: the shared rules under this crate's
//! short names, and the checks of addresses.

use crate::networking::address;
use std::net::IpAddr;

pub(crate) use skiff_api::names::{
    config_key, dns1035_label as dns_1035_label, dns1123_label as dns_label, dns1123_subdomain as dns_subdomain,
    env_var_name as env_name, label_value, path_segment, port_name, qualified_name,
    wildcard_dns1123_subdomain as wildcard_subdomain,
};

pub(crate) const SUBDOMAIN_MAX: usize = 253;

pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

pub(crate) const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// What is wrong with an address that every reader is to take for the same one.
pub(crate) fn ip(text: &str) -> Vec<String> {
    address::ip_fault(text).map(str::to_string).into_iter().collect()
}

/// What is wrong with a range, likewise.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    address::cidr_fault(text).map(str::to_string).into_iter().collect()
}

/// A word on an address that is valid and not in the form that all write alike.
pub(crate) fn ip_warning(path: &str, text: &str) -> Option<String> {
    let ip = text.parse::<IpAddr>().ok()?;
    if let IpAddr::V6(v6) = ip
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            v4.to_string()
        ));
    }
    let canonical = ip.to_string();
    (canonical != text)
        .then(|| format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})"))
}

/// What is wrong with an address that others are to reach: it may not be one that
/// means something else on each machine.
pub(crate) fn non_special_ip(text: &str) -> Vec<String> {
    let Some(ip) = address::loose_ip(text) else {
        return vec!["must be a valid IP address".into()];
    };
    let (local, local_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut faults = Vec::new();
    if ip.is_unspecified() {
        faults.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        faults.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    }
    if local {
        faults.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    }
    if local_multicast {
        faults.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into());
    }
    faults
}

pub(crate) const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Whether the addresses (or CIDRs) hold both families and no third.
pub(crate) fn is_dual_stack(addresses: &[&str]) -> bool {
    let v6 = addresses.iter().filter(|a| a.contains(':')).count();
    v6 > 0 && v6 < addresses.len()
}

fn is_underscored_label(label: &str) -> bool {
    let bytes = label.strip_prefix('_').unwrap_or(label).as_bytes();
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            edge(*first) && edge(*last) && bytes.iter().all(|&b| edge(b) || matches!(b, b'-' | b'_'))
        }
        _ => false,
    }
}

/// A subdomain whose labels may have underscores: DNS search paths.
pub(crate) fn underscored_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        faults.push(format!("must be no more than {SUBDOMAIN_MAX} bytes"));
    }
    if !text.split('.').all(is_underscored_label) {
        let label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        faults.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{label}(\\.{label})*')"
        ));
    }
    faults
}

pub(crate) fn http_header(text: &str) -> Vec<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let fault = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
    (!fine).then(|| fault.to_string()).into_iter().collect()
}

/// A name of a sysctl, with dots or slashes.
pub(crate) fn is_sysctl(name: &str) -> bool {
    let segment = |p: &str| is_underscored_label(p) && !p.starts_with('_');
    name.len() <= SUBDOMAIN_MAX && name.split(['.', '/']).all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_else_on_each_machine() {
        for (text, faults) in [
            ("10.0.0.1", 0),
            ("2001:db8::1", 0),
            ("0.0.0.0", 1),
            ("127.1.2.3", 1),
            ("169.254.1.1", 1),
            ("224.0.0.5", 1),
            ("224.0.1.5", 0),
            ("::", 1),
            ("::1", 1),
            ("fe80::1", 1),
            ("ff02::1", 1),
            ("ff12::1", 1),
            ("x", 1),
        ] {
            assert_eq!(non_special_ip(text).len(), faults, "{text}");
        }
        assert!(is_dual_stack(&["10.0.0.1", "::1"]) && !is_dual_stack(&["10.0.0.1", "10.0.0.2"]));
    }

    #[test]
    fn shapes() {
        for name in ["example.com", "_ldap._tcp.example.com", "a_b.c"] {
            assert_eq!(underscored_subdomain(name), Vec::<String>::new());
        }
        for name in ["", ".", "a..b", "__a", "a_", "A"] {
            assert!(!underscored_subdomain(name).is_empty(), "{name}");
        }
        assert!(is_sysctl("net/ipv4.tcp_syncookies") && !is_sysctl("_a.b") && !is_sysctl("a..b"));
        assert!(http_header("X-A").is_empty() && !http_header("X_A").is_empty());
    }
}
