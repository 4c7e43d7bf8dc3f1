//! The price of work while evaluating, in the cost units of Kubernetes' CEL limits,
//! and the brake: an evaluation ends when its budget is spent or its caller says so.
//!
//! The prices are an API: which expressions pass a limit must not change.

use crate::error::EvalError;
use crate::value::{Opaque, Value};
use std::cell::Cell;

/// Traversing text costs this much a character.
pub const TEXT_FACTOR: f64 = 0.1;
/// A regular expression costs this much a character of its pattern, for each unit of its text.
pub const REGEX_FACTOR: f64 = 0.25;
pub const LIST_COST: u64 = 10;
pub const MAP_COST: u64 = 30;
pub const STRUCT_COST: u64 = 40;
/// An authorization check; two fit into the budget of one call.
pub const CHECK_COST: u64 = 350_000;
/// How long a pattern a named format is taken for where it is not known yet.
pub const FORMAT_REGEX_CHARS: u64 = 128;

/// Steps that cost less than they take (copies, comparisons), in all: about a fifth of a
/// second, and ten times what comparing the biggest objects takes.
const WORK_MAX: u64 = 10_000_000;
/// Work between two looks at the caller's interrupt.
const INTERRUPT_EVERY_WORK: u64 = 1_000_000;

/// Iterations of a comprehension between two looks at the caller's interrupt.
const INTERRUPT_EVERY: u32 = 100;

/// What an evaluation may spend.
#[derive(Clone, Copy)]
pub struct Limits<'b> {
    pub cost: u64,
    /// Asked now and then; `true` ends the evaluation.
    pub interrupt: Option<&'b dyn Fn() -> bool>,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("cost", &self.cost).finish()
    }
}

/// The cost of one call of an expression.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The cost of all expressions of a policy binding, or of a custom resource.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// The cost of all match conditions of one webhook or policy.
pub const MATCH_CONDITIONS_BUDGET: u64 = RUNTIME_BUDGET / 4;

impl Default for Limits<'_> {
    fn default() -> Self {
        Self {
            cost: PER_CALL_LIMIT,
            interrupt: None,
        }
    }
}

pub struct Meter<'b> {
    limits: Limits<'b>,
    spent: Cell<u64>,
    ticks: Cell<u32>,
    work: Cell<u64>,
}

impl<'b> Meter<'b> {
    pub fn new(limits: Limits<'b>) -> Self {
        Self {
            limits,
            spent: Cell::new(0),
            ticks: Cell::new(0),
            work: Cell::new(0),
        }
    }

    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    pub fn charge(&self, cost: u64) -> Result<(), EvalError> {
        let spent = self.spent.get().saturating_add(cost);
        self.spent.set(spent);
        if spent > self.limits.cost {
            return Err(EvalError::CostExceeded);
        }
        Ok(())
    }

    /// Takes back what was charged since `spent`.
    pub fn refund_to(&self, spent: u64) {
        self.spent.set(spent);
    }

    pub fn refund(&self, cost: u64) {
        self.spent.set(self.spent.get().saturating_sub(cost));
    }

    /// Steps taken beyond what was charged for.
    pub fn work(&self, steps: u64) -> Result<(), EvalError> {
        let (before, after) = (self.work.get(), self.work.get().saturating_add(steps));
        self.work.set(after);
        let asked = before / INTERRUPT_EVERY_WORK != after / INTERRUPT_EVERY_WORK;
        if after > WORK_MAX || asked && self.limits.interrupt.is_some_and(|interrupt| interrupt()) {
            return Err(EvalError::Interrupted);
        }
        Ok(())
    }

    pub fn work_left(&self) -> u64 {
        WORK_MAX.saturating_sub(self.work.get())
    }

    /// Once an iteration.
    pub fn tick(&self) -> Result<(), EvalError> {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(INTERRUPT_EVERY) && self.limits.interrupt.is_some_and(|interrupt| interrupt()) {
            return Err(EvalError::Interrupted);
        }
        Ok(())
    }
}

/// How a function is priced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Price {
    Free,
    Fixed(u64),
    /// Of the characters of the first argument, by this factor.
    Text(f64),
    /// Text to bytes and bytes to text; other conversions cost 1.
    Encode,
    Decode,
    /// Of the items of the second argument.
    Search,
    /// Of the smaller of two sizes.
    Equality,
    /// The same for text, 1 for numbers.
    Order,
    /// Of both sizes for text, 1 for the rest.
    Sum,
    Match,
    Contains,
    /// Of the whole first argument, values within values included.
    Traversal,
    /// Of the characters of the result, twice.
    Joined,
    /// A list as long as the result.
    NewList,
    Flatten,
    /// Every item of the list at this argument against every other.
    SelfCompare(usize),
    /// Every item of the first against every item of the second, by this factor.
    Cross(f64),
    ContainsIp,
    ContainsCidr,
    ParseIp,
    Selector,
    Validate,
}

/// The price of a function, by its full name.
pub fn price(function: &str) -> Price {
    match function {
        "_&&_" | "_||_" | "_?_:_" => Price::Free,
        "_==_" | "_!=_" => Price::Equality,
        "_<_" | "_<=_" | "_>_" | "_>=_" => Price::Order,
        "_+_" => Price::Sum,
        "@in" => Price::Search,
        "startsWith" | "endsWith" => Price::Text(TEXT_FACTOR),
        "bytes" => Price::Encode,
        "string" => Price::Decode,
        "matches" | "find" | "findAll" => Price::Match,
        "contains" => Price::Contains,
        "check" => Price::Fixed(CHECK_COST),
        "fieldSelector" | "labelSelector" => Price::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Price::Traversal,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => Price::Text(TEXT_FACTOR),
        "replace" | "split" | "ip.isCanonical" => Price::Text(2.0 * TEXT_FACTOR),
        "format" | "strings.quote" => Price::Text(TEXT_FACTOR),
        "join" => Price::Joined,
        "ip" => Price::ParseIp,
        "containsIP" => Price::ContainsIp,
        "containsCIDR" => Price::ContainsCidr,
        "validate" => Price::Validate,
        "slice" | "lists.range" | "reverse" => Price::NewList,
        "flatten" => Price::Flatten,
        "distinct" | "sort" => Price::SelfCompare(0),
        "@sortByAssociatedKeys" => Price::SelfCompare(1),
        "sets.contains" | "sets.intersects" => Price::Cross(1.0),
        "sets.equivalent" => Price::Cross(2.0),
        _ => Price::Fixed(1),
    }
}

/// `size * factor`, rounded up.
pub fn scaled(size: u64, factor: f64) -> u64 {
    let cost = (size as f64 * factor).ceil();
    if cost >= u64::MAX as f64 { u64::MAX } else { cost as u64 }
}

fn is_text(value: Option<&Value<'_>>) -> bool {
    matches!(value, Some(Value::String(_) | Value::Bytes(_)))
}

/// What a call costs, known before it is made. What depends on the result comes in
/// [`price_of_result`].
pub fn price_of_call(price: Price, args: &[Value<'_>]) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    match price {
        Price::Free | Price::Joined => 0,
        Price::Fixed(cost) => cost,
        Price::Encode if matches!(args.first(), Some(Value::String(_))) => scaled(size(0), TEXT_FACTOR),
        Price::Decode if matches!(args.first(), Some(Value::Bytes(_))) => scaled(size(0), TEXT_FACTOR),
        Price::Encode | Price::Decode => 1,
        Price::Text(factor) if is_text(args.first()) => scaled(size(0), factor),
        Price::Text(_) => 1,
        Price::Search => match args.get(1) {
            Some(Value::List(list)) => list.len() as u64,
            _ => 1,
        },
        Price::Equality if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        Price::Equality => scaled(size(0).min(size(1)), TEXT_FACTOR),
        Price::Order if is_text(args.first()) => scaled(size(0).min(size(1)), TEXT_FACTOR),
        Price::Order => 1,
        Price::Sum if is_text(args.first()) => scaled(size(0).saturating_add(size(1)), TEXT_FACTOR),
        Price::Sum => 1,
        Price::Match => {
            let text = scaled(size(0).saturating_add(1), TEXT_FACTOR);
            text.saturating_mul(scaled(size(1), REGEX_FACTOR))
        }
        Price::Contains => scaled(size(0), TEXT_FACTOR).saturating_mul(scaled(size(1), TEXT_FACTOR)),
        Price::Traversal => args.first().map_or(0, traversal),
        Price::NewList => 1 + LIST_COST + new_list_size(args),
        Price::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => (*depth).max(0) as u64,
                _ => 1,
            };
            (1 + LIST_COST).saturating_add(depth.saturating_mul(size(0)))
        }
        Price::SelfCompare(at) => {
            let first = match args.get(at) {
                Some(Value::List(list)) => list.get(0),
                _ => None,
            };
            let factor = if is_text(first.as_ref()) {
                2.0 + TEXT_FACTOR
            } else {
                2.0
            };
            (1 + LIST_COST).saturating_add(scaled(size(at).saturating_mul(size(at)), factor))
        }
        Price::Cross(factor) => scaled(size(0).saturating_mul(size(1)), factor).saturating_add(1),
        Price::ParseIp if is_text(args.first()) => scaled(size(0), TEXT_FACTOR),
        Price::ParseIp => 1,
        Price::ContainsIp | Price::ContainsCidr => {
            let network = size(0);
            let mut cost = scaled(network * 2, TEXT_FACTOR);
            if price == Price::ContainsCidr {
                cost += scaled(network, TEXT_FACTOR) + 1;
            }
            if is_text(args.get(1)) {
                cost += scaled(size(1), TEXT_FACTOR);
            }
            cost
        }
        Price::Selector => selector_cost(size(1)),
        Price::Validate => {
            let text = scaled(size(1).saturating_add(1), TEXT_FACTOR);
            let chars = match args.first() {
                Some(Value::Opaque(Opaque::Format(format))) => format.regex_chars,
                _ => FORMAT_REGEX_CHARS,
            };
            text.saturating_mul(scaled(chars, REGEX_FACTOR))
        }
    }
}

/// A selector is at most a requirement for every two characters, each with a struct and a list.
pub fn selector_cost(chars: u64) -> u64 {
    let requirements = scaled(chars, 0.5);
    LIST_COST
        .saturating_add(scaled(chars, TEXT_FACTOR))
        .saturating_add(requirements.saturating_mul(LIST_COST + STRUCT_COST))
}

fn new_list_size(args: &[Value<'_>]) -> u64 {
    match args {
        [Value::Int(count)] => (*count).max(0) as u64,
        [_, Value::Int(from), Value::Int(to)] => to.saturating_sub(*from).max(0) as u64,
        [list] => list.size(),
        _ => 0,
    }
}

/// What a call costs more, now that its result is known.
pub fn price_of_result(price: Price, result: &Value<'_>) -> u64 {
    match price {
        Price::Joined => scaled(result.size(), 2.0 * TEXT_FACTOR),
        _ => 0,
    }
}

/// The cost of looking at everything in a value. It is not looked at beyond what no
/// budget could pay.
fn traversal(value: &Value<'_>) -> u64 {
    fn look(value: &Value<'_>, left: &mut u64) -> u64 {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return u64::MAX;
        }
        let text = |len: usize| (len as f64 * TEXT_FACTOR) as u64;
        match value {
            Value::String(given) => text(given.as_str().len()),
            Value::Bytes(bytes) => text(bytes.len()),
            Value::List(list) => list.iter().fold(0, |sum, item| sum.saturating_add(look(&item, left))),
            Value::Map(map) => map.iter().fold(0, |sum: u64, (key, value)| {
                sum.saturating_add(look(&key, left)).saturating_add(look(&value, left))
            }),
            Value::Struct(made) => made
                .fields
                .values()
                .fold(0, |sum, value| sum.saturating_add(look(value, left))),
            _ => 1,
        }
    }
    look(value, &mut WORK_MAX.clone())
}
