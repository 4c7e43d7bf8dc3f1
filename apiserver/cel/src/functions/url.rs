//! URLs, read the way Go's `net/url` reads a request's: absolute, or a path from the root.

use super::{Function, no_overload};
use crate::containers::{Map, OwnedMap};
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Url {
    scheme: String,
    user: String,
    /// Host and port, IPv6 addresses in brackets.
    host: String,
    escaped_path: String,
    query: String,
    fragment: String,
}

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |_, args| match args {
            [Value::String(text)] => match Url::parse(text.as_str()) {
                Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
                Err(error) => super::fail(format!("URL parse error during conversion from string: {error}")),
            },
            _ => no_overload(),
        },
        "isURL" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(Url::parse(text.as_str()).is_ok())),
            _ => no_overload(),
        },
        "getScheme" => |_, args| part(args, |url| &url.scheme),
        "getHost" => |_, args| part(args, |url| &url.host),
        "getHostname" => |_, args| part(args, Url::hostname),
        "getPort" => |_, args| part(args, Url::port),
        "getEscapedPath" => |_, args| part(args, |url| &url.escaped_path),
        "getQuery" => |_, args| match args {
            [Value::Opaque(Opaque::Url(url))] => query(&url.query),
            _ => no_overload(),
        },
        _ => return None,
    })
}

fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> &str) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(Value::string(part(url))),
        _ => no_overload(),
    }
}

fn query<'a>(query: &str) -> Made<'a> {
    let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // Pairs that cannot be decoded are left out.
        if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
            values.entry(key).or_default().push(Value::string(value));
        }
    }
    let mut map = OwnedMap::default();
    for (key, values) in values {
        map.insert(Value::string(key), Value::list(values))?;
    }
    Ok(Value::Map(Map::Owned(Arc::new(map))))
}

/// `%41` and, in queries, `+`; `None` where an escape is broken.
fn unescape(text: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            b'+' if query => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("parse {text:?}: {what}"));
        if text.is_empty() {
            return wrong("empty url");
        }
        if text.chars().any(|c| c.is_ascii_control()) {
            return wrong("net/url: invalid control character in URL");
        }
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        if unescape(fragment, false).is_none() {
            return wrong("invalid URL escape");
        }
        let (scheme, rest) = match scheme(before) {
            Ok(found) => found,
            Err(error) => return wrong(error),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return wrong("invalid URI for request");
            }
            // `mailto:a@b`: opaque, with neither host nor path.
            return Ok(Self {
                scheme: scheme.to_ascii_lowercase(),
                query: query.into(),
                fragment: fragment.into(),
                ..Self::default()
            });
        }
        let (authority, path) = match rest
            .strip_prefix("//")
            .filter(|after| !scheme.is_empty() || !after.starts_with('/'))
        {
            Some(after) => {
                let end = after.find('/').unwrap_or(after.len());
                after.split_at(end)
            }
            None => ("", rest),
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if let Err(error) = check_host(host) {
            return wrong(&error);
        }
        if unescape(path, false).is_none() {
            return wrong("invalid URL escape");
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.into(),
            host: unescape(host, false).unwrap_or_default(),
            escaped_path: escape_path(path),
            query: query.into(),
            fragment: fragment.into(),
        })
    }

    fn port_at(&self) -> Option<usize> {
        let after_address = self.host.rfind(']').map_or(0, |at| at + 1);
        self.host[after_address..].rfind(':').map(|at| after_address + at)
    }

    fn hostname(&self) -> &str {
        let host = &self.host[..self.port_at().unwrap_or(self.host.len())];
        host.strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(host)
    }

    fn port(&self) -> &str {
        self.port_at().map_or("", |at| &self.host[at + 1..])
    }
}

/// The scheme and what follows its colon.
fn scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    // A colon in the first segment would be taken for a scheme's.
    let segment = text.split('/').next().unwrap_or_default();
    if segment.contains(':') {
        return Err("first path segment in URL cannot contain colon");
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let after_address = match host.strip_prefix('[') {
        Some(inner) => match inner.rsplit_once(']') {
            Some((_, after)) => after,
            None => return Err("missing ']' in host".into()),
        },
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let port = after_address.strip_prefix(':').unwrap_or("");
    if !after_address.is_empty() && (!after_address.starts_with(':') || !port.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {after_address:?} after host"));
    }
    if host.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        let c = host.chars().find(|c| " \"<>\\^`{|}".contains(*c)).unwrap_or(' ');
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    Ok(())
}

/// Characters that a path may not hold as they are are escaped; what is escaped stays so.
fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*%[]".contains(&byte);
        if plain {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
