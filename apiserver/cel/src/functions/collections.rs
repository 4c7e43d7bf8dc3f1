//! Lists as sets, and the maps that comprehensions build.

use super::{Function, fail, no_overload};
use crate::error::EvalError;
use crate::value::{List, Map, OwnedMap, Value, equal};
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sets.contains" => |_, args| test(args, |a, b| b.iter().all(|item| holds(a, &item))),
        "sets.intersects" => |_, args| test(args, |a, b| b.iter().any(|item| holds(a, &item))),
        "sets.equivalent" => |_, args| {
            test(args, |a, b| {
                b.iter().all(|item| holds(a, &item)) && a.iter().all(|item| holds(b, &item))
            })
        },
        "cel.@mapInsert" => |_, args| insert(args),
        _ => return None,
    })
}

fn holds(list: &List<'_>, item: &Value<'_>) -> bool {
    list.iter().any(|known| equal(&known, item))
}

fn test<'a>(args: &[Value<'a>], test: fn(&List<'_>, &List<'_>) -> bool) -> Made<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(test(a, b))),
        _ => no_overload(),
    }
}

fn insert<'a>(args: &[Value<'a>]) -> Made<'a> {
    let (Some(Value::Map(map)), rest) = (args.first(), &args[1..]) else {
        return no_overload();
    };
    let mut made = match map {
        Map::Owned(map) => OwnedMap::clone(map),
        json => {
            let mut made = OwnedMap::default();
            for (key, value) in json.iter() {
                made.insert(key, value)?;
            }
            made
        }
    };
    match rest {
        [key, value] => made.insert(key.clone(), value.clone())?,
        [Value::Map(more)] => {
            if more.len() != 1 {
                return fail("map entry literal must contain exactly one entry");
            }
            for (key, value) in more.iter() {
                made.insert(key, value)?;
            }
        }
        _ => return no_overload(),
    }
    Ok(Value::Map(Map::Owned(Arc::new(made))))
}
