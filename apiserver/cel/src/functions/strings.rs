//! Text: the standard functions and the extended strings library.

use super::{Function, bounded, bounded_items, fail, no_overload, text};
use crate::error::EvalError;
use crate::eval::Ctx;
use crate::value::Value;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "contains" => |_, args| test(args, |text, part| text.contains(part)),
        "startsWith" => |_, args| test(args, |text, part| text.starts_with(part)),
        "endsWith" => |_, args| test(args, |text, part| text.ends_with(part)),
        "charAt" => |ctx, args| char_at(ctx, args),
        "indexOf" => |ctx, args| match args {
            [Value::List(list), item] => super::lists::index_of(ctx, list, item),
            _ => index_of(args),
        },
        "lastIndexOf" => |ctx, args| match args {
            [Value::List(list), item] => super::lists::last_index_of(ctx, list, item),
            _ => last_index_of(args),
        },
        "join" => |_, args| join(args),
        "lowerAscii" => |_, args| map(args, str::to_ascii_lowercase),
        "upperAscii" => |_, args| map(args, str::to_ascii_uppercase),
        "trim" => |_, args| map(args, |text| text.trim_matches(is_space).to_string()),
        "replace" => |_, args| replace(args),
        "split" => |_, args| split(args),
        "substring" => |_, args| substring(args),
        "format" => |_, args| super::template::format(args),
        "strings.quote" => |_, args| map(args, quote),
        "jsonpatch.escapeKey" => |_, args| map(args, |key| key.replace('~', "~0").replace('/', "~1")),
        _ => return None,
    })
}

/// White space as Unicode defines it.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

fn test<'a>(args: &[Value<'a>], test: fn(&str, &str) -> bool) -> Made<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(test(text.as_str(), part.as_str()))),
        _ => no_overload(),
    }
}

fn map<'a>(args: &[Value<'a>], map: impl Fn(&str) -> String) -> Made<'a> {
    match args {
        [Value::String(given)] => text(map(given.as_str())),
        _ => no_overload(),
    }
}

fn out_of_range<T>(at: i64) -> Result<T, EvalError> {
    fail(format!("index out of range: {at}"))
}

/// The byte offset of the character at `at`, its end included.
fn offset(text: &str, at: i64) -> Result<usize, EvalError> {
    let Ok(wanted) = usize::try_from(at) else {
        return out_of_range(at);
    };
    if text.is_ascii() {
        return if wanted <= text.len() {
            Ok(wanted)
        } else {
            out_of_range(at)
        };
    }
    let mut offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]);
    offsets.nth(wanted).map_or_else(|| out_of_range(at), Ok)
}

fn chars_before(text: &str, offset: usize) -> i64 {
    text[..offset].chars().count() as i64
}

fn char_at<'a>(ctx: &Ctx<'a, '_>, args: &[Value<'a>]) -> Made<'a> {
    let [Value::String(given), Value::Int(at)] = args else {
        return no_overload();
    };
    // Characters are counted from the start.
    ctx.meter.work(given.as_str().len() as u64 / 64)?;
    let start = offset(given.as_str(), *at)?;
    let found = given.as_str()[start..].chars().next();
    Ok(Value::string(found.map(String::from).unwrap_or_default()))
}

fn index_of<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (given, part, from) = match args {
        [Value::String(given), Value::String(part)] => (given.as_str(), part.as_str(), 0),
        [Value::String(given), Value::String(part), Value::Int(from)] => (given.as_str(), part.as_str(), *from),
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let start = offset(given, from)?;
    let found = given[start..].find(part).map(|at| chars_before(given, start + at));
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (given, part, until) = match args {
        [Value::String(given), Value::String(part)] => (given.as_str(), part.as_str(), None),
        [Value::String(given), Value::String(part), Value::Int(until)] => (given.as_str(), part.as_str(), Some(*until)),
        _ => return no_overload(),
    };
    let chars = given.chars().count() as i64;
    if part.is_empty() {
        return Ok(Value::Int(until.unwrap_or(chars)));
    }
    // A match starts at or before the given position.
    let end = match until {
        None => given.len(),
        Some(until) => {
            let start = offset(given, until)?;
            (start + part.len()).min(given.len())
        }
    };
    let end = (end..=given.len())
        .find(|at| given.is_char_boundary(*at))
        .unwrap_or(given.len());
    let limit = until.unwrap_or(i64::MAX);
    let found = given[..end].rmatch_indices(part).map(|(at, _)| chars_before(given, at));
    Ok(Value::Int(found.filter(|at| *at <= limit).max().unwrap_or(-1)))
}

fn join<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        _ => return no_overload(),
    };
    let mut joined = String::new();
    for (at, item) in list.iter().enumerate() {
        let Some(item) = item.as_str() else {
            return no_overload();
        };
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(item);
        bounded(joined.len())?;
    }
    Ok(Value::string(joined))
}

/// A limit on replacements or parts: negative is none.
fn limit(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn replace<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (given, from, to, count) = match args {
        [Value::String(given), Value::String(from), Value::String(to)] => (given, from, to, usize::MAX),
        [
            Value::String(given),
            Value::String(from),
            Value::String(to),
            Value::Int(count),
        ] => (given, from, to, limit(*count)),
        _ => return no_overload(),
    };
    let (given, from, to) = (given.as_str(), from.as_str(), to.as_str());
    let places = if from.is_empty() {
        given.chars().count() + 1
    } else {
        given.len() / from.len()
    };
    bounded(given.len().saturating_add(places.min(count).saturating_mul(to.len())))?;
    text(given.replacen(from, to, count))
}

fn split<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (given, separator, count) = match args {
        [Value::String(given), Value::String(separator)] => (given.as_str(), separator.as_str(), usize::MAX),
        [Value::String(given), Value::String(separator), Value::Int(count)] => {
            (given.as_str(), separator.as_str(), limit(*count))
        }
        _ => return no_overload(),
    };
    if count == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        bounded_items(given.len())?;
        // Every character, the last part taking the rest.
        let mut parts = Vec::new();
        let mut rest = given;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == count {
                parts.push(Value::string(rest));
                break;
            }
            parts.push(Value::string(&rest[..c.len_utf8()]));
            rest = &rest[c.len_utf8()..];
        }
        parts
    } else {
        bounded_items(given.len() / separator.len())?;
        given.splitn(count, separator).map(Value::string).collect()
    };
    Ok(Value::list(parts))
}

fn substring<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (given, from, to) = match args {
        [Value::String(given), Value::Int(from)] => (given.as_str(), *from, None),
        [Value::String(given), Value::Int(from), Value::Int(to)] => (given.as_str(), *from, Some(*to)),
        _ => return no_overload(),
    };
    if let Some(to) = to
        && from > to
    {
        return fail(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let start = offset(given, from)?;
    let end = match to {
        Some(to) => offset(given, to)?,
        None => given.len(),
    };
    Ok(Value::string(&given[start..end]))
}

/// In double quotes, with the escapes of the language.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
