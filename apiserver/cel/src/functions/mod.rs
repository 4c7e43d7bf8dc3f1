//! The functions of the environment, by full name. A function serves all overloads of
//! its name: it looks at the values it is given, and what fits none is
//! `no such overload`.

pub mod authorizer;
pub mod collections;
pub mod convert;
pub mod format;
pub mod ip;
pub mod lists;
pub mod operators;
pub mod optional;
pub mod quantity;
pub mod regex;
pub mod semver;
pub mod strings;
pub mod template;
pub mod time;
pub mod url;

use crate::error::EvalError;
use crate::eval::Ctx;
use crate::value::Value;

/// A function's implementation. A member's receiver is the first argument.
pub type Function = for<'a> fn(&mut Ctx<'a, '_>, &[Value<'a>]) -> Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    operators::function(name)
        .or_else(|| convert::function(name))
        .or_else(|| strings::function(name))
        .or_else(|| lists::function(name))
        .or_else(|| collections::function(name))
        .or_else(|| optional::function(name))
        .or_else(|| regex::function(name))
        .or_else(|| time::function(name))
        .or_else(|| url::function(name))
        .or_else(|| ip::function(name))
        .or_else(|| quantity::function(name))
        .or_else(|| semver::function(name))
        .or_else(|| format::function(name))
        .or_else(|| authorizer::function(name))
}

/// An ordinary failure of a function.
pub(crate) fn fail<T>(message: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, EvalError> {
    Err(EvalError::failed(message))
}

pub(crate) fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

/// Text made by a function, unless it is longer than any may be.
pub(crate) fn text<'a>(made: String) -> Result<Value<'a>, EvalError> {
    bounded(made.len())?;
    Ok(Value::string(made))
}

pub(crate) fn bounded(bytes: usize) -> Result<(), EvalError> {
    if bytes > crate::eval::TEXT_BYTES_MAX {
        return fail("the text is too long");
    }
    Ok(())
}

pub(crate) fn bounded_items(items: usize) -> Result<(), EvalError> {
    if items > crate::eval::ITEMS_MAX {
        return fail("the list is too long");
    }
    Ok(())
}
