//! Operators: arithmetic with overflow checks, comparison, membership, indexing.

use super::{Function, bounded, bounded_items, fail, no_overload};
use crate::compare::{compare, identity};
use crate::containers::List;
use crate::decl::ListSemantics;
use crate::error::EvalError;
use crate::eval::Ctx;
use crate::instant::Instant;
use crate::value::{Value, shown};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "_==_" => |ctx, args| match args {
            [a, b] => Ok(Value::Bool(ctx.equality(|equality| equality.equal(a, b))?)),
            _ => no_overload(),
        },
        "_!=_" => |ctx, args| match args {
            [a, b] => Ok(Value::Bool(!ctx.equality(|equality| equality.equal(a, b))?)),
            _ => no_overload(),
        },
        "_<_" => |_, args| order(args, |order| order == Ordering::Less),
        "_<=_" => |_, args| order(args, |order| order != Ordering::Greater),
        "_>_" => |_, args| order(args, |order| order == Ordering::Greater),
        "_>=_" => |_, args| order(args, |order| order != Ordering::Less),
        "_+_" => |ctx, args| add(ctx, args),
        "_-_" => |_, args| subtract(args),
        "_*_" => |_, args| multiply(args),
        "_/_" => |_, args| divide(args),
        "_%_" => |_, args| modulo(args),
        "-_" => |_, args| negate(args),
        "!_" => |_, args| match args {
            [Value::Bool(value)] => Ok(Value::Bool(!value)),
            _ => no_overload(),
        },
        "@in" => |ctx, args| contained(ctx, args),
        "size" => |ctx, args| match args {
            [Value::String(text)] => {
                ctx.meter.work(text.as_str().len() as u64 / 64)?;
                Ok(Value::Int(text.as_str().chars().count() as i64))
            }
            [value @ (Value::Bytes(_) | Value::List(_) | Value::Map(_))] => Ok(Value::Int(value.size() as i64)),
            _ => no_overload(),
        },
        _ => return None,
    })
}

fn order<'a>(args: &[Value<'a>], accept: fn(Ordering) -> bool) -> Made<'a> {
    let [a, b] = args else { return no_overload() };
    match compare(a, b) {
        Some(order) => Ok(Value::Bool(accept(order))),
        None => match (a, b) {
            // Nothing compares with NaN.
            (Value::Double(_), Value::Double(_) | Value::Int(_) | Value::Uint(_))
            | (Value::Int(_) | Value::Uint(_), Value::Double(_)) => Ok(Value::Bool(false)),
            _ => no_overload(),
        },
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

fn or_fail<T>(value: Option<T>, message: &'static str) -> Result<T, EvalError> {
    value.ok_or_else(|| EvalError::failed(message))
}

/// A time, unless it is before year 1 or after 9999.
pub(crate) fn timestamp(at: Option<Instant>) -> Result<Value<'static>, EvalError> {
    at.map_or_else(|| fail(TIMESTAMP), |at| Ok(Value::Timestamp(at)))
}

fn add<'a>(ctx: &Ctx<'a, '_>, args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(or_fail(a.checked_add(*b), INT)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(or_fail(a.checked_add(*b), UINT)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a + b),
        [Value::String(a), Value::String(b)] => {
            bounded(a.as_str().len().saturating_add(b.as_str().len()))?;
            Value::string([a.as_str(), b.as_str()].concat())
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            bounded(a.len().saturating_add(b.len()))?;
            Value::Bytes([&a[..], &b[..]].concat().into())
        }
        [Value::List(a), Value::List(b)] => {
            // Copied, and cheaper than that takes.
            ctx.meter.work((a.len() + b.len()) as u64)?;
            Value::List(joined(a, b)?)
        }
        [Value::Duration(a), Value::Duration(b)] => Value::Duration(or_fail(a.checked_add(*b), DURATION)?),
        [Value::Timestamp(at), Value::Duration(nanos)] | [Value::Duration(nanos), Value::Timestamp(at)] => {
            timestamp(at.plus(*nanos))?
        }
        _ => return no_overload(),
    })
}

/// Lists joined as their kind says: sets stay sets, and items of a keyed list replace
/// those of the same key where they stand.
fn joined<'a>(a: &List<'a>, b: &List<'a>) -> Result<List<'a>, EvalError> {
    bounded_items(a.len().saturating_add(b.len()))?;
    let mut items: Vec<Value<'a>> = a.iter().collect();
    let semantics = a.semantics();
    match semantics {
        Some(ListSemantics::Set) => {
            let known: HashSet<String> = a.iter().map(|item| identity(&item)).collect();
            items.extend(b.iter().filter(|item| !known.contains(&identity(item))));
        }
        Some(ListSemantics::Map(keys)) => {
            let mut places = super::lists::by_keys(a, keys).unwrap_or_default();
            for item in b.iter() {
                let key = super::lists::item_key(&item, keys);
                match key.as_ref().and_then(|key| places.get(key)) {
                    Some(place) => items[*place] = item,
                    None => {
                        if let Some(key) = key {
                            places.insert(key, items.len());
                        }
                        items.push(item);
                    }
                }
            }
        }
        _ => items.extend(b.iter()),
    }
    Ok(List::Owned(Arc::new(items), semantics))
}

fn subtract<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(or_fail(a.checked_sub(*b), INT)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(or_fail(a.checked_sub(*b), UINT)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Duration(a), Value::Duration(b)] => Value::Duration(or_fail(a.checked_sub(*b), DURATION)?),
        [Value::Timestamp(at), Value::Duration(nanos)] => {
            timestamp(nanos.checked_neg().and_then(|nanos| at.plus(nanos)))?
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => Value::Duration(or_fail(a.since(b), DURATION)?),
        _ => return no_overload(),
    })
}

fn multiply<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(or_fail(a.checked_mul(*b), INT)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(or_fail(a.checked_mul(*b), UINT)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return no_overload(),
    })
}

fn divide<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return fail("division by zero"),
        [Value::Int(a), Value::Int(b)] => Value::Int(or_fail(a.checked_div(*b), INT)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return no_overload(),
    })
}

fn modulo<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return fail("modulus by zero"),
        [Value::Int(a), Value::Int(b)] => Value::Int(or_fail(a.checked_rem(*b), INT)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return no_overload(),
    })
}

fn negate<'a>(args: &[Value<'a>]) -> Made<'a> {
    Ok(match args {
        [Value::Int(value)] => Value::Int(or_fail(value.checked_neg(), INT)?),
        [Value::Double(value)] => Value::Double(-value),
        _ => return no_overload(),
    })
}

fn contained<'a>(ctx: &Ctx<'a, '_>, args: &[Value<'a>]) -> Made<'a> {
    match args {
        [item, Value::List(list)] => {
            let found = ctx.equality(|equality| list.iter().any(|known| equality.equal(&known, item)))?;
            Ok(Value::Bool(found))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(map.contains(key)?)),
        _ => no_overload(),
    }
}

/// A list's position; whole doubles count, as numbers compare across types.
fn position(index: &Value<'_>) -> Result<i64, EvalError> {
    match index {
        Value::Int(at) => Ok(*at),
        Value::Uint(at) => Ok(i64::try_from(*at).unwrap_or(i64::MAX)),
        Value::Double(at) if at.fract() == 0.0 && at.abs() < 9e15 => Ok(*at as i64),
        Value::Double(_) => fail("unsupported index value"),
        other => fail(format!(
            "unsupported index type '{}' in list",
            other.type_of().runtime_name()
        )),
    }
}

pub(crate) fn index<'a>(args: &[Value<'a>]) -> Made<'a> {
    match args {
        [Value::List(list), at] => {
            let at = position(at)?;
            usize::try_from(at)
                .ok()
                .and_then(|at| list.get(at))
                .ok_or_else(|| EvalError::failed(format!("index out of bounds: {at}")))
        }
        [Value::Map(map), key] => map
            .get(key)?
            .ok_or_else(|| EvalError::failed(format!("no such key: {}", shown(key)))),
        [Value::Optional(_), _] => optional_index(args),
        _ => no_overload(),
    }
}

pub(crate) fn optional_index<'a>(args: &[Value<'a>]) -> Made<'a> {
    let found = match args {
        [Value::List(list), at] => usize::try_from(position(at)?).ok().and_then(|at| list.get(at)),
        [Value::Map(map), key] => map.get(key)?,
        [Value::Optional(None), _] => None,
        [Value::Optional(Some(inner)), key] => return optional_index(&[(**inner).clone(), key.clone()]),
        _ => return no_overload(),
    };
    Ok(match found {
        Some(optional @ Value::Optional(_)) => optional,
        Some(value) => Value::some(value),
        None => Value::none(),
    })
}
