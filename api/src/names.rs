//! The rules for names, labels and keys, with upstream's messages. Each function
//! returns what is wrong; nothing means the text is fine.
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.

const DNS1123_LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_MSG: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn explained(message: &str, format: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{format}')",
        examples.join(" or ")
    )
}

/// First and last characters pass `edge`, those between `inner`.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_shaped(text: &str) -> bool {
    shaped(text, lower_or_digit, |b| lower_or_digit(b) || b == b'-')
}

/// At most 63 characters of `a-z0-9-`: names of Services' ports, namespaces, containers.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label_shaped(text) {
        let subdomain_but_for_the_dot = dns1123_subdomain(text).is_empty() && text.contains('.');
        faults.push(if subdomain_but_for_the_dot {
            "must not contain dots".to_string()
        } else {
            explained(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                DNS1123_LABEL_FMT,
                &["my-name", "123-abc"],
            )
        });
    }
    faults
}

/// At most 253 characters, labels joined by dots: names of most objects.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if !text.split('.').all(is_label_shaped) {
        faults.push(explained(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            DNS1123_SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    faults
}

/// At most 63 characters, beginning with a letter: names of Services.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !(is_label_shaped(text) && text.as_bytes()[0].is_ascii_lowercase()) {
        faults.push(explained(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    faults
}

/// A subdomain whose first label may be `*`: hosts of Ingress rules.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if !text
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(is_label_shaped))
    {
        faults.push(explained(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{DNS1123_SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    faults
}

fn is_qualified_shaped(text: &str) -> bool {
    shaped(
        text,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// `example.com/Name`: keys of labels and annotations, names of extended resources.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            let what = explained(QUALIFIED_MSG, QUALIFIED_FMT, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a qualified name {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            faults.push("prefix part must be non-empty".to_string());
            name
        }
        Some((prefix, name)) => {
            faults.extend(
                dns1123_subdomain(prefix)
                    .into_iter()
                    .map(|why| format!("prefix part {why}")),
            );
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_string());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified_shaped(name) {
        faults.push(format!(
            "name part {}",
            explained(QUALIFIED_MSG, QUALIFIED_FMT, &["MyName", "my.name", "123-abc"])
        ));
    }
    faults
}

/// Values of labels.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !text.is_empty() && !is_qualified_shaped(text) {
        faults.push(explained(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED_FMT})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// Names that only have to fit into a URL path (RBAC objects).
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|c| text.contains(c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// Names of container ports and of numeric-or-named target ports.
pub fn port_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 15 {
        faults.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

/// Environment variables of containers: anything printable but `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// Keys of ConfigMaps and Secrets: they become file names.
pub fn config_key(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(explained(
            message,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if text == "." || text == ".." {
        faults.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        faults.push("must not start with '..'".into());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts() {
        let long = "a".repeat(63);
        for (check, texts) in [
            (
                dns1123_label as fn(&str) -> Vec<String>,
                vec!["a", "1", "a-b", "0-9", &long],
            ),
            (dns1123_subdomain, vec!["a", "a.b", "1.2.3", "a-b.c-d"]),
            (dns1035_label, vec!["a", "a1", "a-1"]),
            (wildcard_dns1123_subdomain, vec!["*.a", "*.example.com"]),
            (qualified_name, vec!["a", "A_b.c", "example.com/Name", "a/b", "0/0"]),
            (label_value, vec!["", "a", "A.b_c-1", &long]),
            (path_segment, vec!["system:node", "a b", "..."]),
            (port_name, vec!["http", "a1", "8a", "a-b"]),
            (env_var_name, vec!["A", "a.b-c", "1A", "with space"]),
            (
                config_key,
                vec!["a", "A.b_c-d", ".hidden", "..a".trim_start_matches('.')],
            ),
        ] {
            for text in texts {
                assert_eq!(check(text), Vec::<String>::new(), "{text}");
            }
        }
    }

    #[test]
    fn refuses_in_upstreams_words() {
        let long = "a".repeat(64);
        for (faults, want) in [
            (
                dns1123_label("My"),
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (dns1123_label(&long), "must be no more than 63 bytes"),
            (dns1123_label("a.b"), "must not contain dots"),
            (
                dns1123_subdomain("-a"),
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                dns1035_label("1a"),
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            ),
            (qualified_name("/a"), "prefix part must be non-empty"),
            (qualified_name(&long), "name part must be no more than 63 bytes"),
            (
                label_value("a b"),
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (path_segment(".."), "may not be '..'"),
            (path_segment("a/b"), "may not contain '/'"),
            (port_name("123"), "must contain at least one letter (a-z)"),
            (port_number(0), "must be between 1 and 65535, inclusive"),
            (config_key("..a"), "must not start with '..'"),
        ] {
            assert_eq!(faults, [want]);
        }
        assert!(!dns1035_label("").is_empty() && !qualified_name("a/b/c").is_empty() && !qualified_name("").is_empty());
        assert!(!env_var_name("a=b").is_empty() && !wildcard_dns1123_subdomain("a").is_empty());
    }
}
