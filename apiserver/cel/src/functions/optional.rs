//! Optional values.

use super::{Function, fail, no_overload};
use crate::value::Value;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "optional.of" => |_, args| match args {
            [value] => Ok(Value::some(value.clone())),
            _ => no_overload(),
        },
        "optional.ofNonZeroValue" => |_, args| match args {
            [value] if is_zero(value) => Ok(Value::none()),
            [value] => Ok(Value::some(value.clone())),
            _ => no_overload(),
        },
        "optional.none" => |_, _| Ok(Value::none()),
        "hasValue" => |_, args| match args {
            [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
            _ => no_overload(),
        },
        "value" => |_, args| match args {
            [Value::Optional(Some(inner))] => Ok((**inner).clone()),
            [Value::Optional(None)] => fail("optional.none() dereference"),
            _ => no_overload(),
        },
        "optional.unwrap" | "unwrapOpt" => |ctx, args| match args {
            [Value::List(list)] => {
                ctx.meter.work(list.len() as u64)?;
                let items = list.iter().filter_map(|item| match item {
                    Value::Optional(inner) => inner.map(|inner| (*inner).clone()),
                    other => Some(other),
                });
                Ok(Value::list(items.collect()))
            }
            _ => no_overload(),
        },
        "first" => |_, args| match args {
            [Value::List(list)] => Ok(list.get(0).map_or_else(Value::none, Value::some)),
            _ => no_overload(),
        },
        "last" => |_, args| match args {
            [Value::List(list)] => {
                let last = list.len().checked_sub(1).and_then(|at| list.get(at));
                Ok(last.map_or_else(Value::none, Value::some))
            }
            _ => no_overload(),
        },
        _ => return None,
    })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(inner) => inner.is_none(),
        Value::Struct(made) => made.fields.is_empty(),
        _ => false,
    }
}
