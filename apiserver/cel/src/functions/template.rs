//! `'%s and %d'.format([a, b])`.

use super::convert::{double_text, duration_text, timestamp_text};
use super::{bounded, fail, no_overload};
use crate::compare::compare;
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use std::fmt::Write;

/// More digits than that are refused; a bound on what one clause prints.
const PRECISION_MAX: usize = 1000;

pub fn format<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::String(template), Value::List(values)] = args else {
        return no_overload();
    };
    let mut out = String::new();
    let mut rest = template.as_str();
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let len = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let digits = after[..len]
                .parse::<usize>()
                .ok()
                .filter(|digits| *digits <= PRECISION_MAX);
            let Some(digits) = digits else {
                return fail("could not parse formatting clause: error while parsing precision");
            };
            precision = Some(digits);
            rest = &after[len..];
        }
        let Some(verb) = rest.chars().next() else {
            return fail("could not parse formatting clause: unexpected end of format string");
        };
        rest = &rest[verb.len_utf8()..];
        let Some(value) = values.get(next) else {
            return fail(format!("index {next} out of range"));
        };
        next += 1;
        clause(&mut out, verb, precision, &value)?;
        bounded(out.len())?;
    }
    out.push_str(rest);
    bounded(out.len())?;
    Ok(Value::string(out))
}

fn clause(out: &mut String, verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<(), EvalError> {
    let digits = precision.unwrap_or(6);
    let written = match (verb, value) {
        ('s', value) => {
            let shown = plain(value)?;
            bounded(out.len().saturating_add(shown.len()))?;
            out.push_str(&shown);
            Ok(())
        }
        ('d', Value::Int(value)) => write!(out, "{value}"),
        ('d', Value::Uint(value)) => write!(out, "{value}"),
        ('f', Value::Double(value)) => fixed(out, *value, digits),
        ('f', Value::Int(value)) => fixed(out, *value as f64, digits),
        ('f', Value::Uint(value)) => fixed(out, *value as f64, digits),
        ('e', Value::Double(value)) => exponent(out, *value, digits),
        ('e', Value::Int(value)) => exponent(out, *value as f64, digits),
        ('e', Value::Uint(value)) => exponent(out, *value as f64, digits),
        ('b', Value::Int(value)) => signed(out, *value, |n| format!("{n:b}")),
        ('b', Value::Uint(value)) => write!(out, "{value:b}"),
        ('b', Value::Bool(value)) => write!(out, "{}", u8::from(*value)),
        ('o', Value::Int(value)) => signed(out, *value, |n| format!("{n:o}")),
        ('o', Value::Uint(value)) => write!(out, "{value:o}"),
        ('x', Value::Int(value)) => signed(out, *value, |n| format!("{n:x}")),
        ('X', Value::Int(value)) => signed(out, *value, |n| format!("{n:X}")),
        ('x', Value::Uint(value)) => write!(out, "{value:x}"),
        ('X', Value::Uint(value)) => write!(out, "{value:X}"),
        ('x' | 'X', Value::String(text)) => hex(out, text.as_str().as_bytes(), verb == 'X'),
        ('x' | 'X', Value::Bytes(bytes)) => hex(out, bytes, verb == 'X'),
        ('d' | 'f' | 'e' | 'b' | 'o' | 'x' | 'X', other) => {
            let what = match verb {
                'd' => "decimal clause can only be used on integers",
                'f' => "fixed-point clause can only be used on doubles",
                'e' => "scientific clause can only be used on doubles",
                'b' => "only integers and bools can be formatted as binary",
                'o' => "octal clause can only be used on integers",
                _ => "only integers, byte buffers, and strings can be formatted as hex",
            };
            return fail(format!("{what}, was given {}", other.type_of().runtime_name()));
        }
        (verb, _) => {
            return fail(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            ));
        }
    };
    written.map_err(|_| EvalError::failed("formatting failed"))
}

fn signed(out: &mut String, value: i64, digits: fn(u64) -> String) -> std::fmt::Result {
    let sign = if value < 0 { "-" } else { "" };
    write!(out, "{sign}{}", digits(value.unsigned_abs()))
}

fn hex(out: &mut String, bytes: &[u8], upper: bool) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| {
        if upper {
            write!(out, "{byte:02X}")
        } else {
            write!(out, "{byte:02x}")
        }
    })
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

fn fixed(out: &mut String, value: f64, digits: usize) -> std::fmt::Result {
    match special(value) {
        Some(text) => out.write_str(text),
        None => write!(out, "{value:.digits$}"),
    }
}

fn exponent(out: &mut String, value: f64, digits: usize) -> std::fmt::Result {
    if let Some(text) = special(value) {
        return out.write_str(text);
    }
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{mantissa}e{sign}{:02}", exponent.abs())
}

/// What `%s` prints.
fn plain(value: &Value<'_>) -> Result<String, EvalError> {
    Ok(match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => special(*value).map_or_else(|| double_text(*value), str::to_string),
        Value::String(text) => text.as_str().to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Timestamp(at) => timestamp_text(at),
        Value::Duration(nanos) => duration_text(*nanos),
        Value::Type(ty) => ty.runtime_name().to_string(),
        Value::List(list) => {
            let mut out = String::from("[");
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(&plain(&item)?);
                bounded(out.len())?;
            }
            out.push(']');
            out
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| {
                compare(a, b).unwrap_or_else(|| a.type_of().runtime_name().cmp(b.type_of().runtime_name()))
            });
            let mut out = String::from("{");
            for (at, (key, value)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(&plain(key)?);
                out.push_str(": ");
                out.push_str(&plain(value)?);
                bounded(out.len())?;
            }
            out.push('}');
            out
        }
        Value::Opaque(Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(Opaque::Cidr(cidr)) => cidr.to_string(),
        Value::Opaque(Opaque::Quantity(quantity)) => quantity.to_string(),
        other => {
            return fail(format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                other.type_of().runtime_name()
            ));
        }
    })
}
