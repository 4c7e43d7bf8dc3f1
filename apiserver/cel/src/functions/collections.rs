//! Lists as sets, and the maps that comprehensions build.

use super::{Function, fail, no_overload};
use crate::compare::Equality;
use crate::containers::{List, Map, OwnedMap};
use crate::error::EvalError;
use crate::eval::Ctx;
use crate::value::Value;
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sets.contains" => |ctx, args| test(ctx, args, |e, a, b| b.iter().all(|item| holds(e, a, &item))),
        "sets.intersects" => |ctx, args| test(ctx, args, |e, a, b| b.iter().any(|item| holds(e, a, &item))),
        "sets.equivalent" => |ctx, args| {
            test(ctx, args, |e, a, b| {
                b.iter().all(|item| holds(e, a, &item)) && a.iter().all(|item| holds(e, b, &item))
            })
        },
        "cel.@mapInsert" => |ctx, args| insert(ctx, args),
        _ => return None,
    })
}

fn holds(equality: &mut Equality, list: &List<'_>, item: &Value<'_>) -> bool {
    list.iter().any(|known| equality.equal(&known, item))
}

fn test<'a>(ctx: &Ctx<'a, '_>, args: &[Value<'a>], test: fn(&mut Equality, &List<'_>, &List<'_>) -> bool) -> Made<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(ctx.equality(|equality| test(equality, a, b))?)),
        _ => no_overload(),
    }
}

fn insert<'a>(ctx: &Ctx<'a, '_>, args: &[Value<'a>]) -> Made<'a> {
    let (Some(Value::Map(map)), rest) = (args.first(), &args[1..]) else {
        return no_overload();
    };
    ctx.meter.work(map.len() as u64)?;
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
