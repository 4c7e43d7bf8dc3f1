//! `format` of strings: the ones that upstream checks, as loosely as it does. Other
//! formats (`int32`, `foo`) say something to people only.
//! Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation>.

use skiff_api::{names, time};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SUPPORTED: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Dashes in names of formats count for nothing.
fn normal(format: &str) -> String {
    format.replace('-', "")
}

pub fn supported(format: &str) -> bool {
    !format.is_empty() && SUPPORTED.contains(&normal(format).as_str())
}

/// Whether the text is of the format; of one that is not supported, every text is.
pub fn is(format: &str, text: &str) -> bool {
    match normal(format).as_str() {
        "bsonobjectid" => text.len() == 24 && hex(text),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => is_ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && hex(digits)
        }
        "rgbcolor" => is_rgb(text),
        "byte" => is_base64(text),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// An absolute URI or an absolute path, as in a request line.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
        return false;
    }
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => {
            if !rest.starts_with('/') {
                return true;
            }
            rest
        }
        _ if text.starts_with('/') => text,
        _ => return false,
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            is_authority(authority) && escapes(path)
        }
        None => escapes(rest),
    }
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, rest)) => ("", rest.strip_prefix(':').unwrap_or(rest)),
            None => return false,
        },
        None => host.rsplit_once(':').unwrap_or((host, "")),
    };
    !name.contains([' ', '<', '>', '"', '{', '}', '|', '\\', '^', '`'])
        && escapes(name)
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// Every `%` is followed by two hexadecimal digits.
fn escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(rest) => match rest.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let atom = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let dotted = |s: &str| s.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    address.rsplit_once('@').is_some_and(|(local, domain)| {
        let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
        (quoted || dotted(local)) && dotted(domain)
    })
}

fn is_hostname(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric());
    let label = |s: &str| {
        !s.is_empty()
            && s.len() <= 63
            && s.chars().all(|c| letter(c) || c == '-')
            && !s.starts_with('-')
            && !s.ends_with('-')
    };
    let labels: Vec<&str> = text.split('.').collect();
    text.len() <= 255
        && labels.iter().all(|l| label(l))
        && (labels.len() == 1
            || labels
                .last()
                .is_some_and(|l| l.chars().count() > 1 && l.chars().all(char::is_alphabetic)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let bits = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    digits(length) && length.parse::<u32>().is_ok_and(|n| n <= bits)
}

/// 6, 8 or 20 bytes, in pairs with `:` or `-`, or in fours with `.`.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len() * width / 2, 6 | 8 | 20) && parts.iter().all(|p| p.len() == width && hex(p))
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut plain = Vec::with_capacity(32);
    for (i, part) in text.split('-').enumerate() {
        if i > 4 || !hex(part) {
            return false;
        }
        plain.extend(part.bytes());
        // A dash may stand only where the groups end.
        if i < 4 && text.contains('-') && i + 1 < text.split('-').count() && ![8, 12, 16, 20].contains(&plain.len()) {
            return false;
        }
    }
    let variant = |b: u8| b"89abAB".contains(&b);
    plain.len() == 32 && version.is_none_or(|v| plain[12] == v && (v == b'3' || variant(plain[16])))
}

fn compact(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !b" \t\n-".contains(b)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let text = compact(text);
    if text.len() != 10 || !text[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let last = match text[9] {
        b'X' => 10,
        d if d.is_ascii_digit() => u32::from(d - b'0'),
        _ => return false,
    };
    let sum: u32 = (1..).zip(&text[..9]).map(|(i, d)| i * u32::from(d - b'0')).sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let text = compact(text);
    if text.len() != 13 || !text.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = text
        .iter()
        .enumerate()
        .map(|(i, d)| u32::from(d - b'0') * if i % 2 == 0 { 1 } else { 3 })
        .sum();
    sum.is_multiple_of(10)
}

/// The right number of digits and Luhn's sum.
fn is_credit_card(text: &str) -> bool {
    let text: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(12..=19).contains(&text.len()) {
        return false;
    }
    let sum: u32 = text
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 })
        .sum();
    sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !" -".contains(*c)).collect();
    let separators = text.len() - plain.len();
    let at = |i: usize| text.as_bytes().get(i).is_some_and(|b| b" -".contains(b));
    plain.len() == 9
        && digits(&plain)
        && match separators {
            0 => true,
            1 => at(3) || at(5),
            2 => at(3) && at(6),
            _ => false,
        }
}

fn is_rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        let value = |p: &&str| digits(p) && (p.len() == 1 || !p.starts_with('0')) && p.parse::<u8>().is_ok();
        parts.len() == 3 && parts.iter().all(value)
    })
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.as_bytes()[4] == b'-' && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let Some((date, clock)) = text.split_once(['T', 't']) else {
        return false;
    };
    let lower = clock.to_ascii_lowercase();
    let (clock, zone) = match lower.strip_suffix('z') {
        Some(clock) => (clock, "+00:00"),
        None => match lower.rfind(['+', '-']) {
            Some(at) => lower.split_at(at),
            None => return false,
        },
    };
    let pair = |s: &str, max: u32| s.len() == 2 && digits(s) && s.parse::<u32>().is_ok_and(|n| n <= max);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<&str> = whole.split(':').collect();
    is_date(date)
        && digits(fraction)
        && matches!(parts.as_slice(), [h, m, s] if pair(h, 23) && pair(m, 59) && pair(s, 59))
        && zone[1..]
            .split_once(':')
            .is_some_and(|(h, m)| pair(h, 99) && pair(m, 99))
}

/// Go's durations, or a number and a unit in words (`3 days`).
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 30] = [
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hrs",
        "hour",
    ];
    const LONG_UNITS: [&str; 7] = ["hours", "d", "day", "days", "w", "week", "weeks"];
    if skiff_api::duration::parse_go(text).is_some() {
        return true;
    }
    let words = text.trim();
    let at = words.find(|c: char| !c.is_ascii_digit()).unwrap_or(words.len());
    let unit = words[at..].trim();
    at > 0 && (UNITS.contains(&unit) || LONG_UNITS.contains(&unit))
}

/// A time as printer columns read it.
pub fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    time::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_formats() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "10.0.0.256"]),
            ("ipv6", &["::1", "fe80::1"], &["10.0.0.1", "g::"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]),
            (
                "uri",
                &["http://a.b/c?d", "/x", "mailto:a@b"],
                &["", "a b", "http://[::1", "http://a b/"],
            ),
            ("email", &["a@b.c", "A B <a@b>"], &["a", "a@", "@b", "a b@c"]),
            (
                "hostname",
                &["a", "a.example", "x-1.example.com"],
                &["", "-a", "a_b", "a..b", "a.1"],
            ),
            (
                "mac",
                &["01:23:45:67:89:ab", "0123.4567.89ab"],
                &["01:23", "01:23:45:67:89:zz"],
            ),
            (
                "uuid",
                &[
                    "a8098c1a-f86e-11da-bd1a-00112444be1e",
                    "a8098c1af86e11dabd1a00112444be1e",
                ],
                &["a8098c1a-f86e-11da-bd1a", "x", "a8098c1-af86e-11da-bd1a-00112444be1e"],
            ),
            (
                "uuid4",
                &["0f8fad5b-d9cb-469f-a165-70867728950e"],
                &["a8098c1a-f86e-11da-bd1a-00112444be1e"],
            ),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751044"]),
            ("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112"]),
            ("ssn", &["111-11-1111", "111111111"], &["111-1-1111"]),
            ("hexcolor", &["#FFFFFF", "fff"], &["#ff", "ggg"]),
            ("rgbcolor", &["rgb(100, 0,255)"], &["rgb(256,0,0)", "rgb(1,2)"]),
            ("byte", &["AGVsbG8=", "YWJj"], &["", "a", "AGVsbG8"]),
            ("password", &["anything"], &[]),
            ("date", &["2026-02-28"], &["2026-02-30", "2026-2-1", "x"]),
            (
                "date-time",
                &["2026-02-28T10:00:00Z", "2026-02-28t10:00:00.5+01:00"],
                &["2026-02-28", "2026-02-28T25:00:00Z", "2026-02-28T10:00:00", "Ttz"],
            ),
            ("duration", &["1h30m", "3 days", "22 ns"], &["x", "3 apples"]),
            ("k8s-short-name", &["a-b"], &["a.b", "A"]),
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f"]),
            ("int32", &["whatever"], &[]),
        ];
        for (format, good, bad) in table {
            for text in *good {
                assert!(is(format, text), "{text:?} is a {format}");
            }
            for text in *bad {
                assert!(!is(format, text), "{text:?} is no {format}");
            }
        }
        assert!(supported("date-time") && supported("datetime") && !supported("int64") && !supported(""));
    }
}
