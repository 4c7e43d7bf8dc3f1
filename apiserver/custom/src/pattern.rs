//! Regular expressions as Go reads them, in front of an engine that reads them a
//! little differently: there, `\d`, `\w`, `\s` and `\b` are of ASCII, `[` in a class and a
//! `{` that counts nothing are themselves, and `\<` is just `<`.
//!
//! Both engines run in time linear in the text, so that no pattern can hang a server.

use regex::{Regex, RegexBuilder};
use std::fmt::Write;
use std::sync::OnceLock;

/// A compiled expression takes no more than this.
const SIZE_MAX: usize = 8 << 20;

/// A pattern of a schema, compiled when it is first needed: most definitions that
/// are installed are looked at seldom.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `None`: the pattern is no regular expression.
    pub fn is_match(&self, text: &str) -> Option<bool> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().map(|regex| regex.is_match(text))
    }
}

/// Compiles a pattern written for Go; the error is worded as Go words it, roughly.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_MAX)
        .build()
        .map_err(|error| format!("error parsing regexp: {}", reason(&error, pattern)))
}

/// The engine draws a picture over several lines; its last one says what is wrong.
fn reason(error: &regex::Error, pattern: &str) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let what = last.strip_prefix("error: ").unwrap_or(last).trim();
    match what {
        "unclosed character class" => format!("missing closing ]: `{pattern}`"),
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "repetition operator missing expression" => format!("missing argument to repetition operator: `{pattern}`"),
        _ => format!("{what}: `{pattern}`"),
    }
}

/// The same expression in the engine's syntax.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    // Where a class has just begun, `]` is itself.
    let mut class_start = false;
    while let Some(c) = rest.next() {
        let starting = std::mem::take(&mut class_start);
        match c {
            '\\' => match rest.next() {
                None => out.push('\\'),
                Some('Q') if !in_class => quoted(&mut rest, &mut out),
                Some(escaped) => escape(escaped, in_class, &mut out),
            },
            '[' if in_class => {
                if rest.peek() == Some(&':') {
                    out.push('[');
                    posix(&mut rest, &mut out);
                } else {
                    out.push_str("\\[");
                }
            }
            '[' => {
                in_class = true;
                class_start = true;
                out.push('[');
                if rest.peek() == Some(&'^') {
                    rest.next();
                    out.push('^');
                }
            }
            ']' if in_class && starting => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Doubled, these are operators on sets.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && rest.peek() == Some(&'-') => out.push_str("\\-"),
            '{' if !in_class => {
                let ahead: String = rest.clone().take(12).collect();
                out.push_str(if counts(&ahead) { "{" } else { "\\{" });
            }
            '}' if !in_class => out.push('}'),
            c => out.push(c),
        }
    }
    out
}

/// `2}`, `2,}`, `2,5}`: the rest of a repetition.
fn counts(ahead: &str) -> bool {
    let Some((inner, _)) = ahead.split_once('}') else {
        return false;
    };
    let (from, to) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !from.is_empty() && digits(from) && digits(to)
}

/// `\Q...\E`: all of it literal.
fn quoted(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let text: String = rest.clone().collect();
    let (literal, _) = text.split_once("\\E").unwrap_or((&text, ""));
    out.push_str(&regex::escape(literal));
    let taken = literal.chars().count() + if literal.len() < text.len() { 2 } else { 0 };
    for _ in 0..taken {
        rest.next();
    }
}

/// `[:alpha:]` within a class, copied as it is.
fn posix(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    for c in rest.by_ref() {
        out.push(c);
        if c == ']' {
            break;
        }
    }
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    let class = match escaped {
        'd' | 'D' => "0-9",
        'w' | 'W' => "0-9A-Za-z_",
        's' | 'S' => "\\t\\n\\x0C\\r ",
        'b' | 'B' if !in_class => {
            // Writing into a String cannot fail.
            let _ = write!(out, "(?-u:\\{escaped})");
            return;
        }
        '<' | '>' | ' ' => {
            out.push(escaped);
            return;
        }
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    let not = if escaped.is_ascii_uppercase() { "^" } else { "" };
    if in_class && not.is_empty() {
        out.push_str(class);
    } else {
        let _ = write!(out, "[{not}{class}]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_patterns_as_go_does() {
        let table: &[(&str, &str, bool)] = &[
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * *", false),
            (r"^\d$", "٣", false),
            (r"^\w+$", "é", false),
            (r"^[\w.-]+$", "a-b.c_9", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[\D]$", "a", true),
            ("^[]a]+$", "]a", true),
            ("^[[a]+$", "[a", true),
            ("^[a&&b]+$", "&", true),
            (r"^\/x\-\<y\>$", "/x-<y>", true),
            ("^{a}$", "{a}", true),
            ("^a{2,3}$", "aaa", true),
            ("^a{2,3}$", "a", false),
            ("^a{,3}$", "a{,3}", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"\bfoo\b", "a foo b", true),
            ("^[[:alpha:]]+$", "ab", true),
            ("a$", "a\n", false),
            ("(?i)^ab$", "AB", true),
        ];
        for (pattern, text, matches) in table {
            let compiled = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(
                compiled.is_match(text),
                *matches,
                "{pattern} on {text:?}: {}",
                translate(pattern)
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(
            compile("[a").unwrap_err(),
            "error parsing regexp: missing closing ]: `[a`"
        );
        assert_eq!(
            compile("(a").unwrap_err(),
            "error parsing regexp: missing closing ): `(a`"
        );
        assert!(compile("*").is_err());
        assert!(compile("(((((a{1000}){1000}){1000}){1000}){1000})").is_err());
        assert_eq!(Pattern::new("(").is_match("x"), None);
    }
}
