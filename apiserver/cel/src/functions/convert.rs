//! Conversions between types, and the text forms of numbers, times and durations.

use super::{Function, bounded, fail, no_overload};
use crate::error::EvalError;
use crate::instant::Instant;
use crate::value::{Opaque, Value};
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "int" => |_, args| to_int(args),
        "uint" => |_, args| to_uint(args),
        "double" => |_, args| to_double(args),
        "string" => |_, args| to_string(args),
        "bytes" => |_, args| to_bytes(args),
        "bool" => |_, args| to_bool(args),
        "timestamp" => |_, args| to_timestamp(args),
        "duration" => |_, args| to_duration(args),
        "dyn" => |_, args| args.first().cloned().map_or_else(no_overload, Ok),
        "type" => |_, args| match args {
            [value] => Ok(Value::Type(Arc::new(value.type_of()))),
            _ => no_overload(),
        },
        _ => return None,
    })
}

fn wrong<T>(from: &str, to: &str) -> Result<T, EvalError> {
    fail(format!("type conversion error from '{from}' to '{to}'"))
}

fn to_int<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [value @ Value::Int(_)] => value.clone(),
        [Value::Uint(value)] => match i64::try_from(*value) {
            Ok(value) => Value::Int(value),
            Err(_) => return fail("integer overflow"),
        },
        // Exclusive bounds: the nearest doubles beyond are out of range.
        [Value::Double(value)] if *value > -(2f64.powi(63)) && *value < 2f64.powi(63) => Value::Int(*value as i64),
        [Value::Double(_)] => return fail("integer overflow"),
        [Value::String(text)] => match go_integer::<i64>(text.as_str(), true) {
            Some(value) => Value::Int(value),
            None => return wrong("string", "int"),
        },
        [Value::Timestamp(at)] => Value::Int(at.seconds()),
        [Value::Duration(nanos)] => Value::Int(*nanos),
        [other] => return wrong(other.type_of().runtime_name(), "int"),
        _ => return no_overload(),
    })
}

/// Digits with an optional sign, nothing else.
fn go_integer<T: std::str::FromStr>(text: &str, signed: bool) -> Option<T> {
    let digits = if signed {
        text.strip_prefix(['-', '+']).unwrap_or(text)
    } else {
        text
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn to_uint<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [value @ Value::Uint(_)] => value.clone(),
        [Value::Int(value)] => match u64::try_from(*value) {
            Ok(value) => Value::Uint(value),
            Err(_) => return fail("unsigned integer overflow"),
        },
        [Value::Double(value)] if *value >= 0.0 && *value < 2f64.powi(64) => Value::Uint(*value as u64),
        [Value::Double(_)] => return fail("unsigned integer overflow"),
        [Value::String(text)] => match go_integer::<u64>(text.as_str(), false) {
            Some(value) => Value::Uint(value),
            None => return wrong("string", "uint"),
        },
        [other] => return wrong(other.type_of().runtime_name(), "uint"),
        _ => return no_overload(),
    })
}

fn to_double<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [value @ Value::Double(_)] => value.clone(),
        [Value::Int(value)] => Value::Double(*value as f64),
        [Value::Uint(value)] => Value::Double(*value as f64),
        [Value::String(text)] => match go_float(text.as_str()) {
            Some(value) => Value::Double(value),
            None => return wrong("string", "double"),
        },
        [other] => return wrong(other.type_of().runtime_name(), "double"),
        _ => return no_overload(),
    })
}

fn go_float(text: &str) -> Option<f64> {
    let value: f64 = text.trim_start_matches('+').parse().ok()?;
    // Out of range is an error; infinity has to be written out.
    (value.is_finite() || text.to_ascii_lowercase().contains("inf") || value.is_nan()).then_some(value)
}

fn to_string<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [value @ Value::String(_)] => value.clone(),
        [Value::Bool(value)] => Value::string(value.to_string()),
        [Value::Int(value)] => Value::string(value.to_string()),
        [Value::Uint(value)] => Value::string(value.to_string()),
        [Value::Double(value)] => Value::string(double_text(*value)),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Value::string(text),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        [Value::Timestamp(at)] => Value::string(timestamp_text(at)),
        [Value::Duration(nanos)] => Value::string(duration_text(*nanos)),
        [Value::Opaque(Opaque::Ip(ip))] => Value::string(ip.to_string()),
        [Value::Opaque(Opaque::Cidr(cidr))] => Value::string(cidr.to_string()),
        [Value::Type(ty)] => Value::string(ty.runtime_name()),
        [other] => return wrong(other.type_of().runtime_name(), "string"),
        _ => return no_overload(),
    })
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Made<'a> {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => {
            bounded(text.as_str().len())?;
            Ok(Value::Bytes(text.as_str().as_bytes().into()))
        }
        [other] => wrong(other.type_of().runtime_name(), "bytes"),
        _ => no_overload(),
    }
}

fn to_bool<'a>(args: &[Value<'a>]) -> Made<'a> {
    match args {
        [value @ Value::Bool(_)] => Ok(value.clone()),
        [Value::String(text)] => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => wrong("string", "bool"),
        },
        [other] => wrong(other.type_of().runtime_name(), "bool"),
        _ => no_overload(),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Made<'a> {
    match args {
        [value @ Value::Timestamp(_)] => Ok(value.clone()),
        [Value::Int(seconds)] => super::operators::timestamp(Instant::from_seconds(*seconds)),
        [Value::String(text)] => match parse_timestamp(text.as_str()) {
            Some(at) => super::operators::timestamp(Some(at)),
            None => wrong("string", "google.protobuf.Timestamp"),
        },
        [other] => wrong(other.type_of().runtime_name(), "google.protobuf.Timestamp"),
        _ => no_overload(),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Made<'a> {
    match args {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => match parse_duration(text.as_str()) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => wrong("string", "google.protobuf.Duration"),
        },
        [other] => wrong(other.type_of().runtime_name(), "google.protobuf.Duration"),
        _ => no_overload(),
    }
}

pub fn parse_timestamp(text: &str) -> Option<Instant> {
    Instant::parse(text)
}

pub fn parse_duration(text: &str) -> Option<i64> {
    skiff_api::duration::parse_go(text)
}

/// RFC 3339 with as many digits of a second as it takes.
pub fn timestamp_text(at: &Instant) -> String {
    at.to_string()
}

/// Seconds: `5400s`, `0.5s`.
pub fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let text = format!("{sign}{seconds}.{rest:09}");
    format!("{}s", text.trim_end_matches('0'))
}

/// The shortest digits that read back the same, as Go's `%g` prints them: with an
/// exponent from 1e6 and below 1e-4.
pub fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
