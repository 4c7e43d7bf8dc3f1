//! Regular expressions in RE2's syntax, run by the `regex` crate: linear in the text,
//! bounded in size. Where the two read a pattern differently, it is rewritten first.

use super::{Function, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Ctx;
use crate::value::Value;
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;

type Made<'a> = Result<Value<'a>, EvalError>;

/// A compiled pattern's memory; bounds the time to compile it too.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Patterns an evaluation may make up as it goes: each takes far longer than its cost says.
const PATTERNS_MAX: usize = 100;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "matches" => |ctx, args| match args {
            [Value::String(text), Value::String(pattern)] => {
                Ok(Value::Bool(pattern_of(ctx, pattern.as_str())?.is_match(text.as_str())))
            }
            _ => no_overload(),
        },
        "find" => |ctx, args| match args {
            [Value::String(text), Value::String(pattern)] => {
                let found = pattern_of(ctx, pattern.as_str())?.find(text.as_str());
                Ok(Value::string(found.map_or("", |found| found.as_str())))
            }
            _ => no_overload(),
        },
        "findAll" => find_all,
        _ => return None,
    })
}

fn find_all<'a>(ctx: &mut Ctx<'a, '_>, args: &[Value<'a>]) -> Made<'a> {
    let (text, pattern, count) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, usize::MAX),
        [Value::String(text), Value::String(pattern), Value::Int(count)] => {
            (text, pattern, usize::try_from(*count).unwrap_or(usize::MAX))
        }
        _ => return no_overload(),
    };
    let regex = pattern_of(ctx, pattern.as_str())?;
    let found = regex.find_iter(text.as_str()).take(count);
    let items: Vec<_> = found.map(|found| Value::string(found.as_str())).collect();
    super::bounded_items(items.len())?;
    Ok(Value::list(items))
}

/// The patterns an evaluation has compiled.
#[derive(Debug, Default)]
pub struct Patterns(HashMap<String, Regex>);

fn pattern_of<'c>(ctx: &'c mut Ctx<'_, '_>, pattern: &str) -> Result<&'c Regex, EvalError> {
    let known = &mut ctx.patterns.0;
    if !known.contains_key(pattern) {
        if known.len() >= PATTERNS_MAX {
            return fail("too many different regular expressions in one evaluation");
        }
        let regex = compile(pattern).map_err(EvalError::failed)?;
        known.insert(pattern.to_string(), regex);
    }
    known
        .get(pattern)
        .ok_or_else(|| EvalError::failed("regular expression lost"))
}

pub fn compile(pattern: &str) -> Result<Regex, String> {
    let rewritten = rewrite(pattern);
    RegexBuilder::new(&rewritten)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(200)
        .build()
        .map_err(|error| {
            let line = error.to_string();
            let reason = line.lines().last().unwrap_or("invalid").trim_start_matches("error: ");
            format!("error parsing regexp: {reason}: `{pattern}`")
        })
}

/// RE2's classes are ASCII, its literal braces and brackets need no escape, and it
/// quotes with `\Q...\E`.
fn rewrite(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut class = false;
    // Where a class may still begin with a literal `]`.
    let mut class_start = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let opening = std::mem::take(&mut class_start);
        rest = after;
        match c {
            '\\' => rest = escape(&mut out, after, class),
            '[' if !class => {
                class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                class_start = true;
            }
            '[' if after.starts_with(':') => out.push('['),
            ']' if class && opening => out.push_str("\\]"),
            ']' if class => {
                // The end of `[:alpha:]` is not the class's.
                if !out.ends_with(':') || !inside_posix(&out) {
                    class = false;
                }
                out.push(']');
            }
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '{' if !class && !is_repetition(after) => out.push_str("\\{"),
            '}' if !class && !closes_repetition(&out) => out.push_str("\\}"),
            c => out.push(c),
        }
    }
    out
}

fn inside_posix(out: &str) -> bool {
    out.rfind("[:").is_some_and(|at| !out[at..].contains(']'))
}

/// `3}`, `3,}` or `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((body, _)) = after.split_once('}') else {
        return false;
    };
    let (least, most) = body.split_once(',').unwrap_or((body, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

fn closes_repetition(out: &str) -> bool {
    out.rfind('{')
        .is_some_and(|at| !out[at..].contains('}') && !(out[..at].ends_with('\\')))
}

fn escape<'p>(out: &mut String, after: &'p str, class: bool) -> &'p str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[c.len_utf8()..];
    let (inner, negated) = match c {
        'd' => ("0-9", false),
        'D' => ("0-9", true),
        'w' => ("0-9A-Za-z_", false),
        'W' => ("0-9A-Za-z_", true),
        's' => ("\\t\\n\\x0C\\r ", false),
        'S' => ("\\t\\n\\x0C\\r ", true),
        'b' if !class => {
            out.push_str("(?-u:\\b)");
            return rest;
        }
        'Q' => {
            let (literal, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(literal));
            return rest;
        }
        // `\p{Greek}`, `\x{41}`: the braces are the escape's.
        'p' | 'P' | 'x' if rest.starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            out.push('\\');
            out.push(c);
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        '<' | '>' => {
            out.push(c);
            return rest;
        }
        _ => {
            out.push('\\');
            out.push(c);
            return rest;
        }
    };
    match (class, negated) {
        (true, false) => out.push_str(inner),
        (_, true) => out.push_str(&format!("[^{inner}]")),
        (false, false) => out.push_str(&format!("[{inner}]")),
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_patterns_as_re2_does() {
        for (pattern, text, want) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w-]+$", "a_b-c", true),
            (r"^[^\W]+$", "ab", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^a{$", "a{", true),
            (r"^{a}$", "{a}", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^a{,3}$", "a{,3}", true),
            (r"^[[]+$", "[[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[[:alpha:][:digit:]]+$", "ab1", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^\p{Greek}+$", "αβ", true),
            (r"^\x{41}$", "A", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^.$", "ü", true),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(regex.is_match(text), want, "{pattern} {text}");
        }
        for bad in ["(", "a**b(", "[a", r"\8", "(?=a)", "x{100000}{100000}"] {
            assert!(compile(bad).is_err(), "{bad}");
        }
    }
}
