//! A value tree as YAML in block style, laid out and quoted as kubectl shows it.

use crate::Value;
use serde_json::Map;

/// A document with a newline at its end.
pub fn encode_yaml(value: &Value) -> Vec<u8> {
    let mut out = Writer(String::with_capacity(1024));
    match value {
        Value::Object(map) if !map.is_empty() => out.map(map, 0),
        Value::Array(items) if !items.is_empty() => out.list(items, 0),
        other => {
            out.scalar(other, INDENT);
            out.end_line();
        }
    }
    out.0.into_bytes()
}

struct Writer(String);

const INDENT: usize = 2;

impl Writer {
    /// The first line is already indented.
    fn map(&mut self, map: &Map<String, Value>, indent: usize) {
        for (i, (key, value)) in map.iter().enumerate() {
            if i > 0 {
                self.indent(indent);
            }
            self.text(key, None);
            self.0.push(':');
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.0.push('\n');
                    self.indent(indent + INDENT);
                    self.map(inner, indent + INDENT);
                }
                // Lists stand as far left as the key they belong to.
                Value::Array(items) if !items.is_empty() => {
                    self.0.push('\n');
                    self.indent(indent);
                    self.list(items, indent);
                }
                other => {
                    self.0.push(' ');
                    self.scalar(other, indent + INDENT);
                    self.end_line();
                }
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.indent(indent);
            }
            self.0.push_str("- ");
            match item {
                Value::Object(inner) if !inner.is_empty() => self.map(inner, indent + INDENT),
                Value::Array(inner) if !inner.is_empty() => self.list(inner, indent + INDENT),
                other => {
                    self.scalar(other, indent + INDENT);
                    self.end_line();
                }
            }
        }
    }

    fn indent(&mut self, by: usize) {
        self.0.extend(std::iter::repeat_n(' ', by));
    }

    /// A literal block has ended its line itself.
    fn end_line(&mut self) {
        if !self.0.ends_with('\n') {
            self.0.push('\n');
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.0.push_str("null"),
            Value::Bool(b) => self.0.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) => self.0.push_str(&n.to_string()),
            Value::String(text) => self.text(text, Some(indent)),
            Value::Array(_) => self.0.push_str("[]"),
            Value::Object(_) => self.0.push_str("{}"),
        }
    }

    /// `block` is how far a literal block would be indented; keys cannot be one.
    fn text(&mut self, text: &str, block: Option<usize>) {
        if !text.chars().all(printable) {
            self.double_quoted(text);
        } else if text.contains('\n') {
            match block.filter(|_| !text.contains(" \n") && !text.ends_with(' ') && !text.trim_matches('\n').is_empty())
            {
                Some(indent) => self.literal(text, indent),
                None => self.double_quoted(text),
            }
        } else if means_something_else(text) {
            self.double_quoted(text);
        } else if stands_plain(text) {
            self.0.push_str(text);
        } else {
            self.0.push('\'');
            self.0.push_str(&text.replace('\'', "''"));
            self.0.push('\'');
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.0.push('|');
        if text.starts_with([' ', '\n']) {
            self.0.push('2');
        }
        let body = text.trim_end_matches('\n');
        match text.len() - body.len() {
            0 => self.0.push('-'),
            1 if !body.is_empty() => {}
            _ => self.0.push('+'),
        }
        self.0.push('\n');
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.indent(indent);
            }
            self.0.push_str(line);
        }
        self.end_line();
    }

    fn double_quoted(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                '\0' => self.0.push_str("\\0"),
                c if printable(c) => self.0.push(c),
                c if (c as u32) < 0x100 => self.0.push_str(&format!("\\x{:02X}", c as u32)),
                c if (c as u32) < 0x1_0000 => self.0.push_str(&format!("\\u{:04X}", c as u32)),
                c => self.0.push_str(&format!("\\U{:08X}", c as u32)),
            }
        }
        self.0.push('"');
    }
}

/// What YAML's writer in Go puts down as it is; a tab is not among it, nor a smiley.
fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{A0}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}')
        && !matches!(c, '\u{FEFF}' | '\u{2028}' | '\u{2029}')
}

/// Unquoted it would be read as a number, a bool, null or a time.
fn means_something_else(text: &str) -> bool {
    let Some(first) = text.bytes().next() else { return true };
    const WORDS: [&str; 12] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "<<", "=",
    ];
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return false;
    }
    let bare = lower.trim_start_matches(['+', '-']);
    if matches!(bare, ".inf" | ".nan") {
        return true;
    }
    let clean = bare.replace('_', "");
    let radix = |prefix: &str, digits: fn(&u8) -> bool| {
        clean
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| digits(&b)))
    };
    clean.bytes().any(|b| b.is_ascii_digit())
        && (clean.parse::<f64>().is_ok()
            || radix("0x", u8::is_ascii_hexdigit)
            || radix("0o", |b| (b'0'..=b'7').contains(b))
            || radix("0b", |b| matches!(b, b'0' | b'1'))
            || sexagesimal(bare)
            || date(text))
}

/// `1:30`, a number to base 60.
fn sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.'));
    parts.next().is_some_and(number) && text.contains(':') && parts.all(number)
}

/// `2024-05-01` or the beginning of a time.
fn date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut digits = |most: usize| {
        parts.next().is_some_and(|part| {
            let count = part.bytes().take_while(u8::is_ascii_digit).count();
            (1..=most).contains(&count) && (count == part.len() || matches!(part.as_bytes()[count], b'T' | b't' | b' '))
        })
    };
    text.as_bytes().get(4) == Some(&b'-') && digits(4) && digits(2) && digits(2)
}

/// No sign in it has a meaning where it stands.
fn stands_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if *first == b' ' || *last == b' ' || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    if b"#,[]{}&*!|>'\"%@`".contains(first) {
        return false;
    }
    if b"-?:".contains(first) && bytes.get(1).is_none_or(|next| *next == b' ') {
        return false;
    }
    !text.contains(": ") && !text.contains(" #") && *last != b':'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode_yaml;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn looks_as_kubectl_shows_it() {
        let value = json!({"apiVersion": "v1", "data": {"empty": "", "flag": "true", "list": "- a", "n": "0123", "port": "8080", "star": "*",
            "text": "a\nb\n", "cut": "a\nb", "time": "2024-05-01T10:00:00Z", "tab": "a\tb", "colon": "a: b", "quote": "it's", "hash": "a #b",
            "url": "http://x:1/?a=b", "yes": "no", "spaces": "a \nb", "lead": " x", "exp": "1e3", "version": "1.2.3", "cpu": "500m"},
            "items": [{"a": 1, "b": [[], {}, [1, 2]], "c": null}, "x"], "metadata": {}, "none": []});
        let want = r#"apiVersion: v1
data:
  colon: 'a: b'
  cpu: 500m
  cut: |-
    a
    b
  empty: ""
  exp: "1e3"
  flag: "true"
  hash: 'a #b'
  lead: ' x'
  list: '- a'
  "n": "0123"
  port: "8080"
  quote: it's
  spaces: "a \nb"
  star: '*'
  tab: "a\tb"
  text: |
    a
    b
  time: "2024-05-01T10:00:00Z"
  url: http://x:1/?a=b
  version: 1.2.3
  "yes": "no"
items:
- a: 1
  b:
  - []
  - {}
  - - 1
    - 2
  c: null
- x
metadata: {}
none: []
"#;
        assert_eq!(String::from_utf8_lossy(&encode_yaml(&value)), want);
    }

    #[test]
    fn a_text_alone_is_a_block_that_is_read_again() {
        for text in ["\n+", "a\nb\n", " a\n\nb", "- a\n---\n"] {
            let written = encode_yaml(&json!(text));
            assert_eq!(
                decode_yaml(&written).expect("read"),
                json!(text),
                "{}",
                String::from_utf8_lossy(&written)
            );
        }
        assert_eq!(encode_yaml(&json!("a\nb\n")), b"|\n  a\n  b\n");
    }

    fn tree() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,6}",
            "[a-z0-9:#'\"\\-+._ \\n\\t]{0,8}",
            any::<String>(),
            "[-+]?[0-9_.:xeo]{1,6}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in tree()) {
            let text = encode_yaml(&value);
            let read = decode_yaml(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{}", String::from_utf8_lossy(&text))))?;
            prop_assert_eq!(read, value, "{}", String::from_utf8_lossy(&text));
        }
    }
}
