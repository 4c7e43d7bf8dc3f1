//! What names and addresses must look like: the shared rules under this crate's
//! short names, and the checks of addresses.

pub(crate) use skiff_api::names::{
    config_key, dns1035_label as dns_1035_label, dns1123_label as dns_label, dns1123_subdomain as dns_subdomain,
    env_var_name as env_name, label_value, path_segment, port_name, qualified_name,
    wildcard_dns1123_subdomain as wildcard_subdomain,
};

pub(crate) const SUBDOMAIN_MAX: usize = 253;

pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

pub(crate) const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(crate) fn is_cidr(text: &str) -> bool {
    text.parse::<ipnet::IpNet>().is_ok()
}

pub(crate) const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
