//! Equality and order of values.

use crate::containers::{List, Map};
use crate::decl::ListSemantics;
use crate::value::{Opaque, Value};
use std::cmp::Ordering;

/// A comparison for equality that gives up after so many steps: values may hold the same
/// big value many times over.
#[derive(Debug)]
pub struct Equality {
    allowed: u64,
    steps: u64,
}

impl Equality {
    pub fn within(allowed: u64) -> Self {
        Self { allowed, steps: 0 }
    }

    /// Steps taken. Where that is more than was allowed, what was found says nothing.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, steps: u64) -> bool {
        self.steps = self.steps.saturating_add(steps);
        self.steps <= self.allowed
    }

    /// `==`. Values of different types differ; numbers compare across their types.
    pub fn equal(&mut self, a: &Value<'_>, b: &Value<'_>) -> bool {
        if !self.step(1) {
            return false;
        }
        match (a, b) {
            (Value::Null, Value::Null) => true,
            (Value::String(a), Value::String(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                a.len() == b.len() && self.step(a.len() as u64 / 64) && a == b
            }
            (Value::List(a), Value::List(b)) => self.equal_lists(a, b),
            (Value::Map(a), Value::Map(b)) => self.equal_maps(a, b),
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => self.equal(a, b),
                (None, None) => true,
                _ => false,
            },
            (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
            (Value::Struct(a), Value::Struct(b)) => {
                a.object.name() == b.object.name()
                    && a.fields.len() == b.fields.len()
                    && a.fields
                        .iter()
                        .all(|(name, value)| b.fields.get(name).is_some_and(|other| self.equal(value, other)))
            }
            (Value::Opaque(a), Value::Opaque(b)) => equal_opaque(a, b),
            _ => compare(a, b) == Some(Ordering::Equal),
        }
    }

    fn equal_lists(&mut self, a: &List<'_>, b: &List<'_>) -> bool {
        if a.len() != b.len() {
            return false;
        }
        match a.semantics() {
            Some(ListSemantics::Set) => {
                // As many, and none that is missing.
                let known: std::collections::HashSet<String> = a.iter().map(|item| identity(&item)).collect();
                self.step(a.len() as u64 * 2) && b.iter().all(|item| known.contains(&identity(&item)))
            }
            Some(ListSemantics::Map(keys)) => {
                let Some(by_key) = crate::functions::lists::by_keys(b, keys) else {
                    return false;
                };
                a.iter().all(|item| {
                    crate::functions::lists::item_key(&item, keys)
                        .and_then(|key| by_key.get(&key).and_then(|at| b.get(*at)))
                        .is_some_and(|other| self.equal(&item, &other))
                })
            }
            _ => a.iter().zip(b.iter()).all(|(a, b)| self.equal(&a, &b)),
        }
    }

    fn equal_maps(&mut self, a: &Map<'_>, b: &Map<'_>) -> bool {
        if a.len() != b.len() {
            return false;
        }
        // Of objects, what their schema does not know counts too.
        if let (Some(a), Some(b)) = (a.as_object(), b.as_object()) {
            return a.0.iter().all(|(name, value)| {
                let (ours, theirs) = (a.1.by_json_name(name), b.1.by_json_name(name));
                b.0.get(name)
                    .is_some_and(|other| self.equal(&Value::of_json(value, ours), &Value::of_json(other, theirs)))
            });
        }
        a.iter().all(|(key, value)| {
            let found = b.get(&key).ok().flatten();
            found.is_some_and(|other| self.equal(&value, &other))
        })
    }
}

/// Text that is the same for equal values of one type: what sets are compared by.
pub fn identity(value: &Value<'_>) -> String {
    match value {
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(text) => format!("{:?}", text.as_str()),
        other => other
            .to_json()
            .map_or_else(|_| format!("{other:?}"), |json| json.to_string()),
    }
}

fn equal_opaque(a: &Opaque<'_>, b: &Opaque<'_>) -> bool {
    match (a, b) {
        (Opaque::Url(a), Opaque::Url(b)) => a == b,
        (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
        (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
        (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
        (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b) == Ordering::Equal,
        (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
        (Opaque::Authz(a), Opaque::Authz(b)) => a == b,
        _ => false,
    }
}

/// The order of two values; `None` where they have none.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    use Value::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(b)),
        (Uint(a), Uint(b)) => Some(a.cmp(b)),
        (Int(a), Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Uint(a), Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (Int(a), Double(b)) => compare_whole(i128::from(*a), *b),
        (Uint(a), Double(b)) => compare_whole(i128::from(*a), *b),
        (Double(a), Int(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
        (Double(a), Uint(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
        (Bool(a), Bool(b)) => Some(a.cmp(b)),
        (String(a), String(b)) => Some(a.as_str().cmp(b.as_str())),
        (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
        (Timestamp(a), Timestamp(b)) => Some(a.cmp(b)),
        (Duration(a), Duration(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn compare_whole(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() >= 1e30 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = b.trunc();
    // Exact: both fit an i128, and what was cut off decides between equals.
    Some(
        a.cmp(&(whole as i128))
            .then_with(|| 0.0f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal)),
    )
}
