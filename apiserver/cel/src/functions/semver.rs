//! Semantic versions.

use super::{Function, fail, no_overload};
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use semver::Version;
use std::cmp::Ordering;
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "semver" => |_, args| match read(args)? {
            Ok(version) => Ok(Value::Opaque(Opaque::Semver(Arc::new(version)))),
            Err(error) => fail(format!("semver parse error during conversion from string: {error}")),
        },
        "isSemver" => |_, args| Ok(Value::Bool(read(args)?.is_ok())),
        "major" => |_, args| part(args, |version| version.major),
        "minor" => |_, args| part(args, |version| version.minor),
        "patch" => |_, args| part(args, |version| version.patch),
        _ => return None,
    })
}

fn read(args: &[Value<'_>]) -> Result<Result<Version, semver::Error>, EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Version::parse(text.as_str())),
        [Value::String(text), Value::Bool(true)] => Ok(Version::parse(&normalize(text.as_str()))),
        _ => no_overload(),
    }
}

/// `v1.02` as `1.2.0`: no `v`, no leading zeros, three numbers.
fn normalize(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut numbers: Vec<&str> = core
        .split('.')
        .map(|number| {
            let bare = number.trim_start_matches('0');
            if bare.is_empty() && !number.is_empty() {
                "0"
            } else {
                bare
            }
        })
        .collect();
    // A pre-release or build needs all three numbers.
    if rest.is_empty() {
        while numbers.len() < 3 {
            numbers.push("0");
        }
    }
    numbers.join(".") + rest
}

/// Precedence: the build says nothing.
pub fn compare(a: &Version, b: &Version) -> Ordering {
    a.cmp_precedence(b)
}

fn part<'a>(args: &[Value<'a>], part: fn(&Version) -> u64) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => Ok(Value::Int(i64::try_from(part(version)).unwrap_or(i64::MAX))),
        _ => no_overload(),
    }
}
