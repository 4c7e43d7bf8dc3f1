//! What names, label keys and values, config keys and port names must look like.
//! Each check returns upstream's messages, none if all is well.
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.

pub(crate) const LABEL_MAX: usize = 63;
pub(crate) const SUBDOMAIN_MAX: usize = 253;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD: &str = r"a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn max_len(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_text(name: &str) -> bool {
    let b = name.as_bytes();
    !b.is_empty() && lower_alnum(b[0]) && lower_alnum(b[b.len() - 1]) && b.iter().all(|&c| lower_alnum(c) || c == b'-')
}

fn collect(checks: &[(bool, &str)], too_long: Option<usize>) -> Vec<String> {
    let mut out: Vec<String> = too_long.map(max_len).into_iter().collect();
    out.extend(checks.iter().filter(|(ok, _)| !ok).map(|(_, text)| (*text).to_string()));
    out
}

fn over(name: &str, max: usize) -> Option<usize> {
    (name.len() > max).then_some(max)
}

pub(crate) fn dns_label(name: &str) -> Vec<String> {
    collect(&[(is_label_text(name), LABEL)], over(name, LABEL_MAX))
}

pub(crate) fn dns_subdomain(name: &str) -> Vec<String> {
    collect(
        &[(name.split('.').all(is_label_text), SUBDOMAIN)],
        over(name, SUBDOMAIN_MAX),
    )
}

pub(crate) fn wildcard_subdomain(name: &str) -> Vec<String> {
    let ok = name
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(is_label_text));
    collect(&[(ok, WILDCARD)], over(name, SUBDOMAIN_MAX))
}

pub(crate) fn dns_1035_label(name: &str) -> Vec<String> {
    let ok = is_label_text(name) && name.as_bytes()[0].is_ascii_lowercase();
    collect(&[(ok, LABEL_1035)], over(name, LABEL_MAX))
}

fn is_qualified_text(name: &str) -> bool {
    let b = name.as_bytes();
    !b.is_empty()
        && b[0].is_ascii_alphanumeric()
        && b[b.len() - 1].is_ascii_alphanumeric()
        && b.iter()
            .all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// Label keys, annotation keys (lower-cased by the caller), resource names.
pub(crate) fn qualified_name(key: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_string());
            } else {
                out.extend(dns_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_MAX {
        out.push(format!("name part {}", max_len(LABEL_MAX)));
    }
    if !is_qualified_text(name) {
        out.push(format!("name part {QUALIFIED}"));
    }
    out
}

pub(crate) fn label_value(value: &str) -> Vec<String> {
    collect(
        &[(value.is_empty() || is_qualified_text(value), LABEL_VALUE)],
        over(value, LABEL_MAX),
    )
}

pub(crate) fn config_key(key: &str) -> Vec<String> {
    let ok = !key.is_empty()
        && key
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    let mut out = collect(&[(ok, CONFIG_KEY)], over(key, SUBDOMAIN_MAX));
    match key {
        "." => out.push("must not be '.'".to_string()),
        ".." => out.push("must not be '..'".to_string()),
        _ if key.starts_with("..") => out.push("must not start with '..'".to_string()),
        _ => {}
    }
    out
}

pub(crate) fn env_name(name: &str) -> Vec<String> {
    let ok = !name.is_empty() && name.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b'=');
    collect(&[(ok, ENV_NAME)], None)
}

/// IANA service name: names of ports.
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let plain = name.bytes().all(|c| lower_alnum(c) || c == b'-');
    collect(
        &[
            (
                plain,
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ),
            (
                name.bytes().any(|c| c.is_ascii_lowercase()),
                "must contain at least one letter (a-z)",
            ),
            (!name.contains("--"), "must not contain consecutive hyphens"),
            (
                !name.starts_with('-') && !name.ends_with('-'),
                "must not begin or end with a hyphen",
            ),
        ],
        over(name, 15),
    )
}

pub(crate) fn path_segment(name: &str) -> Vec<String> {
    match name {
        "." => vec!["may not be '.'".to_string()],
        ".." => vec!["may not be '..'".to_string()],
        _ => collect(
            &[
                (!name.contains('/'), "may not contain '/'"),
                (!name.contains('%'), "may not contain '%'"),
            ],
            None,
        ),
    }
}

pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

pub(crate) const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(crate) fn is_cidr(text: &str) -> bool {
    text.parse::<ipnet::IpNet>().is_ok()
}

pub(crate) const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
