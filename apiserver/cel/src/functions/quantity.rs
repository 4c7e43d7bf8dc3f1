//! Resource quantities, and comparison by name for them and for versions.

use super::{Function, fail, no_overload, semver};
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use skiff_api::quantity::Quantity;
use std::cmp::Ordering;
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |_, args| match args {
            [Value::String(text)] => match text.as_str().parse::<Quantity>() {
                Ok(quantity) => Ok(made(quantity)),
                Err(error) => fail(error.to_string()),
            },
            _ => no_overload(),
        },
        "isQuantity" => |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(text.as_str().parse::<Quantity>().is_ok())),
            _ => no_overload(),
        },
        "sign" => |_, args| of(args, |quantity| Ok(Value::Int(i64::from(quantity.sign())))),
        "isInteger" => |_, args| of(args, |quantity| Ok(Value::Bool(whole(quantity).is_some()))),
        "asInteger" => |_, args| {
            of(args, |quantity| {
                whole(quantity).map_or_else(
                    || fail("cannot convert value to integer"),
                    |value| Ok(Value::Int(value)),
                )
            })
        },
        "asApproximateFloat" => |_, args| of(args, |quantity| Ok(Value::Double(quantity.as_f64()))),
        "add" => |_, args| combine(args, |a, b| a + b),
        "sub" => |_, args| combine(args, |a, b| a - b),
        "isLessThan" => |_, args| compared(args, |order| Value::Bool(order == Ordering::Less)),
        "isGreaterThan" => |_, args| compared(args, |order| Value::Bool(order == Ordering::Greater)),
        "compareTo" => |_, args| compared(args, |order| Value::Int(order as i64)),
        _ => return None,
    })
}

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(Arc::new(quantity)))
}

/// The number of units where it is whole and fits.
fn whole(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::from_units(value) == *quantity).then_some(value)
}

fn of<'a>(args: &[Value<'a>], part: impl Fn(&Quantity) -> Made<'a>) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Quantity(quantity))] => part(quantity),
        _ => no_overload(),
    }
}

fn combine<'a>(args: &[Value<'a>], combine: fn(Quantity, Quantity) -> Quantity) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok(made(combine(**a, **b))),
        [Value::Opaque(Opaque::Quantity(a)), Value::Int(b)] => Ok(made(combine(**a, Quantity::from_units(*b)))),
        _ => no_overload(),
    }
}

fn compared<'a>(args: &[Value<'a>], make: fn(Ordering) -> Value<'static>) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok(make(a.cmp(b))),
        [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] => Ok(make(semver::compare(a, b))),
        _ => no_overload(),
    }
}
