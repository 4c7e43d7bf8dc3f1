//! Lists: Kubernetes' list library and the extended one.

use super::{Function, bounded_items, fail, no_overload};
use crate::compare::{Equality, compare};
use crate::containers::{List, Map};
use crate::error::EvalError;
use crate::eval::Ctx;
use crate::value::Value;
use std::cmp::Ordering;
use std::collections::HashMap;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "isSorted" => |_, args| is_sorted(args),
        "sum" => |_, args| sum(args),
        "min" => |_, args| extreme(args, "min", Ordering::Less),
        "max" => |_, args| extreme(args, "max", Ordering::Greater),
        "slice" => |_, args| slice(args),
        "flatten" => |_, args| flatten(args),
        "sort" => |_, args| match args {
            [Value::List(list)] => sort(list, list),
            _ => no_overload(),
        },
        "@sortByAssociatedKeys" => |_, args| match args {
            [Value::List(list), Value::List(keys)] => sort(list, keys),
            _ => no_overload(),
        },
        "reverse" => |_, args| match args {
            [Value::List(list)] => {
                let mut items: Vec<_> = list.iter().collect();
                items.reverse();
                Ok(Value::list(items))
            }
            _ => no_overload(),
        },
        "distinct" => |ctx, args| match args {
            [Value::List(list)] => Ok(Value::list(ctx.equality(|equality| distinct(equality, list))?)),
            _ => no_overload(),
        },
        "lists.range" => |_, args| range(args),
        _ => return None,
    })
}

/// The key of an item of a keyed list, as text that differs for different keys.
pub fn item_key(item: &Value<'_>, keys: &[String]) -> Option<String> {
    let Value::Map(Map::Json(fields, _)) = item else {
        return None;
    };
    let mut text = String::new();
    for key in keys {
        // Absent keys stand for themselves: they have a default or are null.
        match fields.get(key) {
            Some(value) => text.push_str(&value.to_string()),
            None => text.push('-'),
        }
        text.push('\n');
    }
    Some(text)
}

/// Where the items of a keyed list stand; `None` where it is no list of objects.
pub fn by_keys(list: &List<'_>, keys: &[String]) -> Option<HashMap<String, usize>> {
    let mut places = HashMap::new();
    for (at, item) in list.iter().enumerate() {
        places.insert(item_key(&item, keys)?, at);
    }
    Some(places)
}

pub fn index_of<'a>(ctx: &Ctx<'a, '_>, list: &List<'a>, item: &Value<'a>) -> Made<'a> {
    let found = ctx.equality(|equality| list.iter().position(|known| equality.equal(&known, item)))?;
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

pub fn last_index_of<'a>(ctx: &Ctx<'a, '_>, list: &List<'a>, item: &Value<'a>) -> Made<'a> {
    let found = ctx.equality(|equality| {
        let mut places = (0..list.len()).rev();
        places.find(|at| list.get(*at).is_some_and(|known| equality.equal(&known, item)))
    })?;
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Made<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut before: Option<Value<'a>> = None;
    for item in list.iter() {
        if let Some(before) = &before {
            match compare(before, &item) {
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return no_overload(),
            }
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>]) -> Made<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        total = Some(match (total, item) {
            (None, item @ (Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_))) => item,
            (Some(Value::Int(a)), Value::Int(b)) => match a.checked_add(b) {
                Some(sum) => Value::Int(sum),
                None => return fail("integer overflow"),
            },
            (Some(Value::Uint(a)), Value::Uint(b)) => match a.checked_add(b) {
                Some(sum) => Value::Uint(sum),
                None => return fail("unsigned integer overflow"),
            },
            (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
            (Some(Value::Duration(a)), Value::Duration(b)) => match a.checked_add(b) {
                Some(sum) => Value::Duration(sum),
                None => return fail("duration overflow"),
            },
            _ => return no_overload(),
        });
    }
    // The type of an empty list's items is not known here; zero compares with all numbers.
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Made<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        best = Some(match best {
            None => item,
            Some(best) => match compare(&item, &best) {
                Some(order) if order == wanted => item,
                Some(_) => best,
                None => return no_overload(),
            },
        });
    }
    best.map_or_else(|| fail(format!("{name} called on empty list")), Ok)
}

fn slice<'a>(args: &[Value<'a>]) -> Made<'a> {
    let [Value::List(list), Value::Int(from), Value::Int(to)] = args else {
        return no_overload();
    };
    let complain = |what: String| fail(format!("cannot slice({from}, {to}), {what}"));
    let (Ok(start), Ok(end)) = (usize::try_from(*from), usize::try_from(*to)) else {
        return complain("negative indexes not supported".into());
    };
    if start > end {
        return complain("start index must be less than or equal to end index".into());
    }
    if end > list.len() {
        return complain(format!("list is length {}", list.len()));
    }
    Ok(Value::list((start..end).filter_map(|at| list.get(at)).collect()))
}

fn flatten<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut items = Vec::new();
    flatten_into(&mut items, list, depth)?;
    Ok(Value::list(items))
}

fn flatten_into<'a>(items: &mut Vec<Value<'a>>, list: &List<'a>, depth: i64) -> Result<(), EvalError> {
    for item in list.iter() {
        match &item {
            Value::List(inner) if depth > 0 => flatten_into(items, inner, depth - 1)?,
            _ => items.push(item),
        }
        bounded_items(items.len())?;
    }
    Ok(())
}

/// The items in the order of their keys; equal keys keep their order.
fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Made<'a> {
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().zip(list.iter()).collect();
    if let Some((first, _)) = pairs.first() {
        let ty = first.type_of();
        if compare(first, first).is_none() && !matches!(first, Value::Double(_)) {
            return fail("list elements must be comparable");
        }
        if pairs.iter().any(|(key, _)| key.type_of() != ty) {
            return fail("list elements must have the same type");
        }
    }
    pairs.sort_by(|(a, _), (b, _)| compare(a, b).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn distinct<'a>(equality: &mut Equality, list: &List<'a>) -> Vec<Value<'a>> {
    let mut found: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        if !found.iter().any(|known| equality.equal(known, &item)) {
            found.push(item);
        }
    }
    found
}

fn range<'a>(args: &[Value<'a>]) -> Made<'a> {
    let [Value::Int(count)] = args else {
        return no_overload();
    };
    if *count < 0 {
        return fail(format!("lists.range: size must be non-negative, got {count}"));
    }
    bounded_items(usize::try_from(*count).unwrap_or(usize::MAX))?;
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}
